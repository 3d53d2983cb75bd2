package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/spf13/cobra"

	"sluice/lab"
)

// newComposePipe carries its standard files to an address of this node: how the host
// reaches what only the node can.
func newComposePipe(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "pipe ADDRESS:PORT", Short: "Carry standard input and output to an address of this node", Args: cobra.ExactArgs(1), Hidden: true,
		Example: "  sluice compose pipe 127.0.0.1:8001",
		RunE: func(command *cobra.Command, args []string) error {
			dialer := net.Dialer{Timeout: 2 * time.Second}
			conn, err := dialer.DialContext(command.Context(), "tcp", args[0])
			if err != nil {
				return err
			}
			return carry(command.Context(), conn, a.std.in, a.std.out)
		},
	}
}

// carry copies both ways until either side ends.
func carry(ctx context.Context, conn net.Conn, in io.Reader, out io.Writer) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	go func() {
		// Nothing can end a read of standard input but its end: when the other side ends
		// first, this one ends with the process.
		_, _ = io.Copy(conn, in)
		_ = conn.Close() // whoever asks has gone
	}()
	_, err := io.Copy(out, conn)
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// faultsLimit bounds the list of faults, in bytes.
const faultsLimit = 1 << 20

// newComposeFaults keeps the list of faults in the operator's volume.
func newComposeFaults(a *app) *cobra.Command {
	var write bool
	command := &cobra.Command{
		Use: "faults", Short: "Show the list of faults, or replace it by standard input", Args: cobra.NoArgs, Hidden: true,
		Example: "  sluice compose faults",
		RunE: func(*cobra.Command, []string) error {
			if !write {
				content, err := lab.ComposeFaults(nil)
				if err == nil {
					_, err = a.std.out.Write(content)
				}
				return err
			}
			content, err := io.ReadAll(io.LimitReader(a.std.in, faultsLimit+1))
			if err == nil && len(content) > faultsLimit {
				err = fmt.Errorf("more than %d bytes", faultsLimit)
			}
			if err != nil {
				return fmt.Errorf("read the list: %w", err)
			}
			_, err = lab.ComposeFaults(content)
			return err
		},
	}
	command.Flags().BoolVar(&write, "write", false, "replace it")
	return command
}
