package nemesis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"sluice/drills/rig"
	"sluice/internal/labtest"
	"sluice/lab/engine"
	"sluice/ledger"
)

// TestMain answers what the rig runs of this program inside a node.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == rig.GetCommand {
		if err := rig.Get(os.Args[2], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	labtest.Main(m)
}

// SOAK is how long (default 3 minutes), SEED which schedule; both as for
// `make soak`.
func TestNoAcknowledgedWriteIsLostWhateverBreaks(t *testing.T) {
	duration, seed := 3*time.Minute, 1+rand.Uint64N(1_000_000)
	if text := os.Getenv("SOAK"); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	if text := os.Getenv("SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	l := labtest.New(t, labtest.Variant{Engine: string(engine.Netns)}, 2100)
	l.Up()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sluice := l.Command(t.Context()).Path
	lab, err := rig.Attach(rig.Config{Sluice: sluice, Self: self, State: l.State})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("SEED=%d replays this schedule", seed)
	report := Soak(t.Context(), Config{
		Rig: lab, Seed: seed, For: duration, Folder: filepath.Clean(t.TempDir()), Node: "web-1", Rate: 100, Log: t.Logf,
	})
	if report.Verdict != ledger.Pass {
		t.Errorf("seed %d: %s: %q", seed, report.Verdict, report.Reasons)
	}
}

func TestASoakIsNeverAPassWithoutProof(t *testing.T) {
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	pass, fail, open := Outcome{Verdict: ledger.Pass}, Outcome{Verdict: ledger.Fail}, Outcome{Verdict: ledger.Inconclusive}
	for name, c := range map[string]struct {
		ctx      context.Context
		outcomes []Outcome
		want     ledger.Verdict
	}{
		"no step":                {t.Context(), nil, ledger.Inconclusive},
		"all pass":               {t.Context(), []Outcome{pass, pass}, ledger.Pass},
		"one open":               {t.Context(), []Outcome{pass, open}, ledger.Inconclusive},
		"one lost, then open":    {t.Context(), []Outcome{pass, fail, open}, ledger.Fail},
		"open, then lost":        {t.Context(), []Outcome{open, fail}, ledger.Fail},
		"interrupted":            {interrupted, []Outcome{pass}, ledger.Inconclusive},
		"lost, then interrupted": {interrupted, []Outcome{fail}, ledger.Fail},
	} {
		report := Report{Outcomes: c.outcomes}
		report.judge(c.ctx)
		if report.Verdict != c.want {
			t.Errorf("%s: %s, want %s", name, report.Verdict, c.want)
		}
	}
}
