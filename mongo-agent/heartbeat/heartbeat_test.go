package heartbeat

import (
	"bufio"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sluice/mongo-agent/role"
)

// network connects circles by pipes. A node that is cut neither answers nor
// refuses; one that is down refuses.
type network struct {
	mu      sync.Mutex
	circles map[string]*Circle
	cut     map[string]bool
	down    map[string]bool
	conns   map[string][]net.Conn
	group   sync.WaitGroup
}

func (n *network) dial(ctx context.Context, node string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down[node] {
		return nil, syscall.ECONNREFUSED
	}
	here, there := net.Pipe()
	n.conns[node] = append(n.conns[node], here, there)
	if n.cut[node] {
		return here, nil // nobody reads
	}
	circle := n.circles[node]
	n.group.Go(func() { circle.Serve(context.WithoutCancel(ctx), there) })
	return here, nil
}

// end ends every connection to a node; with refuse, there are no new ones.
func (n *network) end(node string, refuse bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down[node] = refuse
	for _, conn := range n.conns[node] {
		_ = conn.Close()
	}
}

// silence makes nodes stop answering each other, on old connections and new ones.
func (n *network) silence(nodes ...string) {
	n.mu.Lock()
	for _, node := range nodes {
		n.cut[node] = true
	}
	n.mu.Unlock()
	for _, node := range nodes {
		n.end(node, false)
	}
}

// start runs one circle per node until the test's bubble ends.
func start(t *testing.T, nodes ...string) (*network, func()) {
	n := &network{circles: map[string]*Circle{}, cut: map[string]bool{}, down: map[string]bool{}, conns: map[string][]net.Conn{}}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for _, node := range nodes {
		var others []string
		for _, other := range nodes {
			if other != node {
				others = append(others, other)
			}
		}
		n.circles[node] = New(Config{
			Nodes: others, Interval: 100 * time.Millisecond, Limit: limit, Dial: n.dial, Logger: slog.New(slog.DiscardHandler),
		})
		n.circles[node].Say(Status{Node: node, Role: role.Secondary})
	}
	for _, circle := range n.circles {
		group.Go(func() { _ = circle.Run(ctx) })
	}
	return n, func() {
		cancel()
		for _, node := range nodes {
			n.end(node, true)
		}
		group.Wait()
		n.group.Wait()
	}
}

func (n *network) lost(node string) string {
	view, _ := n.circles[node].View()
	return strings.Join(view.Lost(), " ")
}

func TestAgentsKnowEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, stop := start(t, "a", "b", "c")
		defer stop()
		time.Sleep(time.Second) // virtual
		for _, node := range []string{"a", "b", "c"} {
			view, _ := n.circles[node].View()
			for _, p := range view.Peers {
				if !p.Known || p.Lost || p.Status.Node != p.Node {
					t.Errorf("%s knows %+v", node, p)
				}
			}
			if until := view.Lease(limit, time.Now()); !until.After(time.Now()) {
				t.Errorf("%s has no lease", node)
			}
		}
	})
}

func TestNewsTravelsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, stop := start(t, "a", "b")
		defer stop()
		time.Sleep(time.Second + 30*time.Millisecond) // virtual
		n.circles["a"].Say(Status{Node: "a", Role: role.Dead})
		synctest.Wait()
		view, _ := n.circles["b"].View()
		if p, _ := view.Peer("a"); p.Status.Role != role.Dead {
			t.Errorf("not before the next interval: %+v", p.Status)
		}
	})
}

func TestAnAgentThatEndsIsLostAtOnceAndASilentOneAfterTheLimit(t *testing.T) {
	for name, c := range map[string]struct {
		fail    func(*network)
		soonest time.Duration
		latest  time.Duration
	}{
		"ended":       {func(n *network) { n.end("b", true) }, 0, 30 * time.Millisecond},
		"silent":      {func(n *network) { n.silence("a", "b") }, 300 * time.Millisecond, 600 * time.Millisecond},
		"interrupted": {func(n *network) { n.end("b", false) }, time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, stop := start(t, "a", "b")
				defer stop()
				time.Sleep(time.Second) // virtual
				c.fail(n)
				failed := time.Now()
				for time.Since(failed) < 2*time.Second && n.lost("a") == "" {
					time.Sleep(time.Millisecond) // virtual
				}
				took := time.Since(failed)
				if c.soonest == time.Hour {
					if n.lost("a") != "" {
						t.Error("one interrupted connection is taken for a loss")
					}
					return
				}
				if took < c.soonest || took > c.latest {
					t.Errorf("lost after %v, want %v to %v", took, c.soonest, c.latest)
				}
			})
		})
	}
}

func TestALostAgentThatAnswersAgainIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, stop := start(t, "a", "b")
		defer stop()
		time.Sleep(time.Second) // virtual
		n.end("b", true)
		time.Sleep(time.Second) // virtual
		if n.lost("a") != "b" {
			t.Fatal("not lost")
		}
		n.mu.Lock()
		n.down["b"] = false
		n.mu.Unlock()
		time.Sleep(200 * time.Millisecond) // virtual
		if n.lost("a") != "" {
			t.Error("still lost")
		}
	})
}

// TestAnswersOfAnotherNodeDoNotCount: an address may be somebody else's by now.
func TestAnswersOfAnotherNodeDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, stop := start(t, "a", "b")
		defer stop()
		n.circles["b"].Say(Status{Node: "c"})
		time.Sleep(time.Second) // virtual
		if n.lost("a") != "b" {
			t.Error("b is taken for alive because c answers")
		}
	})
}

func FuzzHeartbeatsAreReadStrictly(f *testing.F) {
	good, err := message{Number: 1, Status: Status{Node: "mongo-1", Role: role.Primary, Term: 4}}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(good))
	f.Add("{}\n")
	f.Add(`{"n":1,"status":{"node":"a","term":-1}}` + "\n")
	f.Add(`{"n":1,"status":{"node":"a","role":"king"}}` + "\n")
	f.Add(strings.Repeat("x", MaxMessage+1))
	f.Fuzz(func(t *testing.T, text string) {
		m, err := receive(bufio.NewReaderSize(strings.NewReader(text), MaxMessage))
		if err != nil {
			return
		}
		line, _, _ := strings.Cut(text, "\n")
		if len(line) >= MaxMessage || !json.Valid([]byte(line)) {
			t.Errorf("accepted %d bytes: %.80q", len(line), line)
		}
		if m.Number == 0 || m.Status.Node == "" || m.Status.Term < 0 || m.Status.OpTime.Term < 0 || m.Status.Role > role.Dead {
			t.Errorf("accepted %+v", m)
		}
	})
}
