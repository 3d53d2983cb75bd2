package nemesis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/drills/rig"
	"sluice/ledger"
)

// CalmConfig says how long a set is left alone, under which load.
type CalmConfig struct {
	Rig *rig.Rig
	// For is how long the load lasts.
	For time.Duration
	// Node writes to the ledger File, at Rate.
	Node, File string
	Rate       int
	// Load makes the machine busy until stop is called, which waits for its end.
	Load func(context.Context) (stop func(), err error)
	// Log is called with a line for people.
	Log func(format string, args ...any)
}

// CalmReport is what a set did while nothing was wrong with it.
type CalmReport struct {
	// Verdict is pass if nobody was elected and nobody fenced, and nothing lost.
	Verdict ledger.Verdict `json:"verdict"`
	Reasons []string       `json:"reasons,omitempty"`
	// Elections are the terms that began, Fences the times that a primary was
	// fenced; both are false alarms.
	Elections int64 `json:"elections"`
	Fences    int   `json:"fences"`
	// GapMS is the longest time without an acknowledged write.
	GapMS      float64 `json:"gap_ms"`
	Writes     int     `json:"writes"`
	UserErrors int     `json:"user_errors"`
}

// calmLook is how often it is looked whether something has changed.
const calmLook = 5 * time.Second

// Calm writes a ledger under load and counts the false alarms.
func Calm(ctx context.Context, cfg CalmConfig) CalmReport {
	report := CalmReport{Verdict: ledger.Inconclusive}
	err := cfg.run(ctx, &report)
	checking, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthWithin+checkWithin)
	defer cancel()
	if err == nil {
		_, err = cfg.Rig.AwaitHealthy(checking, healthWithin)
	}
	var checked ledger.Report
	if err == nil {
		checked, err = cfg.Rig.Check(checking, cfg.File)
	}
	report.judge(checked, err)
	return report
}

// judge sums up. Loss fails whatever else was found.
func (r *CalmReport) judge(checked ledger.Report, err error) {
	if err != nil {
		r.Reasons = append(r.Reasons, err.Error())
		return
	}
	r.Writes, r.UserErrors, r.Verdict = checked.Sent, checked.UserErrors, checked.Verdict
	r.Reasons = append(r.Reasons, checked.Reasons...)
	if len(checked.LongestGaps) > 0 {
		r.GapMS = float64(checked.LongestGaps[0].Length().Microseconds()) / 1000
	}
	if r.Elections > 0 || r.Fences > 0 {
		r.Verdict = ledger.Fail
		r.Reasons = append(r.Reasons, fmt.Sprintf("%d false elections, %d false fences", r.Elections, r.Fences))
	}
}

// run writes and looks until the time is over.
func (cfg CalmConfig) run(ctx context.Context, report *CalmReport) (err error) {
	if _, err := cfg.Rig.AwaitHealthy(ctx, healthWithin); err != nil {
		return err
	}
	before := watchCalm(cfg.Rig.Roles(ctx))
	recording, err := cfg.Rig.Record(ctx, rig.RecordConfig{Node: cfg.Node, Via: "port", Rate: cfg.Rate, File: cfg.File})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, recording.Stop()) }()
	if err := recording.AwaitSteady(ctx, time.Now(), steady, writesWithin); err != nil {
		return err
	}
	stop, err := cfg.Load(ctx)
	if err != nil {
		return err
	}
	defer stop()
	seen := before
	for end := time.Now().Add(cfg.For); time.Now().Before(end); {
		if err := cfg.Rig.Do(ctx, "wait "+min(calmLook, max(time.Until(end), time.Millisecond)).String()); err != nil {
			return err
		}
		now := watchCalm(cfg.Rig.Roles(ctx))
		now.merge(seen)
		if now.term != seen.term || len(now.fences) != len(seen.fences) {
			cfg.Log("term %d (was %d), %d fences (were %d)", now.term, seen.term, len(now.fences), len(seen.fences))
		}
		seen = now
	}
	report.Elections, report.Fences = seen.term-before.term, len(seen.fences)-len(before.fences)
	return nil
}

// sighting is what the members' agents say at one moment, and have said before.
type sighting struct {
	term   int64
	fences map[string]bool
}

// watchCalm takes the highest term, and every fence that an agent remembers.
func watchCalm(roles map[string]rig.Role) sighting {
	s := sighting{fences: map[string]bool{}}
	for node, role := range roles {
		s.term = max(s.term, role.Term)
		for _, t := range role.Transitions {
			if t.From == "primary" && t.To == "primary" && t.Cut != nil {
				s.fences[node+t.Detected.String()] = true
			}
		}
	}
	return s
}

// merge adds what was seen before: an agent that does not answer in time, or has
// forgotten, takes nothing back.
func (s *sighting) merge(before sighting) {
	s.term = max(s.term, before.term)
	for fence := range before.fences {
		s.fences[fence] = true
	}
}
