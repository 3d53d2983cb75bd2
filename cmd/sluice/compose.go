package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"sluice/lab"
	"sluice/lab/hostport"
)

// composeStage is how long one stage of the way up may take in containers.
const composeStage = 3 * time.Minute

func newCompose(a *app) *cobra.Command {
	command := group(&cobra.Command{
		Use:   "compose",
		Short: "The lab in containers: what docker-compose.yml runs",
		Long: `docker-compose.yml starts the lab's processes in containers. file writes it; the
other commands are those that it runs.`,
		Example: "  sluice compose file",
	})
	setup := func(use, example, short string, args cobra.PositionalArgs, do func(context.Context, *lab.ComposeSetup, []string) error) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Args: args, Hidden: true, Example: "  sluice compose " + example,
			RunE: func(command *cobra.Command, args []string) error {
				ctx, cancel := a.bounded(command.Context(), composeStage)
				defer cancel()
				prepared, err := lab.NewComposeSetup(slog.New(slog.NewTextHandler(a.std.err, nil)))
				if err != nil {
					return err
				}
				return do(ctx, prepared, args)
			},
		}
	}
	command.AddCommand(
		newComposeFile(a),
		setup("secrets", "secrets", "Make the secrets and give every node its own", cobra.NoArgs,
			func(_ context.Context, s *lab.ComposeSetup, _ []string) error { return s.Secrets() }),
		setup("access DATACENTER", "access dc1", "Write a datacenter's tokens, with the primary's also the intentions", cobra.ExactArgs(1),
			func(ctx context.Context, s *lab.ComposeSetup, args []string) error { return s.Access(ctx, args[0]) }),
		setup("federated DATACENTER", "federated dc2", "Wait until a datacenter is federated", cobra.ExactArgs(1),
			func(ctx context.Context, s *lab.ComposeSetup, args []string) error { return s.Federated(ctx, args[0]) }),
		setup("grow NODE", "grow mongo-1", "Take every datacenter's members into the replica set", cobra.ExactArgs(1),
			func(ctx context.Context, s *lab.ComposeSetup, args []string) error { return s.Grow(ctx, args[0]) }),
		newComposeDoor(a), newComposeHealth(a), newComposeMounts(), newComposeHold(),
		newComposePipe(a), newComposeFaults(a),
	)
	return command
}

func newComposeFile(a *app) *cobra.Command {
	var directory string
	command := &cobra.Command{
		Use: "file", Short: "Print docker-compose.yml as the datacenter files have it", Args: cobra.NoArgs,
		Example: "  sluice compose file",
		RunE: func(*cobra.Command, []string) error {
			content, err := lab.ComposeFile(lab.DefaultTopology(directory))
			if err != nil {
				return err
			}
			_, err = a.std.out.Write(content)
			return err
		},
	}
	command.Flags().StringVar(&directory, "dir", ".", "the project's folder: datacenters/ is below it")
	return command
}

// newComposeMounts makes the folders at which volumes are mounted: a new volume
// takes its owner from there.
func newComposeMounts() *cobra.Command {
	return &cobra.Command{
		Use: "mounts ROOT", Short: "Make the image's folders for volumes", Args: cobra.ExactArgs(1), Hidden: true,
		Example: "  sluice compose mounts /volumes",
		RunE: func(_ *cobra.Command, args []string) error {
			names, err := lab.ComposeNodes(lab.DefaultTopology("."))
			if err != nil {
				return err
			}
			for _, dir := range append(names, "../sluice") {
				if err := os.MkdirAll(filepath.Join(args[0], "nodes", dir), 0o700); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// newComposeHold keeps a container alive for the commands that are run in it.
func newComposeHold() *cobra.Command {
	return &cobra.Command{
		Use: "hold", Short: "Wait until told to end", Args: cobra.NoArgs, Hidden: true,
		Example: "  sluice compose hold",
		RunE: func(command *cobra.Command, _ []string) error {
			<-command.Context().Done()
			return nil
		},
	}
}

func newComposeHealth(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "health URL", Short: "Whether a process of this node says that it is well", Args: cobra.ExactArgs(1), Hidden: true,
		Example: "  sluice compose health http://127.0.0.1:8001/healthz",
		RunE: func(command *cobra.Command, args []string) error {
			ctx, cancel := a.bounded(command.Context(), 4*time.Second)
			defer cancel()
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], http.NoBody)
			if err != nil {
				return err
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				return err
			}
			defer response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
			said, _ := io.ReadAll(io.LimitReader(response.Body, 500))
			return &codeError{exitNo, fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(said)))}
		},
	}
}

func newComposeDoor(a *app) *cobra.Command {
	var from []string
	command := &cobra.Command{
		Use: "door --from ADDRESS ADDRESS:PORT ...", Short: "Carry the host's connections to the same ports of this node's loopback",
		Args: cobra.MinimumNArgs(1), Hidden: true,
		Example: "  sluice compose door --from 198.18.1.1 198.18.1.2:8500",
		RunE: func(command *cobra.Command, args []string) error {
			hosts := map[netip.Addr]bool{}
			for _, text := range from {
				address, err := netip.ParseAddr(text)
				if err != nil {
					return fmt.Errorf("--from: %w", err)
				}
				hosts[address] = true
			}
			return openDoors(command.Context(), args, hosts, slog.New(slog.NewTextHandler(a.std.err, nil)))
		},
	}
	command.Flags().StringSliceVar(&from, "from", nil, "addresses of the host, which alone may come in")
	return command
}

// openDoors carries what comes from hosts to the loopback until ctx ends.
func openDoors(ctx context.Context, addresses []string, hosts map[netip.Addr]bool, log *slog.Logger) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, address := range addresses {
		parsed, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		var config net.ListenConfig
		l, err := config.Listen(ctx, "tcp", address)
		if err != nil {
			return err
		}
		inside := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), parsed.Port()).String()
		dial := func(ctx context.Context) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "tcp", inside)
		}
		group.Go(func() error { return hostport.Forward(ctx, onlyFrom{l, hosts}, dial, log) })
	}
	return group.Wait()
}

// onlyFrom closes at once what comes from elsewhere.
type onlyFrom struct {
	net.Listener
	hosts map[netip.Addr]bool
}

func (l onlyFrom) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if peer, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil && l.hosts[peer.Addr().Unmap()] {
			return conn, nil
		}
		if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return nil, err
		}
	}
}
