package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sluice/lab"
	"sluice/ledger"
	"sluice/ledger/client"
)

const ledgerLong = `Write numbered documents at a fixed rate, as web does, and keep on disk what was
answered to each; then read everything back and say whether an acknowledged write
is gone. What was answered is acknowledged, refused, unknown, or a duplicate key
after a repetition, which is no acknowledgement: only the check tells.`

func newLedger(a *app) *cobra.Command {
	command := group(&cobra.Command{
		Use:   "ledger",
		Short: "Prove that no acknowledged write is lost",
		Long:  ledgerLong,
		Example: `  sluice ledger run --duration 30s --out writes.ledger
  sluice ledger check writes.ledger`,
	})
	command.AddCommand(newLedgerRun(a), newLedgerCheck(a), newLedgerInside(a))
	return command
}

func newLedgerRun(a *app) *cobra.Command {
	var flags ledgerFlags
	command := &cobra.Command{
		Use:   "run",
		Short: "Write at a fixed rate, and keep what was answered",
		Long: `Write at a fixed rate from inside a node, and keep on disk what was answered to
each write. Writes fall due at their moments whether the set answers or not; one
that must wait for its turn counts from the moment in which it fell due. Ctrl-C
ends the run and keeps the file. A file that exists is never written to.`,
		Example: `  sluice ledger run --duration 30s
  sluice ledger run --rate 50 --via members --out members.ledger --duration 2m`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return a.ledgerRun(command.Context(), flags) },
	}
	flags.bind(command)
	return command
}

// ledgerFlags say how to write.
type ledgerFlags struct {
	header      ledger.Header
	out         string
	concurrency int
	looks       float64
}

func (f *ledgerFlags) bind(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&f.header.Node, "node", "web-1", "the node to write from")
	flags.StringVar(&f.header.Via, "via", viaPort, "port: web's port 5501; members: a driver with every member, over the mesh itself")
	flags.Float64Var(&f.header.Rate, "rate", 200, "writes each second")
	flags.DurationVar(&f.header.Duration, "duration", 0, "how long; 0 is until Ctrl-C")
	flags.StringVar(&f.header.WriteConcern, "write-concern", "majority", "majority, a number of members, or multiDC: a member in each of two datacenters")
	flags.StringVar(&f.header.ReadConcern, "read-concern", "local", "of the reads beside: local, majority or linearizable")
	flags.DurationVar(&f.header.Timeout, "op-timeout", client.DefaultTimeout, "bound of one write, its repetitions included")
	flags.StringVar(&f.out, "out", "", "the file (default NODE-TIME.ledger)")
	flags.IntVar(&f.concurrency, "concurrency", 100, "writes under way, at most")
	flags.Float64Var(&f.looks, "reads", 10, "reads each second that look for the newest acknowledged write; 0 for none")
}

const (
	viaPort    = "port"
	viaMembers = "members"
)

// check refuses what makes no run.
func (f *ledgerFlags) check() error {
	h := f.header
	switch {
	case h.Via != viaPort && h.Via != viaMembers:
		return fmt.Errorf("--via %s: want port or members", h.Via)
	case !(h.Rate > 0 && h.Rate <= 100_000):
		return fmt.Errorf("--rate %g: want more than 0 and at most 100000", h.Rate)
	case h.Duration < 0 || h.Timeout <= 0:
		return errors.New("--duration and --op-timeout cannot be negative")
	case f.concurrency < 1 || f.concurrency > 10_000:
		return fmt.Errorf("--concurrency %d: want 1 to 10000", f.concurrency)
	case !(f.looks >= 0 && f.looks <= 1000):
		return fmt.Errorf("--reads %g: want 0 to 1000", f.looks)
	}
	return client.CheckConcerns(h.WriteConcern, h.ReadConcern)
}

func (a *app) ledgerRun(ctx context.Context, flags ledgerFlags) error {
	if err := flags.check(); err != nil {
		return err
	}
	path := flags.out
	if path == "" {
		path = flags.header.Node + "-" + time.Now().Format("20060102-150405") + ".ledger"
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("make a ledger: %s exists", path)
	}
	h := flags.header
	code, err := a.inside(ctx, h.Node, a.std.out, "run", path,
		"--via", h.Via, "--rate", strconv.FormatFloat(h.Rate, 'g', -1, 64), "--duration", h.Duration.String(),
		"--write-concern", h.WriteConcern, "--read-concern", h.ReadConcern, "--op-timeout", h.Timeout.String(),
		"--concurrency", strconv.Itoa(flags.concurrency), "--reads", strconv.FormatFloat(flags.looks, 'g', -1, 64))
	if err != nil {
		return err
	}
	if code != 0 {
		return &codeError{code: code}
	}
	if a.json() {
		return a.print(map[string]string{"file": path})
	}
	a.say("wrote %s; now: %s", relative(path), a.std.proposal("sluice ledger check "+relative(path)))
	return nil
}

func newLedgerCheck(a *app) *cobra.Command {
	var node, via string
	command := &cobra.Command{
		Use:   "check FILE",
		Short: "Read everything back and judge the ledger",
		Long: `Read back what a majority of the set holds, ordered after a mark that was written
to a majority, and compare it with what was answered. Exit code 0: no acknowledged
write is lost, none is there twice, and nothing is there that was never sent. 1:
one of these is so. 3: the ledger is empty, unreadable or still being written, or
the set could not be read.`,
		Example: `  sluice ledger check writes.ledger
  sluice ledger check writes.ledger --node web-2 -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			report, err := a.ledgerCheck(command.Context(), args[0], node, via)
			if err != nil {
				return err
			}
			return a.judged(report)
		},
	}
	command.Flags().StringVar(&node, "node", "", "the node to read from (default: where it was written)")
	command.Flags().StringVar(&via, "via", viaPort, "port or members, as for run")
	return command
}

// checkTimeout bounds a check: a set may need its time after a fault is healed.
const checkTimeout = time.Minute

// ledgerCheck judges the ledger in a file. An error means that there was nothing
// to judge: no such file.
func (a *app) ledgerCheck(ctx context.Context, path, node, via string) (ledger.Report, error) {
	book, err := client.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return ledger.Report{}, err
	case err != nil:
		return ledger.Unjudged(err), nil
	}
	if node == "" {
		node = book.Header.Node
	}
	if path, err = filepath.Abs(path); err != nil {
		return ledger.Report{}, err
	}
	ctx, cancel := a.bounded(ctx, checkTimeout+10*time.Second)
	defer cancel()
	final, err := a.readBack(ctx, node, path, via)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return ledger.Report{}, err
	}
	if err != nil {
		final = ledger.Final{Error: err.Error()}
	}
	return ledger.Judge(book, final), nil
}

// readBack reads from inside the node.
func (a *app) readBack(ctx context.Context, node, path, via string) (ledger.Final, error) {
	var final ledger.Final
	out, in, err := os.Pipe()
	if err != nil {
		return final, err
	}
	defer out.Close()
	type answer struct {
		text []byte
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		text, err := io.ReadAll(out)
		answers <- answer{text, err}
	}()
	code, err := a.inside(ctx, node, in, "read", path, "--via", via)
	_ = in.Close()
	read := <-answers
	if err := errors.Join(err, read.err); err != nil {
		return final, err
	}
	if code != 0 {
		return final, fmt.Errorf("read back from %s: exit code %d", node, code)
	}
	if err := json.Unmarshal(read.text, &final); err != nil {
		return final, fmt.Errorf("read back from %s: %w", node, err)
	}
	return final, nil
}

// inside runs this program in a node, with its output going to out.
func (a *app) inside(ctx context.Context, node string, out *os.File, verb string, args ...string) (int, error) {
	labClient, err := a.client()
	if err != nil {
		return 0, err
	}
	place, err := findPlace(ctx, labClient, a.state, node)
	if err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	dir, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	// What runs inside ends by the signal itself and keeps its file.
	ctx, cancel := a.unbounded(ctx)
	defer cancel()
	command := append([]string{self, "ledger", "inside", verb}, args...)
	return labClient.Exec(ctx, lab.ExecRequest{
		Node: node, Command: append(command, place.flags()...), Dir: dir, Env: terminalEnvironment(),
	}, [3]*os.File{a.std.in, out, a.std.err}, signals)
}
