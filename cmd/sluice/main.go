// Command sluice starts, shows and breaks a service mesh lab made of real parts.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"sluice/lab"
	"sluice/lab/disk"
	"sluice/lab/engine"
)

// version is set by the build.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr, called: os.Args[0]}))
}

// run is the whole program: it returns the exit code.
func run(ctx context.Context, args []string, std streams) int {
	if len(args) > 0 {
		switch args[0] {
		case lab.SuperviseCommand:
			return hidden(std, supervise(ctx, args[1:], std))
		case engine.ProbeCommand:
			return hidden(std, engine.ProbeMain())
		case disk.ExecCommand:
			return hidden(std, disk.ExecMain(args[1:]))
		}
	}
	a := &app{std: std}
	root := newRoot(a)
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	if err != nil && !a.began {
		err = &usageError{command: command.CommandPath(), cause: err}
	}
	return exitCode(ctx, std, err)
}

func supervise(ctx context.Context, args []string, std streams) error {
	if len(args) != 1 {
		return errors.New("supervise: want the state folder")
	}
	return lab.Supervise(ctx, args[0], std.err)
}

// hidden ends the commands that the program calls on itself.
func hidden(std streams, err error) int {
	if err != nil {
		fmt.Fprintln(std.err, err)
		return exitFailed
	}
	return exitOK
}
