package listen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"sluice/gateway/proxyproto"
	"sluice/gateway/tcp"
)

// maxArrival is how long a stop waits at most for connections that nobody serves
// yet.
const maxArrival = 500 * time.Millisecond

// Run serves until ctx ends. Then it stops accepting, lets what is in flight end,
// closes connections on which nothing is, and cuts what is left after
// Config.Drain. It returns when everything that it has started has ended: nil
// after a stop, the error if the listener failed.
func (s *Server) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// What was accepted outlives ctx by the drain.
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	cut := func() { end(fmt.Errorf("%w: %w", tcp.ErrCut, tcp.ErrDrained)) }
	defer cut()
	arrive, giveUp := context.WithCancel(life)
	defer giveUp()

	var parts sync.WaitGroup
	failures := make(chan error, 4) // one for each part
	start := func(part func() error) {
		parts.Go(func() {
			if err := part(); err != nil {
				failures <- err
				stop()
			}
		})
	}
	if s.store != nil {
		start(func() error { return s.store.Run(life) })
	}
	if s.roots != nil {
		start(func() error { return s.roots.Run(life) })
	}
	if s.std != nil {
		s.std.BaseContext = func(net.Listener) context.Context { return life }
		start(s.serveStd)
	}
	listener := s.listener()
	start(func() error { return s.accept(phases{serve: ctx, arrive: arrive, life: life}, listener) })
	<-ctx.Done()
	s.draining.Store(true)
	s.drain(life, giveUp)
	cut() // before the connections, so that it is known why they end
	s.cutAll()
	parts.Wait()
	s.finish(context.WithoutCancel(life))
	select {
	case err := <-failures:
		return fmt.Errorf("listen on %s: %w", s.bound.Addr(), err)
	default:
		return nil
	}
}

// serveStd serves what is handed to net/http until the server is shut down.
func (s *Server) serveStd() error {
	if err := s.std.Serve(s.handoff); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// listener returns what connections are accepted from.
func (s *Server) listener() net.Listener {
	l := s.cfg.Listener
	inner := s.bound
	if l.PROXY {
		headers := proxyproto.Listen(&s.filter, proxyproto.Config{Trusted: l.PROXYFrom.Contains, Panicked: s.cfg.Panicked, Logger: s.cfg.Logger})
		s.headers.Store(headers)
		inner = headers
	}
	return &gated{Listener: inner, gate: &s.gate}
}

// accept serves the connections of listener until a stop. Of one for bytes it
// returns when they have ended, too.
func (s *Server) accept(p phases, listener net.Listener) error {
	if !s.streams() {
		return s.admitAll(p, listener)
	}
	cfg := s.streamConfig()
	if s.std != nil {
		// What has no route by its name stays in the gate: it is HTTPS from here on.
		cfg.Fallback = func(inner net.Conn) { s.admit(p, inner) }
	}
	return tcp.New(cfg).Serve(p.serve, listener)
}

// drain waits for what is in flight, until the time is over.
func (s *Server) drain(life context.Context, giveUp context.CancelFunc) {
	bound, cancel := context.WithTimeout(life, s.cfg.Drain)
	defer cancel()
	if s.std == nil {
		return // package tcp has a drain of its own
	}
	// A handshake that is about to end brings a request with it, so it gets a part of
	// the time; but who just sits there must not keep the others from being told.
	short, done := context.WithTimeout(bound, min(s.cfg.Drain/4, maxArrival))
	s.arriving.wait(short)
	done()
	giveUp()
	_ = s.std.Shutdown(bound)
	s.gate.left.wait(bound)
}

func (s *Server) cutAll() {
	if left := s.gate.cutAll(); left > 0 {
		s.cut.Add(uint64(left))
		s.cfg.Logger.Info("connections cut: the drain is over", "listen", s.bound.Addr().String(), "connections", left)
	}
}

// finish waits for the goroutines that serve connections, which are cut by now but
// for those that were accepted in the very moment of the stop.
func (s *Server) finish(ctx context.Context) {
	if s.std == nil {
		return
	}
	s.cutAll()
	_ = s.std.Close()
	for _, t := range []*tally{&s.arriving, &s.served, &s.held, &s.requests} {
		t.wait(ctx)
	}
}

// server is net/http on connections that are handed to it.
func (s *Server) server() *http.Server {
	l := s.cfg.Listener
	idle := s.cfg.Idle
	if l.Idle > 0 {
		idle = l.Idle
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(l.Proto.TLS())
	protocols.SetUnencryptedHTTP2(l.AllowsH2C())
	return &http.Server{
		Handler: http.HandlerFunc(s.request), Protocols: protocols,
		ReadHeaderTimeout: s.cfg.Header, ReadTimeout: l.Read, WriteTimeout: l.Write, IdleTimeout: idle,
		MaxHeaderBytes: s.cfg.MaxHeader, ConnContext: withInfo, ConnState: s.holds,
		ErrorLog: slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
	}
}

// request serves one request with Std.
func (s *Server) request(w http.ResponseWriter, r *http.Request) {
	s.requests.add(1)
	defer s.requests.add(-1)
	if r.TLS == nil {
		r.TLS = InfoOf(r.Context()).TLS // where Own has passed the connection on
	}
	s.cfg.Std.ServeHTTP(w, r)
}

// holds counts the goroutines of net/http that have a connection.
func (s *Server) holds(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.held.add(1)
	case http.StateClosed, http.StateHijacked:
		s.held.add(-1)
	}
}
