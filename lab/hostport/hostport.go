// Package hostport opens the lab's doors on the host: listeners on 127.0.0.1 and
// what carries their connections into a node.
package hostport

import (
	"context"
	"errors"
	"log/slog"
	"net"
)

// Listen listens on addr. When the port is taken, the error names who holds it.
func Listen(addr string) (net.Listener, error) { return nil, errors.New("not implemented") }

// Forward carries each connection of l to one that dial makes, until ctx ends.
func Forward(ctx context.Context, l net.Listener, dial func(context.Context) (net.Conn, error), logger *slog.Logger) error {
	return errors.New("not implemented")
}
