// Command rehearse measures failover (`rehearse bench`), breaks a lab at random
// (`rehearse soak`), and leaves one alone on a busy machine (`rehearse calm`). Each
// starts a lab of its own and ends it. See docs/failover.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"sluice/drills/rig"
	"sluice/ledger"
)

// Exit codes, as sluice has them.
const (
	exitPass         = 0
	exitFail         = 1
	exitError        = 2
	exitInconclusive = 3
	exitInterrupted  = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

const usage = `usage: rehearse bench [flags]   measure failover, row by row
       rehearse soak [flags]    break at random, and check after each fault
       rehearse calm [flags]    break nothing on a busy machine, and count false alarms
-h after any of them shows its flags.
`

// run is the whole program: it returns the exit code.
func run(ctx context.Context, args []string, out, log io.Writer) int {
	if len(args) == 2 && args[0] == rig.GetCommand {
		if err := rig.Get(args[1], out); err != nil {
			fmt.Fprintln(log, err)
			return exitError
		}
		return exitPass
	}
	if len(args) == 2 && args[0] == loadCommand {
		if err := load(ctx, args[1]); err != nil {
			fmt.Fprintln(log, err)
			return exitError
		}
		return exitPass
	}
	commands := map[string]func(context.Context, []string, io.Writer) (ledger.Verdict, error){"bench": bench, "soak": soak, "calm": calm}
	if len(args) == 0 || commands[args[0]] == nil {
		fmt.Fprint(log, usage)
		return exitError
	}
	verdict, err := commands[args[0]](ctx, args[1:], log)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(log, "rehearse: interrupted")
		return exitInterrupted
	case err != nil:
		fmt.Fprintln(log, "rehearse:", err)
		return exitError
	case verdict == ledger.Pass:
		return exitPass
	case verdict == ledger.Fail:
		return exitFail
	default:
		return exitInconclusive
	}
}

// place is where a rehearsal keeps its lab and its results.
type place struct {
	project, folder string
	offset          int
}

// config prepares a lab in the place.
func (p place) config(profile string) (rig.Config, error) {
	project, err := filepath.Abs(p.project)
	if err != nil {
		return rig.Config{}, err
	}
	folder, err := filepath.Abs(p.folder)
	if err != nil {
		return rig.Config{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return rig.Config{}, err
	}
	sluice := filepath.Join(project, "bin", "sluice")
	if _, err := os.Stat(sluice); err != nil {
		return rig.Config{}, errors.Join(err, errors.New("build it first: make build"))
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return rig.Config{}, err
	}
	return rig.Config{
		Sluice: sluice, Self: self, Project: project, State: filepath.Join(folder, "lab-"+profile),
		Offset: p.offset, Profile: profile,
	}, nil
}
