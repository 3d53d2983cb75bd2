package hostport

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// What the test binary plays: a process that holds an address until its standard
// input ends, and one that wants it.
const (
	argHold = "__hold"
	argWant = "__want"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == argWant {
		_, err := Bind(os.Args[2])
		_, _ = io.WriteString(os.Stdout, err.Error())
		return
	}
	if len(os.Args) == 3 && os.Args[1] == argHold {
		if _, err := net.Listen("tcp", os.Args[2]); err != nil {
			panic(err)
		}
		_, _ = os.Stdout.WriteString("up\n")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	goleak.VerifyTestMain(m)
}

// hold starts a process that listens at address.
func hold(t *testing.T, address string) *exec.Cmd {
	t.Helper()
	directory, err := os.MkdirTemp("", "sluice-hostport-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(directory, "nginx")
	if err := errors.Join(os.Chmod(directory, 0o755), os.WriteFile(path, program, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, argHold, address)
	cmd.Dir = "/"
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
	if _, err := io.ReadFull(stdout, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// free returns an address that nobody listens at.
func free(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func TestABusyPortIsNamedWithItsHolder(t *testing.T) {
	address := free(t)
	_, port, _ := net.SplitHostPort(address)
	for _, held := range []string{address, "0.0.0.0:" + port, "[::]:" + port} {
		t.Run(held, func(t *testing.T) {
			holder := hold(t, held)
			_, err := Bind(address)
			var busy *BusyError
			if !errors.As(err, &busy) || busy.PID != holder.Process.Pid || busy.Process != "nginx" {
				t.Fatalf("err = %v (%+v), want nginx, pid %d", err, busy, holder.Process.Pid)
			}
			if want := address + " is in use by nginx (pid "; !strings.HasPrefix(err.Error(), want) {
				t.Errorf("err = %v, want %q", err, want)
			}
			if !strings.Contains(busy.Hint(), "--port-offset 100") || !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("hint = %q, err = %v", busy.Hint(), err)
			}
		})
	}
}

func TestWhatWeMayNotSeeIsSaid(t *testing.T) {
	for want, busy := range map[string]BusyError{
		"127.0.0.1:9999 is in use by nginx (pid 123)":                                      {Address: "127.0.0.1:9999", Process: "nginx", PID: 123, UID: 0},
		"127.0.0.1:9999 is in use by a process of user 0, which this user may not look at": {Address: "127.0.0.1:9999", UID: 0},
		"127.0.0.1:9999 is in use by a process that is not visible from here":              {Address: "127.0.0.1:9999", UID: -1},
	} {
		if got := busy.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestAnotherUsersProcessIsKnownByItsUserAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("SLUICE_REQUIRE") == "1" {
			t.Fatal("this test needs root, to become another user")
		}
		t.Log("without root there is no other user to become")
		return
	}
	address := free(t)
	holder := hold(t, address)
	cmd := exec.CommandContext(t.Context(), holder.Path, argWant, address)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	output, err := cmd.CombinedOutput()
	if want := address + " is in use by a process of user 0, which this user may not look at"; err != nil || string(output) != want {
		t.Errorf("%q, %v, want %q", output, err, want)
	}
}

func TestListenWantsALiteralAddress(t *testing.T) {
	for _, address := range []string{"localhost:9999", ":9999", "127.0.0.1"} {
		if _, err := Bind(address); err == nil || !strings.Contains(err.Error(), "literal") {
			t.Errorf("%s: %v", address, err)
		}
	}
	socket, err := Bind("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = socket.Close()
}

// listening is a listener as the lab makes it.
func listening(t *testing.T) net.Listener {
	t.Helper()
	socket, err := Bind("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	listener, err := Serve(socket)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// The port of a datacenter that does not run must say so, not keep people waiting.
func TestAPortRefusesWheneverItIsNotServed(t *testing.T) {
	free := listening(t) // a port that was asked for stays, one that the kernel chose does not
	address := free.Addr().String()
	_ = free.Close()
	socket, err := Bind(address)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if _, err := net.Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("before it is served: %v", err)
	}
	listener, err := Serve(socket)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatalf("while it is served: %v", err)
		}
		_ = conn.Close()
		Refuse(socket)
		_ = listener.Close()
		if _, err := net.Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("while it is not served: %v", err)
		}
		if listener, err = Serve(socket); err != nil {
			t.Fatal(err)
		}
		if got := listener.Addr().String(); got != address {
			t.Fatalf("served again on %s, want %s", got, address)
		}
	}
	_ = listener.Close()
}

func TestTablesOfSocketsAreRead(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:270F 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0000000000000000 100 0 0 10 0
   1: 0100007F:270F 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 4243 1 0000000000000000 100 0 0 10 0
   2: 0000000000000000FFFF00000100007F:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 99 1 0
   3: 00000000000000000000000001000000:1F91 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 98 1 0
`
	got, err := parseListeners(strings.NewReader(table))
	if err != nil || len(got) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	for i, want := range []string{"127.0.0.1:9999", "[::ffff:127.0.0.1]:8080", "[::1]:8081"} {
		if got[i].local != netip.MustParseAddrPort(want) {
			t.Errorf("socket %d is at %s, want %s", i, got[i].local, want)
		}
	}
	if got[0].uid != 1000 || got[0].inode != "4242" {
		t.Errorf("socket = %+v", got[0])
	}
	for _, bad := range []string{"x:1", "0100007F", "0100007F:FFFFF", "01:0050"} {
		if _, err := parseAddress(bad); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}

func TestOnlyWhatIsInTheWayCounts(t *testing.T) {
	for _, tc := range []struct {
		held, want string
		inTheWay   bool
	}{
		{"127.0.0.1:1", "127.0.0.1:1", true},
		{"127.0.0.1:1", "127.0.0.1:2", false},
		{"127.0.0.2:1", "127.0.0.1:1", false},
		{"0.0.0.0:1", "127.0.0.1:1", true},
		{"[::]:1", "127.0.0.1:1", true},
		{"[::ffff:127.0.0.1]:1", "127.0.0.1:1", true},
		{"[::1]:1", "127.0.0.1:1", false},
		{"127.0.0.9:1", "0.0.0.0:1", true},
	} {
		if got := inTheWay(netip.MustParseAddrPort(tc.held), netip.MustParseAddrPort(tc.want)); got != tc.inTheWay {
			t.Errorf("%s in the way of %s = %v", tc.held, tc.want, got)
		}
	}
}

// forward forwards to what dial makes until the test ends, and returns where.
func forward(t *testing.T, dial func(context.Context) (net.Conn, error)) string {
	t.Helper()
	listener := listening(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Forward(ctx, listener, dial, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

func dialTo(address string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "tcp", address)
	}
}

// pair returns both ends of a forwarded connection.
func pair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	outer, err := net.Dial("tcp", forward(t, dialTo(listener.Addr().String())))
	if err != nil {
		t.Fatal(err)
	}
	inner, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, conn := range []net.Conn{outer, inner} {
		t.Cleanup(func() { _ = conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	return outer.(*net.TCPConn), inner.(*net.TCPConn)
}

func TestWhoHasNoMoreToSayMayStillListen(t *testing.T) {
	client, server := pair(t)
	if _, err := io.WriteString(client, "question"); err != nil {
		t.Fatal(err)
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(server); err != nil || string(got) != "question" {
		t.Fatalf("server got %q, %v", got, err)
	}
	if _, err := io.WriteString(server, "answer"); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(client); err != nil || string(got) != "answer" {
		t.Errorf("client got %q, %v", got, err)
	}
}

func TestABrokenSideBreaksTheOther(t *testing.T) {
	client, server := pair(t)
	if err := errors.Join(server.SetLinger(0), server.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(client); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client got %v, want a reset", err)
	}
}

func TestAFailedDialBreaksTheConnectionAtOnce(t *testing.T) {
	client, err := net.Dial("tcp", forward(t, dialTo(free(t))))
	if errors.Is(err, syscall.ECONNRESET) {
		return // so much at once that connect itself saw it
	}
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(client); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client got %v, want a reset", err)
	}
}

func TestForwardEndsWithItsContextAndClosesAll(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	listener := listening(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Forward(ctx, listener, dialTo(echo.Addr().String()), slog.New(slog.DiscardHandler)) }()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := echo.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Forward goes on")
	}
	if _, err := net.Dial("tcp", listener.Addr().String()); err == nil {
		t.Error("the address still answers")
	}
}

func TestForwardSaysWhyItCannotGoOn(t *testing.T) {
	listener := listening(t)
	_ = listener.Close()
	if err := Forward(t.Context(), listener, nil, slog.New(slog.DiscardHandler)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("err = %v", err)
	}
}
