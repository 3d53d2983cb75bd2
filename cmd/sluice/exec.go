package main

import (
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"sluice/lab"
)

func newExec(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "exec NODE -- COMMAND [ARGUMENT ...]",
		Short: "Run any command inside a node",
		Long: `Run any command inside a node, on this terminal. CONSUL_HTTP_ADDR and
CONSUL_HTTP_TOKEN_FILE are those of the node's agent, and consul is on PATH. The
exit code is the command's own.

The terminal stays that of the calling shell, so an interactive shell inside has
no job control and says so; script gives it a terminal of its own.`,
		Example: `  sluice exec web-1 -- consul members
  sluice exec mongo-1 -- bash
  sluice exec mongo-1 -- script -qc bash /dev/null
  sluice exec web-1 -- curl -sS --max-time 2 telnet://198.18.1.21:27017   # no way past the mesh`,
		Args: func(command *cobra.Command, args []string) error {
			if len(args) < 2 || command.ArgsLenAtDash() > 1 {
				return errors.New("exec wants one node before --, and a command after it")
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			dir, err := os.Getwd()
			if err != nil {
				return err
			}
			signals := make(chan os.Signal, 8)
			signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGWINCH)
			defer signal.Stop(signals)
			// The command's own reaction to a signal decides, so the program's
			// context must not end the call.
			ctx, cancel := a.unbounded(command.Context())
			defer cancel()
			code, err := client.Exec(ctx, lab.ExecRequest{
				Node: args[0], Command: args[1:], Dir: dir, Env: terminalEnvironment(),
			}, [3]*os.File{a.std.in, a.std.out, a.std.err}, signals)
			if err != nil {
				return err
			}
			if code != 0 {
				return &codeError{code: code}
			}
			return nil
		},
	}
}

// terminalEnvironment is what a program on a terminal needs to know of it.
func terminalEnvironment() []string {
	var env []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if name == "TERM" || name == "LANG" || name == "COLUMNS" || name == "LINES" || strings.HasPrefix(name, "LC_") {
			env = append(env, variable)
		}
	}
	return env
}
