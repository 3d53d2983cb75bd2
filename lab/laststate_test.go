package lab

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"sluice/lab/process"
)

// The output of the process is held open by a child that left its group, so that its
// signal is known only when that one is no longer waited for, a second later.
func TestHowAProcessEndedIsAskedOnlyWhenItIsKnown(t *testing.T) {
	p, err := process.Start(t.Context(), process.Here{}, process.Spec{
		Name: "short", Path: "/bin/sh", Args: []string{"-c", "setsid sleep 5 & kill -ABRT $$"}, LogFile: filepath.Join(t.TempDir(), "log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	err = waitFor(t.Context(), "its end", func(ctx context.Context) error {
		if p.State().Running {
			return errors.New("it runs")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if state := lastState(p); state.Signal != abortSignal {
		t.Errorf("%+v, want signal %s", state, abortSignal)
	}
}
