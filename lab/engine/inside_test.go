package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestNetns runs itself again as PID 1 of a lab, as root and without, and there
// tries each claim on two nodes of one datacenter and one of another.
func TestNetns(t *testing.T) {
	if os.Getenv(insideEnv) == "" {
		path := testBinary(t)
		for _, m := range modes(t) {
			t.Run(m.name, func(t *testing.T) {
				cmd := m.command(t, path, argLaunch, fmt.Sprint(m.unprivileged), "-test.run=^TestNetns$", "-test.timeout=80s", "-test.v")
				cmd.Env = append(os.Environ(), insideEnv+"=1")
				output, err := cmd.CombinedOutput()
				t.Logf("%s", output)
				if err != nil || !bytes.Contains(output, []byte("--- PASS: TestNetns/")) {
					t.Fatalf("inside the lab: %v", err)
				}
			})
		}
		return
	}
	opened, err := OpenNetns(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		t.Fatal(err)
	}
	w := world{engine: opened.(*netnsEngine)}
	for name, subnet := range map[string]string{"dc1": "198.18.1.0/24", "dc2": "198.18.2.0/24"} {
		if err := opened.AddDatacenter(name, netip.MustParsePrefix(subnet)); err != nil {
			t.Fatal(err)
		}
	}
	w.a = w.add(t, "dc1", NodeSpec{Name: "web-1", Address: netip.MustParsePrefix("198.18.1.11/24"), Nameserver: netip.MustParseAddr("127.0.0.1")})
	w.b = w.add(t, "dc1", NodeSpec{Name: "web-2", Address: netip.MustParsePrefix("198.18.1.12/24"), Extra: []netip.Addr{netip.MustParseAddr("203.0.113.7")}})
	w.far = w.add(t, "dc2", NodeSpec{Name: "web-3", Address: netip.MustParsePrefix("198.18.2.11/24")})
	for name, claim := range map[string]func(*testing.T){
		"nodes reach each other's address":                           w.addressesAreReachable,
		"a node's loopback is out of reach of the others":            w.loopbackIsOwn,
		"every node has every address of 127.0.0.0/8, and its extra": w.loopbackAddresses,
		"datacenters reach each other through the router":            w.datacentersAreRouted,
		"the lab's root is in no datacenter":                         w.rootIsOutside,
		"a datacenter can be cut off and healed":                     w.datacenterCut,
		"a datacenter can be cut off one way":                        w.datacenterCutOneWay,
		"cut drops silently, heal restores":                          w.cutAndHeal,
		"a one-way cut drops one way alone, and tells nobody":        w.cutOneWay,
		"nodes need not ask for each other's hardware address":       w.neighboursAreKnown,
		"a cut node still serves its own loopback":                   w.cutKeepsLoopback,
		"an exit code passes through":                                w.exitCode,
		"processes see their node":                                   w.processesSeeTheirNode,
		"port 53 can be bound":                                       w.lowPort,
		"names are refused, not resolved elsewhere":                  w.namesAreRefused,
		"a dial is given up with its context":                        w.dialEndsWithContext,
		"many dials at once":                                         w.manyDials,
		"a capture sees the frames of its node":                      w.captureSees,
		"nodes have no second address":                               w.noIPv6,
		"mistakes in a topology are refused":                         w.mistakes,
	} {
		t.Run(name, claim)
	}
	t.Run("closing removes every link and thread", w.closing)
}

type world struct {
	engine    *netnsEngine
	a, b, far *netnsNode
}

func (w *world) add(t *testing.T, datacenter string, spec NodeSpec) *netnsNode {
	t.Helper()
	node, err := w.engine.AddNode(datacenter, spec)
	if err != nil {
		t.Fatal(err)
	}
	return node.(*netnsNode)
}

// echo serves an echo inside a node until the test ends.
func echo(t *testing.T, node *netnsNode, address string) string {
	t.Helper()
	listener, err := node.listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	return listener.Addr().String()
}

func dial(t *testing.T, from *netnsNode, address string) (net.Conn, error) {
	t.Helper()
	return dialWithin(t, from, address, 2*time.Second)
}

func dialWithin(t *testing.T, from *netnsNode, address string, wait time.Duration) (net.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	conn, err := from.DialContext(ctx, "tcp", address)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

// timedOut reports whether a dial ended with its time. The net package reports the
// same moment in either way.
func timedOut(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// exchange sends a word and reads it back.
func exchange(conn net.Conn, wait time.Duration) error {
	if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "word"); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 4))
	return err
}

func reaches(t *testing.T, from *netnsNode, address string) {
	t.Helper()
	conn, err := dial(t, from, address)
	if err != nil {
		t.Fatalf("%s cannot reach %s: %v", from.Name(), address, err)
	}
	if err := exchange(conn, 2*time.Second); err != nil {
		t.Fatalf("%s and %s cannot talk: %v", from.Name(), address, err)
	}
}

func (w *world) addressesAreReachable(t *testing.T) {
	reaches(t, w.a, echo(t, w.b, "198.18.1.12:0"))
	reaches(t, w.b, echo(t, w.a, "198.18.1.11:0"))
}

func (w *world) loopbackIsOwn(t *testing.T) {
	address := echo(t, w.a, "127.0.0.1:0")
	reaches(t, w.a, address)
	if _, err := dial(t, w.b, address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("web-2 dials web-1's loopback on its own: %v, want refused", err)
	}
	if conn, err := net.DialTimeout("tcp", address, time.Second); err == nil {
		_ = conn.Close()
		t.Error("the lab's root reaches web-1's loopback")
	}
	_, port, _ := net.SplitHostPort(address)
	if _, err := dial(t, w.b, "198.18.1.11:"+port); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("web-2 dials the loopback's port on web-1's address: %v, want refused", err)
	}
}

func (w *world) loopbackAddresses(t *testing.T) {
	reaches(t, w.a, echo(t, w.a, "127.0.10.1:0"))
	reaches(t, w.b, echo(t, w.b, "203.0.113.7:0"))
}

func (w *world) datacentersAreRouted(t *testing.T) {
	reaches(t, w.a, echo(t, w.far, "198.18.2.11:0"))
}

// What the supervisor does to a node it does inside, so that it is no second router.
func (w *world) rootIsOutside(t *testing.T) {
	address := echo(t, w.a, "198.18.1.11:0")
	conn, err := net.DialTimeout("tcp", address, 300*time.Millisecond)
	if err == nil {
		_ = conn.Close()
	}
	if !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("the root dials a node: %v, want no way there", err)
	}
}

func (w *world) datacenterCut(t *testing.T) {
	address, near := echo(t, w.far, "198.18.2.11:0"), echo(t, w.b, "198.18.1.12:0")
	conn, err := dial(t, w.a, address)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.engine.CutDatacenter(t.Context(), "dc2", Both); err != nil {
		t.Fatal(err)
	}
	if err := exchange(conn, 300*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("talk into a datacenter that is cut off: %v, want silence", err)
	}
	if _, err := dial(t, w.far, near); !timedOut(err) {
		t.Errorf("dial out of a datacenter that is cut off: %v, want silence", err)
	}
	reaches(t, w.a, near)
	if err := w.engine.HealDatacenter(t.Context(), "dc2"); err != nil {
		t.Fatal(err)
	}
	reaches(t, w.a, address)
	reaches(t, w.far, near)
}

func (w *world) cutAndHeal(t *testing.T) {
	address := echo(t, w.b, "198.18.1.12:0")
	conn, err := dial(t, w.a, address)
	if err != nil {
		t.Fatal(err)
	}
	if err := exchange(conn, time.Second); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.b.Cut(t.Context(), Both); err != nil {
			t.Fatal(err)
		}
	}
	if w.b.IsCut() != Both || w.a.IsCut() != NoDirection {
		t.Errorf("IsCut = %v for the node that is cut, %v for the other", w.b.IsCut(), w.a.IsCut())
	}
	if err := exchange(conn, 300*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("talk to a node that is cut: %v, want silence", err)
	}
	// A link that still had to ask for the hardware address would give up after three
	// seconds, with "no route to host".
	if _, err := dialWithin(t, w.a, address, 4*time.Second); !timedOut(err) {
		t.Errorf("dial a node that is cut: %v, want silence", err)
	}
	if err := w.b.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.b.IsCut() != NoDirection {
		t.Error("IsCut after Heal")
	}
	reaches(t, w.a, address)
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
		t.Errorf("what was said while the node was cut does not arrive after it healed: %v", err)
	}
}

func (w *world) neighboursAreKnown(t *testing.T) {
	const permanent = "0x6" // complete and for good (linux/if_arp.h)
	for node, neighbours := range map[*netnsNode][]string{
		w.a:   {"198.18.1.1", "198.18.1.12"},
		w.b:   {"198.18.1.1", "198.18.1.11"},
		w.far: {"198.18.2.1"},
	} {
		table, _ := output(t, node, "cat /proc/net/arp")
		for _, neighbour := range neighbours {
			if !slices.ContainsFunc(strings.Split(table, "\n"), func(line string) bool {
				fields := strings.Fields(line)
				return len(fields) > 2 && fields[0] == neighbour && fields[2] == permanent
			}) {
				t.Errorf("%s does not know %s for good:\n%s", node.Name(), neighbour, table)
			}
		}
	}
}

func (w *world) cutKeepsLoopback(t *testing.T) {
	address := echo(t, w.b, "127.0.0.1:0")
	if err := w.b.Cut(t.Context(), Both); err != nil {
		t.Fatal(err)
	}
	reaches(t, w.b, address)
	if err := w.b.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// output runs a shell command in a node.
func output(t *testing.T, node Node, script string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := node.Start(cmd); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	return strings.TrimSpace(out.String()), err
}

func (w *world) exitCode(t *testing.T) {
	_, err := output(t, w.a, "exit 7")
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("exit 7 in a node ended with %v", err)
	}
}

func (w *world) processesSeeTheirNode(t *testing.T) {
	for script, want := range map[string]string{
		"cat /proc/sys/kernel/hostname":            "web-1",
		"grep -c . /etc/resolv.conf":               "2",
		"head -1 /etc/resolv.conf":                 "nameserver 127.0.0.1",
		"grep web-1 /etc/hosts":                    "198.18.1.11 web-1",
		"grep -c : /proc/net/dev":                  "2", // lo and eth0
		"test -w /tmp && echo yes":                 "yes",
		"grep -c sluice-staging /proc/mounts":      "0",
		"ls /proc | grep -c '^[0-9]' | grep -c ..": "0", // the lab's processes, not the host's
	} {
		if got, _ := output(t, w.a, script); got != want {
			t.Errorf("%s = %q, want %q", script, got, want)
		}
	}
	if got, _ := output(t, w.b, "cat /proc/sys/kernel/hostname"); got != "web-2" {
		t.Errorf("host name of the other node = %q", got)
	}
	host, err := os.Hostname()
	if err != nil || host == "web-1" || host == "web-2" {
		t.Errorf("host name of the lab's root = %q, %v", host, err)
	}
}

func (w *world) lowPort(t *testing.T) {
	reaches(t, w.a, echo(t, w.a, "127.0.0.1:53"))
}

func (w *world) namesAreRefused(t *testing.T) {
	for _, address := range []string{"localhost:80", "web-2:80", "127.0.0.1", "127.0.0.1:http"} {
		if conn, err := dial(t, w.a, address); err == nil || !strings.Contains(err.Error(), "literal") {
			t.Errorf("dial %s = %v, %v, want a refusal", address, conn, err)
		}
	}
	if _, err := w.a.DialContext(t.Context(), "unix", "/run/x"); err == nil {
		t.Error("a Unix socket is no matter of a node's network, and was dialled")
	}
}

func (w *world) dialEndsWithContext(t *testing.T) {
	if err := w.b.Cut(t.Context(), Both); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.b.Heal(context.Background()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := w.a.DialContext(ctx, "tcp", "198.18.1.12:9"); !timedOut(err) {
		t.Errorf("dial = %v, want that the time is up", err)
	}
}

func (w *world) manyDials(t *testing.T) {
	address := echo(t, w.b, "198.18.1.12:0")
	var dialling sync.WaitGroup
	for range 100 {
		dialling.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			conn, err := w.a.DialContext(ctx, "tcp", address)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if err := exchange(conn, 10*time.Second); err != nil {
				t.Error(err)
			}
		})
	}
	dialling.Wait()
	// The main thread must have stayed in the lab's root.
	main, _ := os.Readlink("/proc/self/ns/net")
	var other string
	onThread, err := startThread(func() error {
		var err error
		other, err = os.Readlink("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	onThread.stop()
	if main != other {
		t.Errorf("the main thread is in %s, a new one in %s", main, other)
	}
}

// gatherer says when the header is written.
type gatherer struct {
	bytes.Buffer
	once  sync.Once
	ready chan struct{}
}

func (g *gatherer) Write(p []byte) (int, error) {
	defer g.once.Do(func() { close(g.ready) })
	return g.Buffer.Write(p)
}

func (w *world) captureSees(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	gathered := &gatherer{ready: make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- w.b.Capture(ctx, gathered) }()
	select {
	case <-gathered.ready:
	case err := <-done:
		t.Fatal(err)
	}
	const canary = "the quick brown canary"
	conn, err := dial(t, w.a, echo(t, w.b, "198.18.1.12:0"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, canary); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, len(canary))); err != nil {
		t.Fatal(err)
	}
	hidden, err := dial(t, w.b, echo(t, w.b, "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(hidden, "a word on the loopback"); err != nil {
		t.Fatal(err)
	}
	reaches(t, w.a, echo(t, w.b, "198.18.1.12:0")) // so that what came before has been captured
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := bytes.Count(gathered.Bytes(), []byte(canary)); got != 2 {
		t.Errorf("the capture holds the canary %d times, want there and back", got)
	}
	if bytes.Contains(gathered.Bytes(), []byte("a word on the loopback")) {
		t.Error("the capture of the link holds what was said on the loopback")
	}
}

func (w *world) noIPv6(t *testing.T) {
	got, _ := output(t, w.a, "grep -c eth0 /proc/net/if_inet6 2>/dev/null || true")
	if got != "0" && got != "" {
		t.Errorf("eth0 has %s IPv6 addresses", got)
	}
}

func (w *world) mistakes(t *testing.T) {
	for name, tc := range map[string]struct{ datacenter, node, address string }{
		"no such datacenter":    {"dc9", "x", "198.18.1.50/24"},
		"outside of the subnet": {"dc1", "x", "198.18.7.50/24"},
		"address taken":         {"dc1", "x", "198.18.1.11/24"},
		"name taken":            {"dc2", "web-1", "198.18.2.50/24"},
	} {
		if _, err := w.engine.AddNode(tc.datacenter, NodeSpec{Name: tc.node, Address: netip.MustParsePrefix(tc.address)}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := w.engine.AddDatacenter("dc1", netip.MustParsePrefix("198.18.9.0/24")); err == nil {
		t.Error("a second datacenter of one name: accepted")
	}
	if _, err := w.engine.AddNode("dc1", NodeSpec{Name: strings.Repeat("x", 300), Address: netip.MustParsePrefix("198.18.1.60/24")}); err == nil {
		t.Error("a name that is no host name: accepted")
	}
	// What failed half-way must have left nothing: the address is free.
	w.add(t, "dc1", NodeSpec{Name: "spare", Address: netip.MustParsePrefix("198.18.1.60/24")})
}

func (w *world) closing(t *testing.T) {
	for range 2 {
		if err := w.engine.Close(); err != nil {
			t.Fatal(err)
		}
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	if len(interfaces) != 1 {
		t.Errorf("%d links are left, want lo alone", len(interfaces))
	}
	if err := w.a.Start(exec.Command("/bin/true")); !errors.Is(err, errThreadEnded) {
		t.Errorf("start in a node that was removed: %v", err)
	}
	if _, err := w.a.DialContext(t.Context(), "tcp", "127.0.0.1:1"); !errors.Is(err, errThreadEnded) {
		t.Errorf("dial from a node that was removed: %v", err)
	}
	if err := w.a.Cut(t.Context(), Both); !errors.Is(err, errThreadEnded) {
		t.Errorf("cut a node that was removed: %v", err)
	}
	if _, err := w.engine.AddNode("dc1", NodeSpec{Name: "late", Address: netip.MustParsePrefix("198.18.1.99/24")}); err == nil {
		t.Error("a node was added to a lab that is closed")
	}
}
