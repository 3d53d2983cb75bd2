// Package mongotest starts real mongod processes for tests: the members of one
// replica set on loopback, not yet initiated, run with the same flags as in the
// lab (key file, no zlib, no localhost exception, small journal).
//
// A member is killed when its test ends, and when the test process dies.
package mongotest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/internal/binaries"
)

// Config says what to start. The zero value is three members of "consuldemo".
type Config struct {
	// Set is the name of the replica set; default "consuldemo".
	Set string
	// Addresses are "host:port" on loopback, one per member; default three free
	// ports of 127.0.0.1.
	Addresses []string
	// LocalhostException leaves mongod's default on: whoever comes from loopback
	// may create the first user.
	LocalhostException bool
}

// Set is a group of members that share a key file.
type Set struct {
	Name    string
	KeyFile string
	Members []*Member
}

// Member is one mongod process, or the place of one that was killed.
type Member struct {
	Address string

	arguments []string
	binary    string
	logPath   string

	mu      sync.Mutex
	command *exec.Cmd
	exited  chan struct{}
}

// Start starts the members, waits until each answers on its port and arranges
// for their end with the test. Without a mongod the test is skipped, or fails
// when SLUICE_REQUIRE=1.
func Start(t testing.TB, cfg Config) *Set {
	t.Helper()
	binary, err := binaries.Mongod()
	if err != nil {
		missing(t, err)
	}
	if cfg.Set == "" {
		cfg.Set = "consuldemo"
	}
	if len(cfg.Addresses) == 0 {
		for range 3 {
			cfg.Addresses = append(cfg.Addresses, FreeAddress(t, "127.0.0.1"))
		}
	}
	dir := t.TempDir()
	set := &Set{Name: cfg.Set, KeyFile: filepath.Join(dir, "key")}
	if err := writeKey(set.KeyFile); err != nil {
		t.Fatalf("write key file: %v", err)
	}
	for i, address := range cfg.Addresses {
		data := filepath.Join(dir, "data-"+strconv.Itoa(i))
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatalf("make data folder: %v", err)
		}
		m := &Member{Address: address, binary: binary, logPath: filepath.Join(data, "mongod.log")}
		m.arguments = arguments(cfg, set.KeyFile, data, address)
		set.Members = append(set.Members, m)
		m.Start(t)
		t.Cleanup(func() { m.end(t) })
	}
	for _, m := range set.Members {
		m.WaitListening(t)
	}
	return set
}

func missing(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("SLUICE_REQUIRE") == "1" {
		t.Fatalf("a prerequisite is missing: %v", err)
	}
	t.Skipf("a prerequisite is missing: %v", err)
}

func writeKey(path string) error {
	raw := make([]byte, 96)
	if _, err := rand.Read(raw); err != nil {
		return err
	}
	// The line break is there on purpose: mongod ignores white space in a key
	// file, and so must whoever authenticates with it.
	text := base64.StdEncoding.EncodeToString(raw)
	return os.WriteFile(path, []byte(text[:64]+"\n"+text[64:]+"\n"), 0o600)
}

func arguments(cfg Config, keyFile, data, address string) []string {
	host, port, _ := net.SplitHostPort(address)
	bypass := "enableLocalhostAuthBypass=0"
	if cfg.LocalhostException {
		bypass = "enableLocalhostAuthBypass=1"
	}
	return []string{
		"--replSet", cfg.Set,
		"--bind_ip", host,
		"--port", port,
		"--dbpath", data,
		"--logpath", filepath.Join(data, "mongod.log"), "--logappend",
		"--keyFile", keyFile,
		"--nounixsocket",
		"--networkMessageCompressors", "snappy",
		"--setParameter", bypass,
		"--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100",
		"--setParameter", "diagnosticDataCollectionEnabled=false",
		"--wiredTigerCacheSizeGB", "0.25",
		"--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=8MB)",
		"--oplogSize", "64",
	}
}

// Start starts the process again after Kill or Stop ended it. It does not wait.
func (m *Member) Start(t testing.TB) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	command := exec.Command(m.binary, m.arguments...)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatalf("start mongod on %s: %v", m.Address, err)
	}
	exited := make(chan struct{})
	m.command, m.exited = command, exited
	go func() {
		_ = command.Wait()
		close(exited)
	}()
}

// Signal sends a signal, for example SIGSTOP and SIGCONT.
func (m *Member) Signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.command.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("signal %v to mongod on %s: %v", signal, m.Address, err)
	}
}

// Kill ends the process as a crash would and waits until it is gone.
func (m *Member) Kill(t testing.TB) {
	t.Helper()
	m.Signal(t, syscall.SIGKILL)
	m.waitExit(t)
}

func (m *Member) waitExit(t testing.TB) {
	t.Helper()
	m.mu.Lock()
	exited := m.exited
	m.mu.Unlock()
	select {
	case <-exited:
	case <-time.After(10 * time.Second):
		t.Errorf("mongod on %s did not exit within 10 s", m.Address)
	}
}

func (m *Member) end(t testing.TB) {
	m.Kill(t)
	if t.Failed() {
		t.Logf("the end of the log of mongod on %s:\n%s", m.Address, m.logTail())
	}
}

func (m *Member) logTail() string {
	text, err := os.ReadFile(m.logPath)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	lines = lines[max(0, len(lines)-12):]
	for i, line := range lines {
		lines[i] = line[:min(len(line), 400)]
	}
	return strings.Join(lines, "\n")
}

// WaitListening waits until mongod accepts connections.
func (m *Member) WaitListening(t testing.TB) {
	t.Helper()
	Wait(t, 20*time.Second, "mongod listens on "+m.Address, func(ctx context.Context) error {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", m.Address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// Wait polls a named condition until it returns nil; the test fails with the
// condition's last error when the time is over.
func Wait(t testing.TB, within time.Duration, condition string, check func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %s: %v", within, condition, last)
		case <-ticker.C:
		}
	}
}

// FreeAddress returns an address of host that nothing listened on a moment ago.
func FreeAddress(t testing.TB, host string) string {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// Key returns the set's shared key as mongod reads it, without white space.
func (s *Set) Key(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(s.KeyFile)
	if err != nil {
		t.Fatalf("read key file: %v", err)
	}
	return strings.Join(strings.Fields(string(text)), "")
}

// Addresses returns the members' addresses in order.
func (s *Set) Addresses() []string {
	addresses := make([]string, len(s.Members))
	for i, m := range s.Members {
		addresses[i] = m.Address
	}
	return addresses
}

// Member returns the member at an address.
func (s *Set) Member(t testing.TB, address string) *Member {
	t.Helper()
	for _, m := range s.Members {
		if m.Address == address {
			return m
		}
	}
	t.Fatalf("no member at %s", fmt.Sprint(address))
	return nil
}
