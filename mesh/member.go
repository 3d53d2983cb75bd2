package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// DefaultMemberHold is how long a MemberDialer waits for a member's door.
const DefaultMemberHold = 2 * time.Second

// MemberDialerConfig is what a MemberDialer dials by.
type MemberDialerConfig struct {
	// Dialer makes the connections. Required, with a Resolver.
	Dialer *Dialer
	// Leading is the service of the member that leads, Following that of the
	// others. Required.
	Leading, Following string
	// Member returns the address by which the set knows the member behind an
	// instance, for example from the registration. Required.
	Member func(Instance) string
	// Epoch returns the epoch of an instance; 0 is not known. Required.
	Epoch func(Instance) int64
	// Candidates returns further instances to try, of either service; it must not
	// block. May be nil.
	Candidates func() []Instance
	// Hold is how long a dial waits for a member that accepts nowhere, as in the
	// moment in which its role changes; default 2 s, below 0 is one try. The
	// dial's own context may end it earlier.
	Hold time.Duration
}

// MemberDialer dials the members of a replicated set by the addresses that they
// have within the set. The connection leaves over the mesh, to whichever of the
// two services the member offers at that moment, and is reset when the member's
// role is over. Its DialContext has the form that database drivers take. It is
// safe for concurrent use.
type MemberDialer struct {
	cfg MemberDialerConfig

	mu sync.Mutex
	// epoch is the highest of the leading service that was ever known.
	epoch int64
	conns map[*memberConn]struct{}
}

// NewMemberDialer returns a MemberDialer. Without Run nothing is reset.
func NewMemberDialer(cfg MemberDialerConfig) (*MemberDialer, error) {
	if cfg.Dialer == nil || cfg.Dialer.cfg.Resolver == nil || cfg.Leading == "" || cfg.Following == "" || cfg.Member == nil || cfg.Epoch == nil {
		return nil, errors.New("mesh: member dialer: dialer with resolver, both services, member and epoch are required")
	}
	if cfg.Hold == 0 {
		cfg.Hold = DefaultMemberHold
	}
	return &MemberDialer{cfg: cfg, conns: make(map[*memberConn]struct{})}, nil
}

// memberConn is a connection to a member in a role.
type memberConn struct {
	*Conn
	dialer  *MemberDialer
	member  string
	leading bool
	epoch   int64
}

// Close also forgets the connection.
func (c *memberConn) Close() error {
	c.dialer.forget(c)
	return c.Conn.Close()
}

// DialContext connects to the member with the given address. The network is not
// looked at. Errors are those of Dialer.DialInstance; a member that nothing is
// known of is ErrNoInstance.
func (m *MemberDialer) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	hold, cancel := context.WithTimeout(ctx, max(m.cfg.Hold, 0))
	defer cancel()
	pause := probePauseMin
	for {
		conn, err := m.dial(ctx, address)
		if err == nil {
			return conn, nil
		}
		if errors.Is(err, ErrDenied) || errors.Is(err, ErrWrongIdentity) || !sleep(hold, pause, m.news()) {
			return nil, fmt.Errorf("mesh: dial member %s: %w", address, err)
		}
		pause = min(2*pause, probePauseMax)
	}
}

// dial tries the doors of a member, the likeliest first.
func (m *MemberDialer) dial(ctx context.Context, member string) (*memberConn, error) {
	var last error = ErrNoInstance
	for _, door := range m.doors(ctx, member) {
		attempt, cancel := context.WithTimeout(ctx, max(probeTimeout, share(ctx, 4)/2))
		conn, err := m.cfg.Dialer.probe(attempt, door)
		cancel()
		if err != nil {
			last = err
			if errors.Is(err, ErrDenied) {
				break
			}
			continue
		}
		c := &memberConn{Conn: conn, dialer: m, member: member, leading: door.ID.Service() == m.cfg.Leading, epoch: m.cfg.Epoch(door)}
		if m.keep(c) {
			return c, nil
		}
		conn.Cut("another member leads")
	}
	return nil, last
}

// doors returns the instances of a member in the order in which they are tried:
// the leading one of the highest epoch, the following one, then guesses. A
// leading one whose epoch is over is not among them.
func (m *MemberDialer) doors(ctx context.Context, member string) []Instance {
	ctx, cancel := context.WithTimeout(ctx, catalogTimeout)
	defer cancel()
	var doors []Instance
	for _, service := range []string{m.cfg.Leading, m.cfg.Following} {
		instances, _ := m.cfg.Dialer.cfg.Resolver.Instances(ctx, service)
		m.learn(service, instances)
		doors = append(doors, instances...)
	}
	named := len(doors)
	if m.cfg.Candidates != nil {
		doors = append(doors, m.cfg.Candidates()...)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := map[string]bool{}
	out := make([]Instance, 0, 2)
	for i, door := range doors {
		epoch := m.cfg.Epoch(door)
		over := i < named && door.ID.Service() == m.cfg.Leading && epoch > 0 && epoch < m.epoch
		if m.cfg.Member(door) == member && !seen[door.Address] && !over {
			out = append(out, door)
		}
		seen[door.Address] = true
	}
	return out
}

func (m *MemberDialer) learn(service string, instances []Instance) {
	if service != m.cfg.Leading {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, instance := range instances {
		m.epoch = max(m.epoch, m.cfg.Epoch(instance))
	}
}

// keep registers a connection; false means that its role is over already.
func (m *MemberDialer) keep(c *memberConn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.leading && c.epoch > 0 && c.epoch < m.epoch {
		return false
	}
	m.conns[c] = struct{}{}
	return true
}

func (m *MemberDialer) forget(c *memberConn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.conns, c)
}

// Connections returns how many connections are open.
func (m *MemberDialer) Connections() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.conns)
}

// Run resets connections whose role is over, until ctx ends; then it resets all
// others and returns nil.
func (m *MemberDialer) Run(ctx context.Context) error {
	for {
		news := m.news()
		m.enforce(ctx)
		if !sleep(ctx, rosterPoll, news) {
			break
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.conns {
		c.Cut("shutting down")
		delete(m.conns, c)
	}
	return nil
}

// enforce resets what the catalog says is over.
func (m *MemberDialer) enforce(ctx context.Context) {
	leading, _ := m.cfg.Dialer.cfg.Resolver.Instances(ctx, m.cfg.Leading)
	m.learn(m.cfg.Leading, leading)
	m.mu.Lock()
	defer m.mu.Unlock()
	newest := slices.IndexFunc(leading, func(i Instance) bool { return m.cfg.Epoch(i) > 0 && m.cfg.Epoch(i) == m.epoch })
	if newest < 0 {
		return
	}
	leader := m.cfg.Member(leading[newest])
	for c := range m.conns {
		switch {
		case c.closed.Load():
			delete(m.conns, c)
		case c.leading && (c.epoch > 0 && c.epoch < m.epoch || c.member != leader):
			c.Cut("another member leads")
			delete(m.conns, c)
		case !c.leading && c.member == leader:
			c.Cut("the member leads now")
			delete(m.conns, c)
		}
	}
}

// news returns a channel that is closed when the catalog changes; nil where the
// resolver does not tell.
func (m *MemberDialer) news() <-chan struct{} {
	if r, ok := m.cfg.Dialer.cfg.Resolver.(resolutions); ok {
		return r.Changed(m.cfg.Leading)
	}
	return nil
}
