// Package listen makes a running listener of a config.Listener: it binds, takes
// PROXY headers off, shakes hands, and gives each connection to what serves its
// protocol, which is chosen per connection.
//
// A connection belongs to the Server from its accept to its close, whoever serves
// it: it counts against the limit, is in the Snapshot, and is cut when a stop has
// taken too long. Run waits for everything that it has started.
package listen

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"sluice/gateway/config"
	"sluice/gateway/proxyproto"
	"sluice/gateway/tcp"
	"sluice/gateway/tlsfiles"
)

// The defaults of Config and of config.Listener.
const (
	DefaultMaxConn   = 20_000
	DefaultHandshake = 5 * time.Second
	DefaultHeader    = 5 * time.Second
	DefaultIdle      = 90 * time.Second
	DefaultMaxHeader = 64 << 10
)

// Config is what a Server is made of.
type Config struct {
	Listener config.Listener
	// Std serves, with net/http, HTTP/2 and whatever Own does not. Listeners for HTTP
	// need it. InfoOf tells it about the connection.
	Std http.Handler
	// Own serves HTTP/1.1, until the connection ends; nil leaves that to Std. It owns
	// conn: it closes it, or gives it to PassOn, and returns. The end of ctx asks it to
	// finish what is in hand and to close; it is cut once the drain is over.
	Own func(ctx context.Context, conn net.Conn, info Info)
	// TCP serves the listeners that are not for HTTP. Its ServerName, Fallback, Drain
	// and MaxConns are set here, HelloTimeout and Idle where the listener says.
	TCP tcp.Config
	// Header bounds a request's head, Idle the wait for a request, where the
	// listener does not say; 0 is the default.
	Header, Idle time.Duration
	// MaxHeader bounds a request's head, in bytes, for net/http; 0 is DefaultMaxHeader.
	MaxHeader int
	// Drain is how long what is in flight may go on after the end of Run's context.
	Drain time.Duration
	// Reload is how often the files of certificates are looked at; 0 is
	// tlsfiles.DefaultInterval.
	Reload time.Duration
	// Reloaded is called after each change of what files hold, and each new problem
	// with them; nil is not.
	Reloaded func(Files, tlsfiles.Change)
	// Panicked counts and logs a panic of one connection, which is over with it, and
	// says in an error what it was; nil logs alone.
	Panicked func(failure any) error
	Logger   *slog.Logger
}

// Files are what is read anew while a listener runs.
type Files string

// Those of a listener with TLS: its certificates, and the roots of its clients.
const (
	Certificates Files = "certificate"
	ClientCA     Files = "clientca"
)

// Info is what is known about a connection before its first request. It is only
// read.
type Info struct {
	// Client is who connected and Local where, both as the PROXY header says if there
	// was one that names them.
	Client, Local netip.AddrPort
	// PROXY is what that header said, nil if there was none, and Balancer who sent it.
	PROXY    *proxyproto.Header
	Balancer netip.AddrPort
	// TLS is the state after the handshake, nil without one.
	TLS *tls.ConnectionState
	// Life ends when a stop waits no longer for what is in hand on the connection.
	Life context.Context //nolint:containedctx // it is the connection's
}

// Server is one listener. It is safe for concurrent use, and for one Run.
type Server struct {
	cfg    Config
	bound  net.Listener
	gate   gate
	filter filter // of listeners that take PROXY headers
	// headers takes PROXY headers off while Run runs.
	headers atomic.Pointer[proxyproto.Listener]
	store   *tlsfiles.Store // nil without TLS
	tls     *tls.Config
	roots   *tlsfiles.Roots // nil where clients need no certificate
	std     *http.Server    // nil without HTTP
	handoff *tcp.Handoff

	// arriving are connections that nobody serves yet, served those of Own. held are
	// those of net/http, and requests its handlers.
	arriving, served, held, requests tally
	handshakes                       atomic.Uint64 // that failed
	cut                              atomic.Uint64
	draining                         atomic.Bool
}

// Open binds to the address and reads certificates. Nothing is accepted before
// Run; if there is to be none, Close gives the address back.
func Open(cfg Config) (*Server, error) {
	s := &Server{cfg: withDefaults(cfg)}
	l := s.cfg.Listener
	switch {
	case l.Proto.HTTP() && cfg.Std == nil:
		return nil, fmt.Errorf("listen on %s: proto=%s has no handler", l.Address, l.Proto)
	case s.streams() && cfg.TCP.Route == nil:
		return nil, fmt.Errorf("listen on %s: proto=%s has no router", l.Address, l.Proto)
	case l.Proto.TLS():
		if err := s.openTLS(); err != nil {
			return nil, fmt.Errorf("listen on %s: %w", l.Address, err)
		}
	}
	// A peer that vanished is noticed within a minute.
	listener := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}}
	bound, err := listener.Listen(context.Background(), l.Address.Network(), l.Address.String())
	if err != nil {
		return nil, err
	}
	s.bound = bound
	s.filter.Listener, s.filter.from, s.filter.others = bound, l.PROXYFrom, l.PROXYOthers
	s.gate.limit = s.cfg.Listener.MaxConn
	if l.Proto.HTTP() {
		s.handoff = tcp.NewHandoff(bound.Addr())
		s.std = s.server()
	}
	return s, nil
}

func withDefaults(cfg Config) Config {
	l := &cfg.Listener
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Panicked == nil {
		cfg.Panicked = func(failure any) error {
			cfg.Logger.Error("a connection has ended in a panic", "panic", failure, "stack", string(debug.Stack()))
			return fmt.Errorf("a fault of the gateway: %v", failure)
		}
	}
	if l.MaxConn <= 0 {
		l.MaxConn = DefaultMaxConn
	}
	if cfg.MaxHeader <= 0 {
		cfg.MaxHeader = DefaultMaxHeader
	}
	for _, d := range []struct {
		field    *time.Duration
		standard time.Duration
	}{{&l.Handshake, DefaultHandshake}, {&cfg.Header, DefaultHeader}, {&cfg.Idle, DefaultIdle}} {
		if *d.field <= 0 {
			*d.field = d.standard
		}
	}
	return cfg
}

// streams reports whether connections are carried without a look at what is in
// them.
func (s *Server) streams() bool {
	l := s.cfg.Listener
	return !l.Proto.HTTP() || l.Proto == config.HTTPSTCPSNI
}

// streamConfig is how they are carried.
func (s *Server) streamConfig() tcp.Config {
	cfg, l := s.cfg.TCP, s.cfg.Listener
	cfg.ServerName = l.Proto != config.TCP
	cfg.MaxConns = math.MaxInt // the gate has the word
	cfg.Drain = s.cfg.Drain
	if l.Handshake > 0 {
		cfg.HelloTimeout = l.Handshake
	}
	if l.Idle > 0 && l.Proto != config.HTTPSTCPSNI {
		cfg.Idle = l.Idle
	}
	if cfg.Logger == nil {
		cfg.Logger = s.cfg.Logger
	}
	if cfg.Panicked == nil {
		cfg.Panicked = s.cfg.Panicked
	}
	ended := cfg.Ended
	cfg.Ended = func(info tcp.Info, err error) {
		s.gate.leave()
		if ended != nil {
			ended(info, err)
		}
	}
	return cfg
}

// Addr returns the address that is listened on.
func (s *Server) Addr() net.Addr { return s.bound.Addr() }

// Close gives the address back where Run was not called.
func (s *Server) Close() error { return s.bound.Close() }

// PassOn gives a connection of Own to net/http. It has the bytes that were read of
// it in front, and a method NetConn() that returns what Own was given: by that,
// InfoOf knows it again. It has the form of proxy.OwnConfig.Fallback.
func (s *Server) PassOn(conn net.Conn) { s.handoff.Give(conn) }

// Snapshot is the state of a listener at one moment, for people and metrics.
// Counters never decrease.
type Snapshot struct {
	Address string       `json:"address"`
	Proto   config.Proto `json:"proto"`
	// Draining is true from the stop on.
	Draining bool `json:"draining"`
	// Open connections now, and how many there may be.
	Open    int `json:"open"`
	MaxConn int `json:"max_conn"`
	// Accepted connections, without those that follow.
	Accepted uint64 `json:"accepted"`
	// Refused connections, beyond MaxConn.
	Refused uint64 `json:"refused"`
	// Untrusted connections, which did not come from a load balancer although all
	// have to, and BadHeaders, whose PROXY header was malformed, late, or one too many.
	Untrusted  uint64 `json:"untrusted"`
	BadHeaders uint64 `json:"bad_headers"`
	// BadHandshakes are TLS handshakes that failed or took too long.
	BadHandshakes uint64 `json:"bad_handshakes"`
	// Cut connections, which a stop did not wait for any longer.
	Cut uint64 `json:"cut"`
	// Certificates are what is served, the default first, NotAfter is when the first of
	// them expires, and Problem why newer files, roots of clients among them, are not used; "" without.
	Certificates []tlsfiles.Info `json:"certificates,omitempty"`
	NotAfter     time.Time       `json:"not_after,omitzero"`
	Problem      string          `json:"problem,omitempty"`
}

// Snapshot returns the state now.
func (s *Server) Snapshot() Snapshot {
	l := s.cfg.Listener
	shot := Snapshot{
		Address: s.bound.Addr().String(), Proto: l.Proto, Draining: s.draining.Load(),
		Open: s.gate.open(), MaxConn: l.MaxConn, Accepted: s.gate.accepted.Load(), Refused: s.gate.refused.Load(),
		Untrusted: s.filter.refused.Load(), BadHandshakes: s.handshakes.Load(), Cut: s.cut.Load(),
	}
	if headers := s.headers.Load(); headers != nil {
		count := headers.Counters()
		shot.BadHeaders = count.Refused + count.Overflow
	}
	if s.store != nil {
		shot.Certificates, shot.NotAfter = s.store.Certificates(), s.store.Earliest()
		if err := s.store.Problem(); err != nil {
			shot.Problem = err.Error()
		}
	}
	if s.roots != nil {
		if err := s.roots.Problem(); err != nil {
			shot.Problem = strings.TrimPrefix(shot.Problem+"; "+err.Error(), "; ")
		}
	}
	return shot
}
