// Package fakemongod is a mongod that does what a test tells it to: it speaks
// the wire protocol, keeps a role, a term and a topologyVersion as mongod does,
// and can be frozen, killed, restarted and made to lie within one line.
//
// It is for tests of whoever talks to mongod. What it does by itself is held to
// a real mongod by a contract suite; what it is made to do is up to the test. A
// Server owns its goroutines, Close waits for them; all its methods are safe for
// concurrent use. It looks at no clock but that of package time, so that it runs
// in a bubble of testing/synctest when it listens on a Pipe.
package fakemongod

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Config says what to start. The zero value is a mongod of the set "consuldemo"
// on a free port of 127.0.0.1, not initiated, that nobody can log in to.
type Config struct {
	// Pipe is the network to listen on; nil is TCP.
	Pipe *Pipe
	// Address is where to listen on TCP; empty is a free port of 127.0.0.1.
	Address string
	// Set is the name of the replica set; empty is "consuldemo".
	Set string
	// Key is the content of the key file without white space: the password of
	// the internal user __system. Empty lets nobody log in.
	Key string
	// LocalhostException lets everybody run everything without a password.
	LocalhostException bool
	// Hosts are the names of the set's members, if it is initiated. Me is the own
	// name among them; empty is the address.
	Hosts []string
	Me    string
}

// Server is one fake mongod.
type Server struct {
	cfg   Config
	login *login

	mu       sync.Mutex
	address  string
	member   Member
	version  Version
	changed  chan struct{} // closed when anything below mu becomes another
	running  *process      // nil: killed
	thawed   chan struct{} // closed: not frozen
	quiesced bool
	handlers map[string]Handler
	stats    Stats
	data     map[string][]bson.Raw
	vetoed   time.Time // no election before
	election *time.Timer
	work     sync.WaitGroup
}

// process is what a kill ends.
type process struct {
	ctx      context.Context
	end      context.CancelFunc
	listener net.Listener
	work     *sync.WaitGroup
}

// Stats counts what has happened since the fake was made.
type Stats struct {
	// Connections are the open ones, Accepted all that ever were.
	Connections, Accepted int
	// Parked is how many hellos wait for a change, Waiting how many writes wait
	// for a majority.
	Parked, Waiting int
	// Commands counts commands received, by name; Exhaust those that allowed
	// several answers.
	Commands map[string]int
	Exhaust  int
}

// Start returns a running fake that ends with the test.
func Start(t testing.TB, cfg Config) *Server {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatalf("make a fake mongod: %v", err)
	}
	if err := s.Start(); err != nil {
		t.Fatalf("start a fake mongod: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

// New returns a fake that does not run yet.
func New(cfg Config) (*Server, error) {
	if cfg.Set == "" {
		cfg.Set = "consuldemo"
	}
	login, err := newLogin(cfg.Key)
	if err != nil {
		return nil, err
	}
	thawed := make(chan struct{})
	close(thawed)
	s := &Server{
		cfg: cfg, login: login, address: cfg.Address,
		changed: make(chan struct{}), thawed: thawed,
		handlers: map[string]Handler{}, data: map[string][]bson.Raw{},
		stats: Stats{Commands: map[string]int{}},
	}
	s.member = Member{Set: cfg.Set, Me: cfg.Me, Hosts: cfg.Hosts, ConfigVersion: 1, Majority: true}
	if len(cfg.Hosts) > 0 {
		s.member.Role = Secondary
	}
	return s, nil
}

// Start starts a process at the same address as before, with a new processId: it
// comes up as a secondary of the same term, with everything that was written.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		return errors.New("it runs already")
	}
	listener, err := s.listen()
	if err != nil {
		return err
	}
	s.address = listener.Addr().String()
	if s.member.Me == "" {
		s.member.Me = s.address
	}
	if s.member.Role != Startup {
		s.member.Role, s.member.Primary, s.member.SyncSource = Secondary, "", ""
	}
	s.version, s.quiesced, s.vetoed = Version{Process: bson.NewObjectID()}, false, time.Time{}
	ctx, cancel := context.WithCancel(context.Background())
	s.running = &process{ctx: ctx, end: cancel, listener: listener, work: &s.work}
	s.work.Add(1)
	go s.accept(s.running)
	s.announce()
	return nil
}

func (s *Server) listen() (net.Listener, error) {
	if s.cfg.Pipe != nil {
		return s.cfg.Pipe.listen()
	}
	address := s.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	return net.Listen("tcp", address)
}

// Kill ends the process as SIGKILL would: connections end without a word.
func (s *Server) Kill() {
	s.mu.Lock()
	p := s.running
	s.running = nil
	s.stopElection()
	s.thaw()
	s.mu.Unlock()
	if p != nil {
		p.end()
		_ = p.listener.Close()
	}
	s.work.Wait()
}

// Close ends it for good and waits for its goroutines.
func (s *Server) Close() { s.Kill() }

// Address returns where it listens, or listened last.
func (s *Server) Address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.address
}

// Freeze makes it read nothing and answer nothing, as SIGSTOP would. Connections
// are still accepted: a kernel does that.
func (s *Server) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.thawed:
		s.thawed = make(chan struct{})
	default:
	}
}

// Thaw ends Freeze. What it was asked meanwhile, it answers now.
func (s *Server) Thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.thaw()
}

func (s *Server) thaw() {
	select {
	case <-s.thawed:
	default:
		close(s.thawed)
	}
}

// gate blocks while the fake is frozen.
func (s *Server) gate(ctx context.Context) error {
	for {
		s.mu.Lock()
		thawed := s.thawed
		s.mu.Unlock()
		select {
		case <-thawed:
		case <-ctx.Done():
			return ctx.Err()
		}
		s.mu.Lock()
		same := thawed == s.thawed
		s.mu.Unlock()
		if same {
			return ctx.Err()
		}
	}
}

// Quiesce makes it shut down as mongod does on SIGTERM while it is a secondary:
// every hello, also one that waits, is answered with error 91. Kill ends it.
func (s *Server) Quiesce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quiesced = true
	s.bump()
}

// Disconnect resets every connection; the process lives on.
func (s *Server) Disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.running
	if p == nil {
		return
	}
	p.end()
	ctx, cancel := context.WithCancel(context.Background())
	s.running.ctx, s.running.end = ctx, cancel
}

// Handle has a handler answer a command in place of the fake; nil gives it back.
func (s *Server) Handle(command string, h Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers[command] = h
}

// Stats returns the counts.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copyStats()
}

func (s *Server) copyStats() Stats {
	copied := s.stats
	copied.Commands = make(map[string]int, len(s.stats.Commands))
	for name, n := range s.stats.Commands {
		copied.Commands[name] = n
	}
	return copied
}

// Await waits until the counts satisfy a condition; the error says that ctx
// ended before, and what they were.
func (s *Server) Await(ctx context.Context, holds func(Stats) bool) error {
	for {
		s.mu.Lock()
		now, changed := s.copyStats(), s.changed
		s.mu.Unlock()
		if holds(now) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w; so far %+v", ctx.Err(), now)
		}
	}
}

// count changes the counts.
func (s *Server) count(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
	s.announce()
}

// announce wakes whoever waits for anything.
func (s *Server) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}
