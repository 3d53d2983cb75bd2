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
	"strings"
	"time"
)

// ProbeCommand is the hidden first argument that a program which calls Probe must
// answer by calling ProbeMain.
const ProbeCommand = "__probe-netns"

// probeTimeout bounds one try. It takes well under a second where it works.
const probeTimeout = 15 * time.Second

// Probe finds out which engines work here, best first, by really trying: it runs
// self with ProbeCommand under Isolate. Root is tried without a user namespace
// first, and with one if that fails.
func Probe(ctx context.Context, self string) []Capability {
	var found []Capability
	if os.Geteuid() == 0 {
		privileged := probeNetns(ctx, self, false)
		found = append(found, privileged)
		if privileged.OK {
			return append(found, probeLoopback())
		}
	}
	return append(found, probeNetns(ctx, self, true), probeLoopback())
}

func probeNetns(ctx context.Context, self string, unprivileged bool) Capability {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, self, ProbeCommand)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = time.Second
	Isolate(cmd, unprivileged)
	err := cmd.Run()
	capability := Capability{Kind: Netns, OK: err == nil, Unprivileged: unprivileged}
	if err != nil {
		capability.Reason = explain(err, output.String(), unprivileged, readSetting)
	}
	return capability
}

// probeLoopback tries the one thing that the loopback engine needs.
func probeLoopback() Capability {
	listener, err := net.Listen("tcp", "127.0.1.11:0")
	if err != nil {
		return Capability{Kind: Loopback, Reason: fmt.Sprintf("cannot listen on 127.0.1.11: %v", err)}
	}
	_ = listener.Close()
	return Capability{Kind: Loopback, OK: true, Unprivileged: true}
}

// readSetting returns a kernel setting, "" if this kernel does not have it.
func readSetting(name string) string {
	data, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// explain says why the probe failed and what would change that. setting returns
// the value of a kernel setting.
func explain(err error, output string, unprivileged bool, setting func(string) string) string {
	cause := err.Error()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		if lines := strings.Split(strings.TrimSpace(output), "\n"); lines[len(lines)-1] != "" {
			cause = lines[len(lines)-1]
		}
	}
	if !unprivileged {
		return cause + ": root may not make namespaces here (a container without CAP_SYS_ADMIN?): run on the host, or give the container that capability"
	}
	const asRoot = ", or run as root"
	switch {
	case setting("kernel/unprivileged_userns_clone") == "0":
		return cause + ": user namespaces are off for users: sudo sysctl kernel.unprivileged_userns_clone=1" + asRoot
	case setting("user/max_user_namespaces") == "0":
		return cause + ": user namespaces are off: sudo sysctl user.max_user_namespaces=10000" + asRoot
	case setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
		return cause + ": AppArmor restricts user namespaces: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0" + asRoot
	default:
		return cause + ": run as root, or use --engine loopback"
	}
}

// ProbeMain makes a small lab inside the process that Isolate prepared: a bridge,
// two nodes, and a connection between them.
func ProbeMain() error {
	lab, err := OpenNetns(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if err := probeLab(lab); err != nil {
		return errors.Join(err, lab.Close())
	}
	return lab.Close()
}

func probeLab(lab Engine) error {
	if err := lab.AddDatacenter("probe", netip.MustParsePrefix("198.18.1.0/24")); err != nil {
		return err
	}
	server, err := lab.AddNode("probe", NodeSpec{Name: "server", Address: netip.MustParsePrefix("198.18.1.2/24")})
	if err != nil {
		return err
	}
	client, err := lab.AddNode("probe", NodeSpec{Name: "client", Address: netip.MustParsePrefix("198.18.1.3/24")})
	if err != nil {
		return err
	}
	listener, err := server.(*netnsNode).listen("tcp", "198.18.1.2:0")
	if err != nil {
		return fmt.Errorf("listen in a node: %w", err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := client.DialContext(ctx, "tcp", listener.Addr().String())
	if err != nil {
		return fmt.Errorf("connect two nodes: %w", err)
	}
	defer conn.Close()
	accepted, err := listener.Accept()
	if err != nil {
		return fmt.Errorf("accept from a node: %w", err)
	}
	if _, err := io.WriteString(accepted, "x"); err != nil {
		return fmt.Errorf("write between nodes: %w", err)
	}
	if err := accepted.Close(); err != nil {
		return fmt.Errorf("close between nodes: %w", err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		return fmt.Errorf("read between nodes: %w", err)
	}
	return nil
}
