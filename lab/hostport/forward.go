package hostport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	dialWait    = 5 * time.Second
	acceptPause = 100 * time.Millisecond
	// maxConnections bounds one door. More wait in the kernel: a dial into a node
	// holds an operating system thread, and running out of those would end the lab.
	maxConnections = 1024
)

// Forward carries each connection of l to one that dial makes, until ctx ends;
// then it closes l and every connection, waits for its goroutines and returns nil.
// dial gets 5 seconds. When one side has no more to say, the other is told and may
// go on talking; when one side breaks, so does the other.
func Forward(ctx context.Context, l net.Listener, dial func(context.Context) (net.Conn, error), logger *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	var connections sync.WaitGroup
	defer connections.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	places := make(chan struct{}, maxConnections)
	for {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		outer, err := l.Accept()
		if err != nil {
			<-places
		}
		switch {
		case err == nil:
			connections.Go(func() {
				defer func() { <-places }()
				carry(ctx, outer, dial, logger)
			})
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ECONNABORTED):
			logger.Warn("cannot accept a connection", "address", l.Addr().String(), "error", err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
		default:
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		}
	}
}

// carry serves one connection.
func carry(ctx context.Context, outer net.Conn, dial func(context.Context) (net.Conn, error), logger *slog.Logger) {
	defer outer.Close()
	dialCtx, cancel := context.WithTimeout(ctx, dialWait)
	inner, err := dial(dialCtx)
	cancel()
	if err != nil {
		logger.Debug("cannot forward a connection", "address", outer.LocalAddr().String(), "error", err)
		reset(outer)
		return
	}
	defer inner.Close()
	stop := context.AfterFunc(ctx, func() {
		_ = outer.Close()
		_ = inner.Close()
	})
	defer stop()
	var halves sync.WaitGroup
	halves.Go(func() { half(inner, outer) })
	halves.Go(func() { half(outer, inner) })
	halves.Wait()
}

// half copies from one side to the other until the first has no more to say.
func half(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if closer, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
		if closer.CloseWrite() == nil {
			return
		}
	}
	reset(to)
	reset(from)
}

// reset closes a connection in a way that the peer takes for a failure, not for
// the end of what there was to say.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
