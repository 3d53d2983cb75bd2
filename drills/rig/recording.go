package rig

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"sluice/ledger"
)

// RecordConfig says how a ledger is written.
type RecordConfig struct {
	Node, Via, File string
	Rate            int
	// WriteConcern is "majority", which empty stands for, or a number of members.
	WriteConcern string
}

// Recording is a ledger that is being written.
type Recording struct {
	Config RecordConfig

	command *exec.Cmd
	said    bytes.Buffer
	ended   chan struct{}
	err     error // written before ended is closed
}

// Record starts a ledger that runs until Stop. The caller must call Stop.
func (r *Rig) Record(ctx context.Context, cfg RecordConfig) (*Recording, error) {
	recording := &Recording{Config: cfg, ended: make(chan struct{})}
	recording.command = r.command(ctx, "ledger", "run", "--node", cfg.Node, "--via", cfg.Via,
		"--rate", fmt.Sprint(cfg.Rate), "--write-concern", cmp.Or(cfg.WriteConcern, "majority"), "--out", cfg.File)
	recording.command.Stderr = &recording.said
	if err := recording.command.Start(); err != nil {
		return nil, fmt.Errorf("start a ledger: %w", err)
	}
	go func() {
		defer close(recording.ended)
		recording.err = recording.command.Wait()
	}()
	return recording, nil
}

// Stop ends the recording and waits for its end.
func (r *Recording) Stop() error {
	_ = r.command.Process.Signal(syscall.SIGINT)
	<-r.ended
	if r.err != nil {
		return fmt.Errorf("write a ledger %s: %w: %s", r.Config.Via, r.err, lastLines(r.said.String(), 3))
	}
	return nil
}

// Book reads what is in the ledger so far, while it is written.
func (r *Recording) Book() (ledger.Book, error) { return ReadBook(r.Config.File) }

// ReadBook reads a ledger that may still be written.
func ReadBook(path string) (ledger.Book, error) {
	file, err := os.Open(path)
	if err != nil {
		return ledger.Book{}, err
	}
	defer file.Close()
	return ledger.Read(file)
}

// LastAcknowledged is the moment of the newest acknowledgement; zero if there is
// none.
func LastAcknowledged(book ledger.Book) time.Time {
	var last time.Duration
	for _, w := range book.Writes {
		if w.Outcome == ledger.Acknowledged {
			last = max(last, w.At)
		}
	}
	if last == 0 {
		return time.Time{}
	}
	return book.Header.Started.Add(last)
}

// AwaitSteady waits until writes were acknowledged after the moment and go on for
// the time that steady says.
func (r *Recording) AwaitSteady(ctx context.Context, after time.Time, steady, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		var last time.Time
		book, err := r.Book()
		if err == nil {
			last = LastAcknowledged(book)
			if last.After(after.Add(steady)) && calm(book, last, steady) {
				return nil
			}
		}
		select {
		case <-r.ended:
			return errors.Join(errors.New("the ledger ended too early"), r.Stop())
		default:
		}
		if pause(ctx, pollEvery) != nil {
			return fmt.Errorf("writes are not acknowledged again within %s", within)
		}
	}
}

// calm reports whether no gap as long as half of steady touches the last part of
// the book.
func calm(book ledger.Book, last time.Time, steady time.Duration) bool {
	return book.LongestGap(last.Add(-steady), last).Length() < max(steady/2, 500*time.Millisecond)
}

// Check judges a ledger: it is the command's own report, whatever the verdict.
func (r *Rig) Check(ctx context.Context, path string) (ledger.Report, error) {
	var report ledger.Report
	out, err := r.Run(ctx, "ledger", "check", "-o", "json", path)
	var exit *ExitError
	if err != nil && !(errors.As(err, &exit) && (exit.Code == 1 || exit.Code == 3)) {
		return report, err
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return report, fmt.Errorf("read the report on %s: %w", path, err)
	}
	return report, nil
}
