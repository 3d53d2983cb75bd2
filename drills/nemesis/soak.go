package nemesis

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sluice/drills/rig"
	"sluice/ledger"
)

// Config says how long to break what.
type Config struct {
	Rig *rig.Rig
	// Seed decides what is done.
	Seed uint64
	// For is how long new steps are begun.
	For time.Duration
	// Folder keeps the ledgers.
	Folder string
	// Node writes, at Rate.
	Node string
	Rate int
	// Log is called with a line for people.
	Log func(format string, args ...any)
}

// Outcome is what became of one step.
type Outcome struct {
	Step    string         `json:"step"`
	Began   time.Time      `json:"began"`
	Verdict ledger.Verdict `json:"verdict"`
	Reasons []string       `json:"reasons,omitempty"`
	// GapMS is the longest time without an acknowledged write.
	GapMS      float64 `json:"gap_ms"`
	Writes     int     `json:"writes"`
	UserErrors int     `json:"user_errors"`
	Ledger     string  `json:"ledger"`
}

// Report is what a soak found.
type Report struct {
	Seed     uint64         `json:"seed"`
	Verdict  ledger.Verdict `json:"verdict"`
	Outcomes []Outcome      `json:"steps"`
	Reasons  []string       `json:"reasons,omitempty"`
}

// The bounds of a step's parts.
const (
	steady       = 1500 * time.Millisecond
	writesWithin = time.Minute
	healthWithin = 90 * time.Second
	checkWithin  = 90 * time.Second
	// StepBound is how long one step may take in all.
	StepBound = 6 * time.Minute
)

// Soak breaks and heals until the time is over. A step that loses an acknowledged
// write ends it; so does a set that does not become healthy again.
func Soak(ctx context.Context, cfg Config) Report {
	report := Report{Seed: cfg.Seed, Outcomes: []Outcome{}}
	deadline := time.Now().Add(cfg.For)
	steps := Plan(cfg.Seed, int(cfg.For/(4*time.Second))+1)
	for i, step := range steps {
		if time.Now().After(deadline) || ctx.Err() != nil {
			break
		}
		cfg.Log("step %d: %s", i+1, step)
		outcome := cfg.step(ctx, i, step)
		report.Outcomes = append(report.Outcomes, outcome)
		cfg.Log("  %s: %d writes, %d user errors, %.0f ms without an acknowledged write %s",
			outcome.Verdict, outcome.Writes, outcome.UserErrors, outcome.GapMS, strings.Join(outcome.Reasons, "; "))
		if outcome.Verdict != ledger.Pass {
			break
		}
	}
	report.judge(ctx)
	return report
}

// judge sums up: a single failure fails, and without a step nothing is shown.
func (r *Report) judge(ctx context.Context) {
	r.Verdict = ledger.Pass
	if len(r.Outcomes) == 0 {
		r.Verdict, r.Reasons = ledger.Inconclusive, []string{"no step was done"}
	}
	for _, o := range r.Outcomes {
		if o.Verdict == ledger.Pass {
			continue
		}
		r.Reasons = append(r.Reasons, o.Step+": "+strings.Join(o.Reasons, "; "))
		if r.Verdict != ledger.Fail {
			r.Verdict = o.Verdict
		}
	}
	if ctx.Err() != nil && r.Verdict == ledger.Pass {
		r.Verdict, r.Reasons = ledger.Inconclusive, append(r.Reasons, "interrupted")
	}
}

// step makes the faults of one step, heals them and checks the ledger.
func (cfg Config) step(ctx context.Context, number int, step Step) Outcome {
	outcome := Outcome{Step: step.String(), Began: time.Now(), Verdict: ledger.Inconclusive}
	ctx, cancel := context.WithTimeoutCause(ctx, StepBound, fmt.Errorf("the step took longer than %s", StepBound))
	defer cancel()
	file := filepath.Join(cfg.Folder, fmt.Sprintf("soak-%d-%03d.ledger", cfg.Seed, number+1))
	outcome.Ledger = file
	if err := cfg.disturb(ctx, step, file); err != nil {
		outcome.Reasons = append(outcome.Reasons, err.Error())
	}
	// A step that was interrupted is healed as any other.
	healing, stop := context.WithTimeout(context.WithoutCancel(ctx), healthWithin+checkWithin)
	defer stop()
	if err := errors.Join(cfg.Rig.Do(healing, "fault heal --all"), cfg.healthy(healing)); err != nil {
		outcome.Reasons = append(outcome.Reasons, err.Error())
	}
	report, err := cfg.Rig.Check(healing, file)
	if err != nil {
		outcome.Reasons = append(outcome.Reasons, err.Error())
		return outcome
	}
	outcome.Writes, outcome.UserErrors = report.Sent, report.UserErrors
	if len(report.LongestGaps) > 0 {
		outcome.GapMS = float64(report.LongestGaps[0].Length().Microseconds()) / 1000
	}
	outcome.Reasons = slices.Concat(report.Reasons, outcome.Reasons)
	if report.Verdict == ledger.Fail || len(outcome.Reasons) == 0 {
		outcome.Verdict = report.Verdict
	}
	return outcome
}

func (cfg Config) healthy(ctx context.Context) error {
	_, err := cfg.Rig.AwaitHealthy(ctx, healthWithin)
	return err
}

// disturb writes a ledger while the faults are made, hold and are healed, until
// writes are acknowledged again.
func (cfg Config) disturb(ctx context.Context, step Step, file string) (err error) {
	h, err := cfg.Rig.AwaitHealthy(ctx, healthWithin)
	if err != nil {
		return err
	}
	recording, err := cfg.Rig.Record(ctx, rig.RecordConfig{Node: cfg.Node, Via: "port", Rate: cfg.Rate, File: file})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, recording.Stop()) }()
	if err := recording.AwaitSteady(ctx, time.Now(), steady, writesWithin); err != nil {
		return err
	}
	for _, f := range step.Faults {
		if err := cfg.Rig.Do(ctx, "wait "+f.After.String()); err != nil {
			return err
		}
		err := cfg.Rig.Do(ctx, named(f.Do, h))
		if err != nil && len(step.Faults) == 1 {
			return err
		}
		if err != nil {
			// The other fault of the pair has taken its subject away.
			cfg.Log("  not made: %v", err)
		}
	}
	if err := cfg.Rig.Do(ctx, "wait "+step.Hold.String()); err != nil {
		return err
	}
	healed := time.Now()
	if err := cfg.Rig.Do(ctx, "fault heal --all"); err != nil {
		return err
	}
	return recording.AwaitSteady(ctx, healed, steady, writesWithin)
}

// named puts the nodes into a step.
func named(do string, h rig.Health) string {
	return strings.NewReplacer("PRIMARY", h.Primary, "NEXT", h.Others[0], "THIRD", h.Others[1]).Replace(do)
}
