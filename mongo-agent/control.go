package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"

	"sluice/mesh"
)

// metaControl names the port of the control channel in the registration of
// mongo-repl.
const metaControl = "control"

// serveControl answers the other agents' heartbeats until ctx ends.
func (a *agent) serveControl(ctx context.Context) error {
	cfg := a.listenConfig(replService)
	cfg.DrainTimeout = -1
	listener, err := mesh.Listen(a.Listen(controlPort), cfg)
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	defer group.Wait()
	serving, stop := context.WithCancel(ctx)
	defer stop()
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() { a.circle.Serve(serving, conn) })
		}
	})
	return listener.Run(ctx)
}

// dialControl connects to another agent's control channel. What is our own
// ignorance, or takes too long, is no refusal of its.
func (a *agent) dialControl(ctx context.Context, node string) (net.Conn, error) {
	instance, err := a.locator.Instance(ctx, node)
	if err != nil {
		return nil, errors.Join(context.DeadlineExceeded, err)
	}
	if instance.Address, err = controlAddress(instance); err != nil {
		return nil, err
	}
	conn, err := a.dialer.DialInstance(ctx, instance)
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, mesh.ErrNotReady), errors.Is(err, mesh.ErrTimeout):
		return nil, errors.Join(context.DeadlineExceeded, err)
	default:
		return nil, err
	}
}

func controlAddress(instance mesh.Instance) (string, error) {
	host, _, err := net.SplitHostPort(instance.Address)
	if err != nil {
		return "", fmt.Errorf("find the control channel of %s: %w", instance.Node, err)
	}
	port := instance.Meta[metaControl]
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("find the control channel of %s: its registration names the port %q", instance.Node, port)
	}
	return net.JoinHostPort(host, port), nil
}
