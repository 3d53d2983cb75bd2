// Command gateway is the way into the mesh: requests and TCP connections come in,
// and go over mTLS to the Connect services whose tags declare routes.
//
// See docs/gateway.md for its operation.
package main

import (
	"context"
	"fmt"
	"io"

	"sluice/gateway/command"
	"sluice/gateway/config"
	"sluice/internal/service"
)

const name = "gateway"

func main() { service.Main(run) }

// run is the whole process: a tool if the first argument names one, else the
// gateway.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	if len(args) > 0 { // as many programs have it
		switch args[0] {
		case "help":
			args = append(args[1:], "-h")
		case "version", "-v", "--v":
			args[0] = "-version"
		}
	}
	if len(args) > 0 && command.Meant(args[0]) {
		return command.Run(ctx, command.Streams{Out: stdout, Err: stderr}, args)
	}
	cfg, err := config.Parse(config.Input{Args: args, Getenv: getenv, Stdout: stdout})
	if err != nil {
		return err
	}
	g, err := assemble(cfg, getenv, stdout, stderr)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer g.close()
	return g.group.Run(ctx)
}
