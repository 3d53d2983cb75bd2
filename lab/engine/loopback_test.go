package engine

import (
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

func loopbackNodes(t *testing.T) (Engine, Node) {
	t.Helper()
	lab, err := OpenLoopback(78)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lab.Close() })
	if err := lab.AddDatacenter("dc1", netip.MustParsePrefix("198.18.1.0/24")); err != nil {
		t.Fatal(err)
	}
	node, err := lab.AddNode("dc1", NodeSpec{Name: "web-1", Address: netip.MustParsePrefix("198.18.1.11/24")})
	if err != nil {
		t.Fatal(err)
	}
	return lab, node
}

func TestLoopbackSaysThatItIsolatesNothing(t *testing.T) {
	lab, node := loopbackNodes(t)
	if lab.Segmented() || len(lab.Limits()) == 0 {
		t.Errorf("Segmented = %v, Limits = %q", lab.Segmented(), lab.Limits())
	}
	if err := node.Cut(t.Context(), Both); !errors.Is(err, errNoLink) {
		t.Errorf("Cut = %v, want that it cannot", err)
	}
	if err := node.Capture(t.Context(), nil); !errors.Is(err, errNoLink) {
		t.Errorf("Capture = %v, want that it cannot", err)
	}
	if err := node.Heal(t.Context()); err != nil || node.IsCut() != NoDirection {
		t.Errorf("Heal = %v, IsCut = %v", err, node.IsCut())
	}
}

func TestLoopbackMapsAddresses(t *testing.T) {
	for name, tc := range map[string]struct {
		index         int
		address, want string
	}{
		"the first lab":           {0, "198.18.1.11", "127.0.1.11"},
		"another lab":             {3, "198.18.2.21", "127.3.2.21"},
		"the host's own loopback": {0, "198.18.0.1", ""},
		"IPv6":                    {0, "2001:db8::1", ""},
	} {
		got, err := loopbackAddress(tc.index, netip.MustParseAddr(tc.address))
		if tc.want == "" && err == nil {
			t.Errorf("%s: %s became %s, want a refusal", name, tc.address, got)
		}
		if tc.want != "" && got.String() != tc.want {
			t.Errorf("%s: %s became %s, %v, want %s", name, tc.address, got, err, tc.want)
		}
	}
	if _, err := OpenLoopback(256); err == nil {
		t.Error("index 256: accepted")
	}
}

func TestLoopbackDialsFromTheNodesAddress(t *testing.T) {
	_, node := loopbackNodes(t)
	listener, err := net.Listen("tcp", net.JoinHostPort(node.Address().String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := node.DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.LocalAddr().(*net.TCPAddr).IP.String(); got != node.Address().String() {
		t.Errorf("dialled from %s, want %s", got, node.Address())
	}
}

func TestLoopbackRefusesMistakes(t *testing.T) {
	lab, _ := loopbackNodes(t)
	for name, tc := range map[string]struct{ datacenter, address string }{
		"no such datacenter":    {"dc9", "198.18.1.50/24"},
		"outside of the subnet": {"dc1", "198.18.7.50/24"},
		"address taken":         {"dc1", "198.18.1.11/24"},
	} {
		if _, err := lab.AddNode(tc.datacenter, NodeSpec{Name: "x", Address: netip.MustParsePrefix(tc.address)}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestClosingTheLoopbackEngineKillsItsProcesses(t *testing.T) {
	lab, node := loopbackNodes(t)
	cmd := exec.Command("/proc/self/exe", argSleep)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := node.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := lab.Close(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Signal(syscall.SIGUSR2) }) // it exits with 0 then
	defer late.Stop()
	err := cmd.Wait()
	exit := new(exec.ExitError)
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the process ended with %v, want killed", err)
	}
	if err := node.Start(exec.Command("/bin/true")); !errors.Is(err, errThreadEnded) {
		t.Errorf("start after Close: %v", err)
	}
}
