package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sluice/lab/control"
)

// UpError is why a lab did not come up.
type UpError struct{ Failure StepFailure }

func (e *UpError) Error() string { return e.Failure.Step + ": " + e.Failure.Cause }

// LeftError means that a lab did not come up, or was interrupted, and that not all
// of it could be undone.
type LeftError struct {
	// Cause is why the lab had to be ended; Left says what is still there and why.
	Cause, Left error
}

func (e *LeftError) Error() string {
	return fmt.Sprintf("%v; and not everything could be undone: %v", e.Cause, e.Left)
}
func (e *LeftError) Unwrap() []error { return []error{e.Cause, e.Left} }

// downTimeout bounds the goodbyes; after it the supervisor is killed, and the
// kernel ends the rest.
const downTimeout = 30 * time.Second

// Down ends the lab of a state folder, and with purge deletes the folder. It
// reports whether a lab was running. Ending a lab twice is no error.
func Down(ctx context.Context, state string, purge bool) (bool, error) {
	layout, err := NewLayout(state)
	if err != nil {
		return false, err
	}
	running, err := endLab(ctx, layout)
	if err != nil {
		return running, err
	}
	if purge {
		return running, layout.purge()
	}
	return running, nil
}

func endLab(ctx context.Context, layout Layout) (bool, error) {
	client, err := control.Dial(ctx, layout.Socket())
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return false, killRemains(layout)
	case err != nil:
		return false, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	if _, err := client.Do(ctx, opDown, nil, nil, nil); err != nil && ctx.Err() == nil {
		return true, fmt.Errorf("tell the supervisor to stop: %w", err)
	}
	err = waitFor(ctx, "the supervisor has ended", func(context.Context) error {
		lock, err := lockState(layout)
		if err != nil {
			return err
		}
		return lock.Close()
	})
	if err != nil {
		return true, killRemains(layout)
	}
	return true, errors.Join(os.Remove(layout.OptionsFile()), ignoreMissing(os.Remove(layout.Socket())))
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// endFailed ends a lab that did not come up. The logs stay.
func endFailed(ctx context.Context, layout Layout) error {
	_, err := endLab(context.WithoutCancel(ctx), layout)
	return err
}

// clearRemains cleans up after a supervisor that did not end by itself.
func clearRemains(ctx context.Context, layout Layout, notice func(string)) error {
	if _, err := loadOptions(layout); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	notice("the last lab did not end properly; cleaning up after it")
	if err := ctx.Err(); err != nil {
		return err
	}
	return killRemains(layout)
}

// killRemains ends a supervisor that does not answer. Its process is killed only
// if it is still the one that was started: the ID may belong to somebody else by
// now. The supervisor's children die with it.
func killRemains(layout Layout) error {
	options, err := loadOptions(layout)
	if errors.Is(err, os.ErrNotExist) {
		return ignoreMissing(os.Remove(layout.Socket()))
	}
	if err != nil {
		// Nobody holds the folder, so there is nobody to end; what cannot be read is
		// of no use.
		lock, locked := lockState(layout)
		if locked != nil {
			return errors.Join(err, locked)
		}
		_ = lock.Close()
	}
	if options.PID > 0 && isSupervisor(options.PID, layout) {
		if err := syscall.Kill(options.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("end the old supervisor (pid %d): %w", options.PID, err)
		}
		if err := awaitUnlocked(layout); err != nil {
			return err
		}
	}
	return errors.Join(ignoreMissing(os.Remove(layout.OptionsFile())), ignoreMissing(os.Remove(layout.Socket())))
}

func awaitUnlocked(layout Layout) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return waitFor(ctx, "the old supervisor is gone", func(context.Context) error {
		lock, err := lockState(layout)
		if err != nil {
			return err
		}
		return lock.Close()
	})
}

// isSupervisor reports whether the process is the supervisor of this folder.
func isSupervisor(pid int, layout Layout) bool {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return false
	}
	args := strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
	return len(args) >= 3 && args[1] == SuperviseCommand && args[2] == layout.Root()
}

// tailFile returns the last lines of a file, joined; for messages.
func tailFile(path string, lines int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(content)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], " | ")
}
