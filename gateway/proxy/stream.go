package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"

	"sluice/gateway/balance"
	"sluice/gateway/tag"
	"sluice/gateway/tcp"
)

// RouteStream finds and dials the instance for a TCP connection: by the server
// name in its hello if there is one, else by the address it came to. It is a
// tcp.Router. Another instance is tried while none was reached; a denial is not
// asked elsewhere.
func (p *Proxy) RouteStream(ctx context.Context, call tcp.Call) (tcp.Target, error) {
	state := p.state.Load()
	matched, ok := state.table.LookupName(call.ServerName)
	if call.ServerName == "" {
		matched, ok = state.table.LookupPort(call.Server.String())
	}
	if !ok {
		return tcp.Target{}, tcp.ErrNoRoute
	}
	pl := planOf(matched)
	client := call.Client.Addr().Unmap()
	if err := pl.admits(client); err != nil {
		return tcp.Target{}, err
	}
	x := &exchange{ask: ask{host: call.ServerName, peer: client, client: client}, state: state, plan: pl}
	x.begin("", p.now())
	if pl.sticky == tag.StickyIP {
		x.hash = balance.Hash(client.String())
	}
	ctx, cancel := context.WithTimeoutCause(ctx, pl.timeout, errTimeout)
	defer cancel()
	return p.dialStream(ctx, x)
}

// admits returns why a TCP connection of a client is refused; nil if it is not.
func (pl *plan) admits(client netip.Addr) error {
	if pl.closed != "" {
		return fmt.Errorf("route %s: %w: %s", pl.name, errRefused, pl.closed)
	}
	for _, list := range pl.lists {
		if verdict := list.Check(client); !verdict.Allowed() {
			return fmt.Errorf("route %s: %w: %s", pl.name, errRefused, verdict)
		}
	}
	return nil
}

// dialStream dials one instance after the other.
func (p *Proxy) dialStream(ctx context.Context, x *exchange) (tcp.Target, error) {
	var last error
	for range x.plan.attempts {
		request := balance.Request{Now: p.now(), Hash: x.hash, Tried: x.tried}
		pick, err := x.plan.picker.Pick(request)
		if err != nil {
			return tcp.Target{}, errors.Join(last, err)
		}
		m := &x.plan.members[pick.Index]
		x.tried = append(x.tried, m.target.endpoint)
		began := p.now()
		conn, err := p.dialMember(ctx, m)
		outcome := outcomeOf(ctx, 0, false, err)
		if outcome == balance.Canceled && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			outcome = balance.LocalFailure // the listener's patience is not the client's
		}
		now := p.now()
		pick.Report(now, outcome, now.Sub(began))
		m.target.count(now, outcome, now.Sub(began))
		m.target.identify(err, now)
		if err == nil {
			return p.streamTarget(x, m, &stream{Conn: conn, end: sync.OnceFunc(pick.Release), blame: func(err error) error { return p.blame(m, err) }}), nil
		}
		pick.Release()
		p.countRefusal(m, err)
		last = wrap(m, err)
		if outcome == balance.Policy || outcome == balance.Canceled {
			break
		}
	}
	return tcp.Target{}, last
}

func (p *Proxy) dialMember(ctx context.Context, m *member) (net.Conn, error) {
	if m.mesh() {
		if err := p.denied(m.target.service); err != nil {
			return nil, err
		}
	}
	return p.dial(ctx, m.target, m.wire.manner)
}

func (p *Proxy) streamTarget(x *exchange, m *member, conn *stream) tcp.Target {
	name := m.target.name()
	return tcp.Target{
		Service: m.target.service, Instance: name, SendProxy: m.options.SendProxy,
		Dial: func(context.Context) (net.Conn, error) { return conn, nil },
		Current: func() bool {
			current := p.state.Load().serves(name)
			if !current { // then nobody asks for the connection
				_ = conn.Close()
			}
			return current
		},
	}
}

// serves reports whether some route names the instance.
func (s *snapshot) serves(name string) bool { return s.names[name] }

// cutStreams ends the TCP connections to instances that no route names any more:
// those that turned unhealthy, and those whose tag is gone.
func (p *Proxy) cutStreams(state *snapshot) {
	if p.cfg.Streams == nil {
		return
	}
	p.cfg.Streams.CutWhere("its instance is not healthy, or its route is gone", func(i tcp.Info) bool {
		return i.Instance != "" && !state.serves(i.Instance)
	})
}

// stream is a connection to an instance that counts as in flight until it ends.
type stream struct {
	net.Conn
	end func()
	// blame says who is at fault for an error: a deny ends connections, too.
	blame func(error) error
}

// Read reads what the instance sends.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if err != nil && err != io.EOF && !errors.Is(err, os.ErrDeadlineExceeded) {
		err = s.blame(err)
	}
	return n, err
}

// Write sends to the instance.
func (s *stream) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	if err != nil {
		err = s.blame(err)
	}
	return n, err
}

// Close ends it.
func (s *stream) Close() error {
	s.end()
	return s.Conn.Close()
}

// CloseWrite tells the instance that nothing more comes.
func (s *stream) CloseWrite() error {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// NetConn returns the connection below.
func (s *stream) NetConn() net.Conn { return s.Conn }

// Cut resets it.
func (s *stream) Cut(reason string) {
	s.end()
	if meshed, ok := s.Conn.(interface{ Cut(string) }); ok {
		meshed.Cut(reason)
		return
	}
	if linger, ok := s.Conn.(interface{ SetLinger(int) error }); ok {
		_ = linger.SetLinger(0)
	}
	_ = s.Conn.Close()
}
