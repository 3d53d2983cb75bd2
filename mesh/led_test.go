package mesh_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/mesh"
)

// toy is a protocol of lines. A client says "work" or "watch" and hears "lead N"
// or "follow"; a member then echoes.
func toy() *mesh.Protocol {
	whole := func(b []byte) bool { return bytes.HasSuffix(b, []byte("\n")) }
	return &mesh.Protocol{
		Greeting: func(b []byte) mesh.Judgement {
			switch {
			case !whole(b):
				return mesh.Incomplete
			case string(b) == "work\n", string(b) == "watch\n":
				return mesh.Yes
			}
			return mesh.No
		},
		Watches: func(b []byte) mesh.Judgement {
			switch {
			case !whole(b):
				return mesh.Incomplete
			case string(b) == "watch\n":
				return mesh.Yes
			}
			return mesh.No
		},
		Answer: func(b []byte) mesh.Answer {
			end := bytes.IndexByte(b, '\n')
			if end < 0 {
				return mesh.Answer{}
			}
			var epoch int64
			if _, err := fmt.Sscanf(string(b[:end]), "lead %d", &epoch); err != nil {
				return mesh.Answer{Size: end + 1, Leads: mesh.No}
			}
			return mesh.Answer{Size: end + 1, Leads: mesh.Yes, Epoch: epoch}
		},
		Question: []byte("work\n"),
	}
}

// member is a destination that speaks toy.
type member struct {
	*destination
	// epoch is 0 for one that follows, below 0 for one that resets who greets it.
	epoch atomic.Int64
	// deaf members read and say nothing after the greeting.
	deaf atomic.Bool
}

func (w *world) member(epoch int64) *member {
	m := &member{destination: w.listen("mongo-primary", allowing(allow("web", "mongo-primary")), nil)}
	m.epoch.Store(epoch)
	m.handle(w.tb, func(c net.Conn) {
		lines := bufio.NewReader(c)
		if _, err := lines.ReadString('\n'); err != nil {
			return
		}
		switch n := m.epoch.Load(); {
		case n < 0:
			c.(*mesh.Conn).Cut("for the test")
			return
		case n == 0:
			_, _ = io.WriteString(c, "follow\n")
		default:
			_, _ = fmt.Fprintf(c, "lead %d\n", n)
		}
		if m.deaf.Load() {
			_, _ = io.Copy(io.Discard, lines)
			return
		}
		_, _ = io.Copy(c, lines)
	})
	return m
}

// registered is the member's instance with a term.
func (m *member) registered(term int64) mesh.Instance {
	i := m.instance()
	i.Meta = map[string]string{"term": strconv.FormatInt(term, 10)}
	return i
}

func termOf(i mesh.Instance) int64 {
	n, _ := strconv.ParseInt(i.Meta["term"], 10, 64)
	return n
}

// leading runs an upstream that follows the leader.
func (w *world) leading(catalog *instancesOf, adjust func(*mesh.UpstreamConfig)) *mesh.Upstream {
	return w.upstream("web", mesh.Instance{ID: w.id("mongo-primary")}, func(u *mesh.UpstreamConfig, d *mesh.DialerConfig) {
		u.Epoch, u.Protocol, d.Resolver = termOf, toy(), catalog
		if adjust != nil {
			adjust(u)
		}
	})
}

// greet says hello and returns the answer.
func greet(conn net.Conn, as string) (string, error) {
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, as+"\n"); err != nil {
		return "", err
	}
	answer := make([]byte, 16)
	n, err := conn.Read(answer)
	return string(answer[:n]), err
}

func mustGreet(t *testing.T, u *mesh.Upstream, as, want string) *net.TCPConn {
	t.Helper()
	conn := dialLocal(t, u)
	if got, err := greet(conn, as); err != nil || got != want {
		t.Fatalf("%s heard %q, %v; want %q", as, got, err, want)
	}
	return conn
}

func TestAHigherEpochResetsTheWatchersFirstAndThenTheOthers(t *testing.T) {
	w := newWorld(t)
	before, after := w.member(5), w.member(6)
	catalog := resolving(before.registered(5))
	u := w.leading(catalog, nil)
	watcher, worker := mustGreet(t, u, "watch", "lead 5\n"), mustGreet(t, u, "work", "lead 5\n")
	roundTrip(t, worker, "x")
	catalog.set(before.registered(5), after.registered(6))
	if err := ended(t, watcher); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the watcher: %v, want a reset", err)
	}
	mustGreet(t, u, "watch", "lead 6\n")
	if err := ended(t, worker); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the worker: %v, want a reset", err)
	}
	mustGreet(t, u, "work", "lead 6\n")
	eventually(t, "nothing leads to the old one", func() bool { return len(before.table.Connections()) == 0 })
	r := u.Report()
	if r.Epoch != 6 || r.Leader != after.Addr().String() || len(r.Switches) != 1 || r.Counters.Superseded != 2 {
		t.Fatalf("report: %+v", r)
	}
	if s := r.Switches[0]; s.Sentinels != 1 || s.Rest != 1 || s.SentinelBack.IsZero() || s.RestReset.Before(s.SentinelReset) || s.Epoch != 6 {
		t.Errorf("switch: %+v", s)
	}
}

func TestNothingIsCarriedToALowerEpoch(t *testing.T) {
	w := newWorld(t)
	before, after := w.member(5), w.member(6)
	catalog := resolving(before.registered(5), after.registered(6))
	u := w.leading(catalog, func(c *mesh.UpstreamConfig) {
		c.Hold = 400 * time.Millisecond
		c.Candidates = func() []mesh.Instance { return []mesh.Instance{before.instance()} }
	})
	mustGreet(t, u, "work", "lead 6\n")
	for _, named := range [][]mesh.Instance{{before.registered(5)}, nil} { // by the catalog, and by guesses only
		after.stop()
		catalog.set(named...)
		conn := dialLocal(t, u)
		if got, err := greet(conn, "work"); err == nil {
			t.Errorf("with %d instances named: heard %q of an older epoch", len(named), got)
		}
	}
	if err := u.Err(); !errors.Is(err, mesh.ErrNoInstance) {
		t.Errorf("Err: %v", err)
	}
	if c := u.Report().Counters; c.Expired != 2 {
		t.Errorf("counters: %+v", c)
	}
}

func TestAGreetingIsRepeatedUntilSomebodyLeads(t *testing.T) {
	w := newWorld(t)
	reluctant := w.member(-1)
	u := w.leading(resolving(reluctant.instance()), nil)
	heard := make(chan string, 1)
	conn := dialLocal(t, u)
	go func() {
		got, err := greet(conn, "work")
		heard <- fmt.Sprint(got, err)
	}()
	eventually(t, "it was reset and tried again", func() bool { return u.Report().Counters.Repeated > 2 })
	reluctant.epoch.Store(0)
	seen := u.Report().Counters.Repeated
	eventually(t, "it follows and is tried again", func() bool { return u.Report().Counters.Repeated > seen+2 })
	if n, _ := u.Held(); n != 1 {
		t.Errorf("%d held", n)
	}
	reluctant.epoch.Store(3)
	if got := <-heard; got != "lead 3\n<nil>" {
		t.Errorf("heard %s", got)
	}
	if n, _ := u.Held(); n != 0 {
		t.Errorf("%d held at the end", n)
	}
}

func TestAMemberIsFoundWithoutTheCatalog(t *testing.T) {
	w := newWorld(t)
	m, silent := w.member(4), blackHole(t)
	u := w.leading(resolving(), func(c *mesh.UpstreamConfig) {
		c.Candidates = func() []mesh.Instance {
			guess := m.instance()
			guess.Address = silent
			return []mesh.Instance{guess, m.instance()}
		}
	})
	began := time.Now()
	mustGreet(t, u, "work", "lead 4\n")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("a silent member held up the others for %v", took)
	}
}

// blackHole accepts and says nothing.
func blackHole(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func TestHeldConnectionsAreBoundedAndThoseWhoLeaveAreForgotten(t *testing.T) {
	w := newWorld(t)
	u := w.leading(resolving(), func(c *mesh.UpstreamConfig) { c.MaxHeld = 2 })
	var waiting []*net.TCPConn
	for range 2 {
		conn := dialLocal(t, u)
		if _, err := io.WriteString(conn, "work\n"); err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, conn)
	}
	held := func(n int) func() bool { return func() bool { got, _ := u.Held(); return got == n } }
	eventually(t, "two are held", held(2))
	conn := dialLocal(t, u)
	if _, err := greet(conn, "work"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the third: %v, want a reset", err)
	}
	_ = waiting[0].Close()
	eventually(t, "one has left", held(1))
	if c := u.Report().Counters; c.Overflow != 1 || c.Held != 2 || c.Expired != 0 {
		t.Errorf("counters: %+v", c)
	}
}

func TestASilentLeaderIsLeftForOneThatAnswersWithALaterEpoch(t *testing.T) {
	w := newWorld(t)
	before, after := w.member(5), w.member(0)
	before.deaf.Store(true)
	u := w.leading(resolving(before.registered(5)), func(c *mesh.UpstreamConfig) {
		c.Candidates = func() []mesh.Instance { return []mesh.Instance{after.instance()} }
	})
	conn := mustGreet(t, u, "work", "lead 5\n")
	after.epoch.Store(5)
	if _, err := io.WriteString(conn, "anybody?\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other one was asked", func() bool { return u.Report().Counters.Probes > 2 })
	if r := u.Report(); len(r.Switches) != 0 || r.Leader != before.Addr().String() {
		t.Fatalf("left for one of the same epoch: %+v", r)
	}
	after.epoch.Store(6)
	if err := ended(t, conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
	mustGreet(t, u, "work", "lead 6\n")
}

func TestAWatcherNeverHearsThatItsLeaderFollows(t *testing.T) {
	w := newWorld(t)
	m := w.member(5)
	catalog := resolving(m.registered(5))
	u := w.leading(catalog, nil)
	watcher, worker := mustGreet(t, u, "watch", "lead 5\n"), mustGreet(t, u, "work", "lead 5\n")
	roundTrip(t, watcher, "lead 5\n")
	m.epoch.Store(6)
	if _, err := io.WriteString(watcher, "follow\n"); err != nil { // the echo says it
		t.Fatal(err)
	}
	heard, err := io.ReadAll(watcher)
	if len(heard) != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("heard %q, %v; want a reset", heard, err)
	}
	if err := ended(t, worker); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the worker: %v, want a reset", err)
	}
	mustGreet(t, u, "work", "lead 6\n")
}

func TestADenyReachesThoseWhoWaitForALeader(t *testing.T) {
	w := newWorld(t)
	policy := allowing(allow("web", "mongo-primary"))
	u := w.upstream("web", mesh.Instance{ID: w.id("mongo-primary")}, func(u *mesh.UpstreamConfig, d *mesh.DialerConfig) {
		u.Epoch, u.Protocol, d.Resolver, d.Policy = termOf, toy(), resolving(), policy
	})
	conn := dialLocal(t, u)
	if _, err := io.WriteString(conn, "work\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is held", func() bool { n, _ := u.Held(); return n == 1 })
	policy.set(deny("web", "mongo-primary"))
	began := time.Now()
	if err := ended(t, conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("after %v", took)
	}
	if err := u.Err(); !errors.Is(err, mesh.ErrDenied) {
		t.Errorf("Err: %v", err)
	}
}
