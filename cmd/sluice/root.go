package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sluice/lab"
	"sluice/lab/control"
)

// Exit codes, the same for every command.
const (
	exitOK           = 0
	exitNo           = 1
	exitFailed       = 2
	exitInconclusive = 3
	exitMissing      = 4
	exitInterrupted  = 130
	exitLeftBehind   = 131
)

// streams are the program's standard files. Data goes to out, progress and
// errors to err.
type streams struct {
	in, out, err *os.File
	// called is how the program was called, for the commands that it proposes;
	// empty is "sluice".
	called string
}

// proposal rewrites the commands in a text so that they can be typed as they
// stand: "sluice" becomes what the program was called by, where it begins the
// text, a parenthesis or a quotation.
func (s streams) proposal(text string) string {
	if s.called == "" || s.called == "sluice" {
		return text
	}
	for _, before := range []string{"`", "("} {
		text = strings.ReplaceAll(text, before+"sluice ", before+s.called+" ")
	}
	if rest, ok := strings.CutPrefix(text, "sluice "); ok {
		text = s.called + " " + rest
	}
	return text
}

// codeError ends the program with a code; a nil cause says nothing more.
type codeError struct {
	code  int
	cause error
}

func (e *codeError) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.cause.Error()
}
func (e *codeError) Unwrap() error { return e.cause }

// usageError is a command line that was refused before anything was done.
type usageError struct {
	// command is the nearest command that exists, whose help says what it takes.
	command string
	cause   error
}

func (e *usageError) Error() string { return e.cause.Error() }
func (e *usageError) Unwrap() error { return e.cause }

// no is a verdict, not an error: exit code 1 and no message.
func no() error { return &codeError{code: exitNo} }

// app is what every command needs.
type app struct {
	std     streams
	state   string
	output  string
	timeout time.Duration
	// engine is empty, or "compose" for a lab in containers.
	engine string
	// began is set once the command line was accepted.
	began bool
}

const rootLong = `sluice runs a Consul Connect service mesh lab made of real parts: Consul, a
MongoDB replica set, a blog in front of it and a gateway in front of that. Every
edge is mTLS, and an intention decides who may talk to whom.

Exit codes: 0 yes or done, 1 no (denied, drift), 2 usage or tool error,
3 inconclusive, 4 something is missing on this machine, 130 interrupted with
everything undone, 131 interrupted with something left.`

const rootExample = `  sluice up
  sluice intentions deny web mongo-primary
  sluice status
  sluice down`

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:               "sluice",
		Short:             "A service mesh lab made of real parts",
		Long:              rootLong,
		Example:           rootExample,
		Version:           version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.output != "table" && a.output != "json" {
				return fmt.Errorf("-o %s: want table or json", a.output)
			}
			a.began = true
			return nil
		},
	}
	root.SetIn(a.std.in)
	root.SetOut(a.std.out)
	root.SetErr(a.std.err)
	flags := root.PersistentFlags()
	flags.StringVar(&a.state, "state", defaultState(), "the lab's state folder (environment: SLUICE_STATE)")
	flags.StringVarP(&a.output, "output", "o", "table", "table or json")
	flags.DurationVar(&a.timeout, "timeout", 0, "how long the command may take; 0 is the command's own default")
	root.AddCommand(
		newUp(a), newDown(a), a.inContainers(newStatus(a), a.composeStatus), newExec(a), newLogs(a),
		a.inContainers(newIntentions(a), a.composeIntentions), a.inContainers(newFault(a), a.composeFault), newCerts(a), newDoctor(a), newMongo(a),
		newLedger(a), a.inContainers(newWeb(a), a.composeForwarded), newCompose(a),
	)
	return root
}

// group makes a command that only holds others: alone it shows its help, and a
// name that it does not hold is an error.
func group(command *cobra.Command) *cobra.Command {
	command.Args = func(command *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		text := fmt.Sprintf("unknown command %q for %q", args[0], command.CommandPath())
		if near := command.SuggestionsFor(args[0]); len(near) > 0 {
			text += "; did you mean " + strings.Join(near, " or ") + "?"
		}
		return errors.New(text)
	}
	command.RunE = func(command *cobra.Command, _ []string) error { return command.Help() }
	command.SuggestionsMinimumDistance = 2
	return command
}

func defaultState() string {
	if state := os.Getenv("SLUICE_STATE"); state != "" {
		return state
	}
	return ".sluice"
}

// bounded gives a command its deadline.
func (a *app) bounded(ctx context.Context, otherwise time.Duration) (context.Context, context.CancelFunc) {
	limit := a.timeout
	if limit == 0 {
		limit = otherwise
	}
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %s; give it longer with --timeout", limit))
}

// unbounded is for a command that people end themselves: --timeout still holds,
// an interrupt does not cancel it but reaches what it runs.
func (a *app) unbounded(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx = context.WithoutCancel(ctx)
	if a.timeout > 0 {
		return context.WithTimeout(ctx, a.timeout)
	}
	return context.WithCancel(ctx)
}

func (a *app) client() (*lab.Client, error) { return lab.NewClient(a.state) }

// json reports whether the output is for programs.
func (a *app) json() bool { return a.output == "json" }

// print writes exactly one JSON document.
func (a *app) print(value any) error {
	encoder := json.NewEncoder(a.std.out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// say tells a person how it goes.
func (a *app) say(format string, args ...any) { fmt.Fprintf(a.std.err, format+"\n", args...) }

// color reports whether escape sequences are welcome on the file.
func color(file *os.File) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("CI") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(file.Fd()))
}

// exitCode says what went wrong, once, and how the program ends.
// agree asks a person and returns nil for a yes. Where nobody can be asked, the error
// names the flag that answers.
func (s streams) agree(question string) error {
	if s.in == nil || !term.IsTerminal(int(s.in.Fd())) {
		return &codeError{exitFailed, errors.New(question + " Nobody is there to ask; --yes says yes")}
	}
	fmt.Fprintf(s.err, "%s [y/N] ", question)
	line, err := bufio.NewReader(io.LimitReader(s.in, 64)).ReadString('\n')
	if err == nil && slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(line))) {
		return nil
	}
	return &codeError{1, errors.New("nothing was done")}
}

func exitCode(ctx context.Context, std streams, err error) int {
	if err == nil {
		return exitOK
	}
	var coded *codeError
	if errors.As(err, &coded) {
		if coded.cause != nil {
			explain(std, coded.cause)
		}
		return coded.code
	}
	var up *lab.UpError
	if errors.As(err, &up) {
		explainUp(std, up.Failure)
	}
	var left *lab.LeftError
	if errors.As(err, &left) {
		fmt.Fprintf(std.err, "sluice: not everything could be undone: %v\n  try: %s\n", left.Left, std.proposal("sluice down"))
	}
	switch {
	case ctx.Err() != nil && left != nil:
		return exitLeftBehind
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintln(std.err, "sluice: interrupted")
		return exitInterrupted
	case up != nil || left != nil:
		return exitFailed
	}
	if silent := lab.Unanswered(err); silent != nil {
		err = silent
	}
	explain(std, err)
	var answered *control.Error
	if errors.As(err, &answered) && answered.Code != 0 {
		return answered.Code
	}
	return exitFailed
}

// explain prints what failed and, where one is known, the fix.
func explain(std streams, err error) {
	fmt.Fprintln(std.err, "sluice:", std.proposal(strings.TrimSpace(err.Error())))
	var answered *control.Error
	var usage *usageError
	switch {
	case errors.As(err, &usage):
		fmt.Fprintln(std.err, "  try:", std.proposal(usage.command+" --help"))
	case errors.As(err, &answered) && answered.Hint != "":
		fmt.Fprintln(std.err, "  try:", std.proposal(answered.Hint))
	case errors.Is(err, control.ErrNotRunning):
		fmt.Fprintln(std.err, "  try:", std.proposal("sluice up    (or name another lab with --state)"))
	}
}

func explainUp(std streams, failure lab.StepFailure) {
	fmt.Fprintf(std.err, "sluice: the lab did not come up\n  step:  %s\n  cause: %s\n", failure.Step, failure.Cause)
	if failure.Process != "" {
		fmt.Fprintf(std.err, "  last lines of %s:\n", failure.Process)
		for _, line := range failure.Tail {
			fmt.Fprintln(std.err, "    |", line)
		}
	}
	if failure.Hint != "" {
		fmt.Fprintln(std.err, "  try:", std.proposal(failure.Hint))
	}
}

// relative shortens a path for people when it is below the working folder.
func relative(path string) string {
	if dir, err := os.Getwd(); err == nil {
		if short, err := filepath.Rel(dir, path); err == nil && !strings.HasPrefix(short, "..") {
			return short
		}
	}
	return path
}
