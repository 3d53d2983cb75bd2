package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sluice/drills/failover"
	"sluice/drills/rig"
	"sluice/ledger"
)

// benchConfig says what is measured.
type benchConfig struct {
	place
	runs, stockRuns int
	rate, members   int
	rows            []failover.Row
	page            string
}

func parseBench(args []string, log io.Writer) (benchConfig, error) {
	var cfg benchConfig
	var rows string
	flags := flag.NewFlagSet("rehearse bench", flag.ContinueOnError)
	flags.SetOutput(log)
	flags.StringVar(&cfg.project, "project", ".", "the project's `folder`: bin/, datacenters/, intentions/")
	flags.StringVar(&cfg.folder, "out", "bench-failover", "`folder` for the ledgers, the labs and results.json; results that are there are kept")
	flags.IntVar(&cfg.offset, "port-offset", 2000, "added to the host's ports")
	flags.IntVar(&cfg.runs, "runs", 10, "runs of each row")
	flags.IntVar(&cfg.stockRuns, "stock-runs", 3, "runs of each row with the stock profile")
	flags.IntVar(&cfg.rate, "rate", 200, "writes each second through port 5501")
	flags.IntVar(&cfg.members, "members-rate", 0, "writes each second by a driver with every member, at the same time; 0 for none")
	flags.StringVar(&rows, "rows", "", "names of `rows`, with commas: "+strings.Join(failover.Names(), ","))
	flags.StringVar(&cfg.page, "page", "", "`file` whose marked part is replaced by the result")
	if err := flags.Parse(args); err != nil {
		return cfg, err
	}
	var names []string
	if rows != "" {
		names = strings.Split(rows, ",")
	}
	var err error
	cfg.rows, err = failover.Select(names)
	return cfg, err
}

// bench runs every row with both profiles and writes the result. Its verdict is
// about loss alone; whether the bars are met is in the table.
func bench(ctx context.Context, args []string, log io.Writer) (ledger.Verdict, error) {
	cfg, err := parseBench(args, log)
	if err != nil {
		return "", err
	}
	results, err := cfg.load()
	if err != nil {
		return "", err
	}
	for _, part := range []part{{"fast", cfg.runs, 40 * time.Second}, {"stock", cfg.stockRuns, 100 * time.Second}} {
		if part.runs == 0 || ctx.Err() != nil {
			continue
		}
		results, err = cfg.measure(ctx, part, results, log)
		if err != nil {
			return "", err
		}
	}
	text := report(results, cfg)
	fmt.Fprintln(log, text)
	if cfg.page != "" {
		if err := replace(cfg.page, text); err != nil {
			return "", err
		}
	}
	return verdict(results), nil
}

// part is what is run with one profile.
type part struct {
	profile string
	runs    int
	// patience bounds each wait for writes to be acknowledged again.
	patience time.Duration
}

// measure runs every row in a lab of one profile. A lab that does not recover is
// replaced by a new one.
func (cfg benchConfig) measure(ctx context.Context, p part, results []failover.Result, log io.Writer) ([]failover.Result, error) {
	rigConfig, err := cfg.config(p.profile)
	if err != nil {
		return results, err
	}
	var lab *rig.Rig
	down := func() error {
		if lab == nil {
			return nil
		}
		ending := lab
		lab = nil
		return ending.Down()
	}
	for _, row := range cfg.rows {
		for range p.runs {
			if ctx.Err() != nil {
				return results, down()
			}
			if lab == nil {
				fmt.Fprintf(log, "starting a lab, profile %s\n", p.profile)
				if lab, err = rig.Up(ctx, rigConfig); err != nil {
					return results, err
				}
			}
			once, unfit := cfg.run(lab, p).Once(ctx, row, cfg.number(results, row, p.profile)+1)
			results = append(results, once...)
			show(log, once)
			if err := cfg.save(results); err != nil {
				return results, errors.Join(err, down())
			}
			if unfit == nil {
				continue
			}
			fmt.Fprintf(log, "%s: the lab did not recover: %v\n", row.Name, unfit)
			if err := down(); err != nil {
				return results, err
			}
		}
	}
	return results, down()
}

// show prints a line for each result.
func show(log io.Writer, results []failover.Result) {
	for _, r := range results {
		fmt.Fprintf(log, "%-20s %-5s %-7s %2d  %7.0f ms  back %5.0f  steady %4.0f  errors %d  lost %d  %s %s\n",
			r.Row, r.Profile, r.Via, r.Run, r.GapMS, r.BackMS, r.SteadyMS, r.UserErrors, r.Lost, r.Verdict, r.Problem)
	}
}

func (cfg benchConfig) run(lab *rig.Rig, p part) failover.RunConfig {
	ways := []failover.Way{{Via: "port", Rate: cfg.rate}}
	if cfg.members > 0 {
		ways = append(ways, failover.Way{Via: "members", Rate: cfg.members})
	}
	return failover.RunConfig{
		Rig: lab, Folder: cfg.folder, Node: "web-1", Ways: ways, Patience: p.patience, Profile: p.profile,
	}
}

// number is the highest number of a run of the row so far.
func (cfg benchConfig) number(results []failover.Result, row failover.Row, profile string) int {
	highest := 0
	for _, r := range results {
		if r.Row == row.Name && r.Profile == profile {
			highest = max(highest, r.Run)
		}
	}
	return highest
}

func (cfg benchConfig) path() string { return filepath.Join(cfg.folder, "results.json") }

// load returns the results of earlier runs, which new ones are added to.
func (cfg benchConfig) load() ([]failover.Result, error) {
	content, err := os.ReadFile(cfg.path())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var results []failover.Result
	if err := json.Unmarshal(content, &results); err != nil {
		return nil, fmt.Errorf("read %s: %w", cfg.path(), err)
	}
	return results, nil
}

func (cfg benchConfig) save(results []failover.Result) error {
	content, err := json.MarshalIndent(results, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(cfg.path(), append(content, '\n'), 0o600)
}

// report is the result as Markdown.
func report(results []failover.Result, cfg benchConfig) string {
	return fmt.Sprintf("Milliseconds without an acknowledged write, median / longest; %d writes/s, `w:majority`, netns engine, %s.\n\n%s\nOne run of each, milliseconds after the fault:\n\n%s",
		cfg.rate, time.Now().Format(time.DateOnly), failover.Table(failover.Rows(), results), failover.Timelines(failover.Rows(), results))
}

// replace writes the text into the marked part of a page.
func replace(path, text string) error {
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	changed, err := failover.Insert(string(page), text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(changed), 0o644)
}

// verdict is about loss: one lost write fails, one ledger without a verdict leaves
// it open.
func verdict(results []failover.Result) ledger.Verdict {
	all := ledger.Pass
	for _, r := range results {
		switch {
		case r.Verdict == ledger.Fail:
			return ledger.Fail
		case r.Verdict != ledger.Pass:
			all = ledger.Inconclusive
		}
	}
	if len(results) == 0 {
		return ledger.Inconclusive
	}
	return all
}
