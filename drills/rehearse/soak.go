package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"sluice/drills/nemesis"
	"sluice/drills/rig"
	"sluice/ledger"
)

// soak breaks a lab of its own at random.
func soak(ctx context.Context, args []string, log io.Writer) (ledger.Verdict, error) {
	var where place
	var duration time.Duration
	var seed uint64
	var profile string
	var rate int
	flags := flag.NewFlagSet("rehearse soak", flag.ContinueOnError)
	flags.SetOutput(log)
	flags.StringVar(&where.project, "project", ".", "the project's `folder`: bin/, datacenters/, intentions/")
	flags.StringVar(&where.folder, "out", "soak", "`folder` for the ledgers, the lab and the report")
	flags.IntVar(&where.offset, "port-offset", 2000, "added to the host's ports")
	flags.DurationVar(&duration, "for", 30*time.Minute, "how long steps are begun")
	flags.Uint64Var(&seed, "seed", 0, "replays the schedule of that seed; 0 draws one")
	flags.StringVar(&profile, "profile", "fast", "the lab's `profile`")
	flags.IntVar(&rate, "rate", 100, "writes each second")
	if err := flags.Parse(args); err != nil {
		return "", err
	}
	if seed == 0 {
		seed = 1 + rand.Uint64N(1_000_000)
	}
	fmt.Fprintf(log, "seed %d: -seed %d replays this schedule\n", seed, seed)
	cfg, err := where.config(profile)
	if err != nil {
		return "", err
	}
	lab, err := rig.Up(ctx, cfg)
	if err != nil {
		return "", err
	}
	result := nemesis.Soak(ctx, nemesis.Config{
		Rig: lab, Seed: seed, For: duration, Folder: where.folder, Node: "web-1", Rate: rate,
		Log: func(format string, args ...any) {
			fmt.Fprintf(log, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
		},
	})
	err = errors.Join(lab.Down(), saveReport(filepath.Join(where.folder, fmt.Sprintf("soak-%d.json", seed)), result))
	fmt.Fprintf(log, "seed %d, %d steps: %s\n", seed, len(result.Outcomes), result.Verdict)
	for _, reason := range result.Reasons {
		fmt.Fprintln(log, " ", reason)
	}
	return result.Verdict, err
}

func saveReport(path string, report nemesis.Report) error {
	content, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(content, '\n'), 0o600)
}
