package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// ErrStopping is why the context of a request ends that is in flight at the end of a
// drain.
var ErrStopping = errors.New("the process is being stopped")

// Serve serves HTTP on listener until ctx ends, then lets requests in flight end
// for at most drain and cuts what is left. After four fifths of the drain their
// contexts end with ErrStopping, so that a handler that heeds its context can still
// say what it knows. It owns the listener and the server's BaseContext. It returns
// nil after a stop and the error after a failure.
func Serve(ctx context.Context, server *http.Server, listener net.Listener, drain time.Duration) error {
	requests, giveUp := context.WithCancelCause(context.WithoutCancel(ctx))
	defer giveUp(ErrStopping)
	server.BaseContext = func(net.Listener) context.Context { return requests }
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()

	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	late := time.AfterFunc(drain*4/5, func() { giveUp(ErrStopping) })
	defer late.Stop()
	if err := server.Shutdown(bound); err != nil {
		// Requests outlived the drain; they are cut, and that is not a failure.
		_ = server.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", listener.Addr(), err)
	}
	return nil
}
