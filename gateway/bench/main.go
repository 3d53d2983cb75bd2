// Command bench measures the gateway beside nginx, haproxy, Envoy, Traefik and
// Fabio, all on this machine and in one run: CPU time for a request, requests a
// second, latency, memory, and what a change of routes, health and intentions
// costs. `make bench-gateway` runs it; docs/benchmarks.md keeps the table.
//
// It starts a real Consul agent, a Connect-native upstream and every proxy, each on
// a loopback address of its own, and ends all of them, on SIGINT and SIGTERM too.
// Rounds are interleaved (A B C A B C), so that a slow minute of the machine meets
// every proxy, and a round during which others used the machine is repeated.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes, as sluice has them.
const (
	exitOK          = 0
	exitError       = 2
	exitMissing     = 4
	exitInterrupted = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program: it returns the exit code.
func run(ctx context.Context, args []string, out, log io.Writer) int {
	commands := map[string]func(context.Context, []string, io.Writer, io.Writer) error{
		upstreamCommand: upstream, loadCommand: load,
	}
	command, name := measure, ""
	if len(args) > 0 {
		name = args[0]
	}
	if other := commands[name]; other != nil {
		command, args = other, args[1:]
	}
	err := command(ctx, args, out, log)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case ctx.Err() != nil && name != upstreamCommand:
		fmt.Fprintln(log, "bench: interrupted; everything that it started has ended")
		return exitInterrupted
	case errors.Is(err, errMissing):
		fmt.Fprintln(log, "bench:", err)
		return exitMissing
	case err != nil:
		fmt.Fprintln(log, "bench:", err)
		return exitError
	}
	return exitOK
}
