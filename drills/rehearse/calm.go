package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"sluice/drills/nemesis"
	"sluice/drills/rig"
	"sluice/ledger"
)

// calm leaves a lab alone while the machine is busy, and looks whether its replica
// set holds still.
func calm(ctx context.Context, args []string, log io.Writer) (ledger.Verdict, error) {
	var where place
	cfg := nemesis.CalmConfig{Node: "web-1"}
	var profile string
	var hogs, disks int
	flags := flag.NewFlagSet("rehearse calm", flag.ContinueOnError)
	flags.SetOutput(log)
	flags.StringVar(&where.project, "project", ".", "the project's `folder`: bin/, datacenters/, intentions/")
	flags.StringVar(&where.folder, "out", "calm", "`folder` for the ledger, the lab and what the load writes")
	flags.IntVar(&where.offset, "port-offset", 2200, "added to the host's ports")
	flags.DurationVar(&cfg.For, "for", 30*time.Minute, "how long the load lasts")
	flags.StringVar(&profile, "profile", "fast", "the lab's `profile`")
	flags.IntVar(&cfg.Rate, "rate", 100, "writes each second")
	flags.IntVar(&hogs, "hogs", 4, "processes that do nothing but use a processor")
	flags.IntVar(&disks, "disks", 2, "processes that write and sync without a pause")
	if err := flags.Parse(args); err != nil {
		return "", err
	}
	config, err := where.config(profile)
	if err != nil {
		return "", err
	}
	lab, err := rig.Up(ctx, config)
	if err != nil {
		return "", err
	}
	cfg.Rig, cfg.File = lab, filepath.Join(where.folder, fmt.Sprintf("calm-%d.ledger", time.Now().Unix()))
	cfg.Load = func(ctx context.Context) (stop func(), err error) {
		return startLoad(ctx, config.Self, where.folder, hogs, disks)
	}
	cfg.Log = func(format string, args ...any) {
		fmt.Fprintf(log, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
	}
	report := nemesis.Calm(ctx, cfg)
	fmt.Fprintf(log, "%s of %s profile under %d hogs and %d writers to disk: %s; %d elections, %d fences, longest time without an acknowledged write %.0f ms, %d user errors of %d writes\n",
		cfg.For, profile, hogs, disks, report.Verdict, report.Elections, report.Fences, report.GapMS, report.UserErrors, report.Writes)
	for _, reason := range report.Reasons {
		fmt.Fprintln(log, " ", reason)
	}
	return report.Verdict, lab.Down()
}

// loadCommand is the word by which this program is told to be a load.
const loadCommand = "load"

// startLoad starts processes that keep the processors and the disk busy, until
// stop, which waits for them.
func startLoad(ctx context.Context, self, folder string, hogs, disks int) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var running []*exec.Cmd
	stop = func() {
		cancel()
		for _, command := range running {
			_ = command.Wait() // it was killed
		}
	}
	for i := range hogs + disks {
		what := "cpu"
		if i >= hogs {
			what = filepath.Join(folder, "load-"+strconv.Itoa(i))
		}
		command := exec.CommandContext(ctx, self, loadCommand, what)
		command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // no load outlives its measure
		if err := command.Start(); err != nil {
			stop()
			return nil, errors.Join(errors.New("start a load"), err)
		}
		running = append(running, command)
	}
	return stop, nil
}
