package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAWaitThatFailsSaysWhatItWaitedForWhyItGaveUpAndWhatItSawLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, errors.New("not within 3s"))
		defer cancel()
		looks := 0
		began := time.Now()
		err := waitFor(ctx, "the door is open", func(ctx context.Context) error {
			if looks++; ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("it is shut (look %d)", looks)
		})
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("it gave up after %s", took)
		}
		for _, want := range []string{"wait until the door is open", "not within 3s", "last seen: it is shut (look 1"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("want %q: %v", want, err)
			}
		}
	})
}

func TestAWaitEndsWithTheLookThatHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := waitFor(t.Context(), "a second has passed", func(context.Context) error {
			if time.Since(began) < time.Second {
				return errNotYet
			}
			return nil
		})
		if took := time.Since(began); err != nil || took < time.Second || took > time.Second+pollInterval {
			t.Errorf("it ended after %s: %v", took, err)
		}
	})
}

func TestAProcessThatIsBlamedIsNotBlamedAnew(t *testing.T) {
	first := &blame{process: "web", err: errors.New("the process ended")}
	if got := blameUnless(fmt.Errorf("wait: %w", first), nil, "gateway"); !errors.Is(got, first) || got.(interface{ Unwrap() error }).Unwrap() != error(first) {
		t.Errorf("got %#v", got)
	}
	var blamed *blame
	if got := blameUnless(errors.New("late"), nil, "gateway"); !errors.As(got, &blamed) || blamed.process != "gateway" {
		t.Errorf("got %#v", got)
	}
	if got := blameUnless(nil, nil, "gateway"); got != nil {
		t.Errorf("nothing failed, and still somebody is blamed: %v", got)
	}
}

func TestEachAilmentHasItsCure(t *testing.T) {
	for _, c := range []struct {
		running, stopped, ending bool
		want                     FaultAction
	}{
		{true, false, false, ""},
		{true, true, false, FaultCont},
		{false, false, false, FaultRestart},
		{true, false, true, FaultRestart},
		{true, true, true, FaultRestart},
		{false, false, true, FaultRestart},
	} {
		if got := healing(c.running, c.stopped, c.ending); got != c.want {
			t.Errorf("running %t, stopped %t: %q heals it, want %q", c.running, c.stopped, got, c.want)
		}
	}
}
