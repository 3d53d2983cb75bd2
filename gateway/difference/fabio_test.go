//go:build fabio

package difference_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"sluice/internal/consultest"
)

// TestFabioItselfAnswersAsTheModel is for make fabio-differential: it fails where
// Fabio's program cannot be had.
func TestFabioItselfAnswersAsTheModel(t *testing.T) {
	path := findFabio(t)
	g := newGround(t)
	address, old := g.startFabio(path), isOld(t, path)
	for _, w := range corpus(seed) {
		if w.garbled() {
			continue // that nothing changes cannot be told from news that is still to come
		}
		arrived, left := g.next(w)
		consultest.Await(t, 20*time.Second, "Fabio serves the world", g.serves(address, arrived, left))
		g.judgeBy(newModelOf(w, corrections{}, old), w, address, settled)
	}
}

// settled is how long Fabio may take for news that arrive in parts: it may know a
// service, and for a moment not all of its routes.
const settled = 10 * time.Second

// isOld reports whether the program is of version 1.5.
func isOld(t *testing.T, path string) bool {
	t.Helper()
	said, err := exec.CommandContext(t.Context(), path, "-version").CombinedOutput()
	if err != nil {
		t.Fatalf("%s -version: %v\n%s", path, err, said)
	}
	t.Logf("Fabio says that it is %s", bytes.TrimSpace(said))
	return bytes.HasPrefix(said, []byte("1.5."))
}

// findFabio returns Fabio's program: what SLUICE_FABIO names, else what
// tools/peers/get gets.
func findFabio(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("SLUICE_FABIO"); path != "" {
		return path
	}
	base, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(base, "sluice", "peers", "fabio")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	said, err := exec.CommandContext(t.Context(), "../../tools/peers/get", "fabio").CombinedOutput()
	if err != nil {
		t.Fatalf("get Fabio: %v\n%s", err, said)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s\nset SLUICE_FABIO to the program, of version 1.5 or newer", bytes.TrimSpace(said))
	}
	return path
}

// startFabio runs Fabio on this Consul and returns where it listens.
func (g *ground) startFabio(path string) string {
	g.t.Helper()
	address := net.JoinHostPort(g.Host, "9999")
	output := &bytes.Buffer{}
	command := exec.Command(path, "-proxy.addr", address, "-ui.addr", net.JoinHostPort(g.Host, "9998"), "-ui.access", "ro",
		"-registry.consul.addr", g.Address, "-registry.consul.token", g.Management(), "-registry.consul.register.enabled=false",
		"-proxy.matcher", "prefix", "-proxy.strategy", "rr", "-log.level", "WARN")
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if g.t.Failed() {
			g.t.Logf("Fabio said:\n%.4000s", output)
		}
	})
	return address
}
