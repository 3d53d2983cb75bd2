package listen_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/gateway/config"
	"sluice/gateway/listen"
	"sluice/gateway/tcp"
)

func TestALPNChoosesWhoServesAConnection(t *testing.T) {
	spec, _, _ := certs(t)
	both := start(t, spec, listen.Config{Std: says("std"), Own: own})
	alone := start(t, spec+";proto=grpcs", listen.Config{Std: says("std")})
	tests := []struct {
		who   *running
		http2 bool
		want  string
	}{
		{both, true, "std HTTP/2.0 tls=true client=127.0.0.1"},
		{both, false, "own HTTP/1.1 tls=true client=127.0.0.1"},
		{alone, true, "std HTTP/2.0 tls=true client=127.0.0.1"},
		{alone, false, "std HTTP/1.1 tls=true client=127.0.0.1"},
	}
	for _, test := range tests {
		if got := get(client(t, test.http2, insecure()), "https://"+test.who.addr); got != test.want {
			t.Errorf("HTTP/2 %t: got %q, want %q", test.http2, got, test.want)
		}
	}
	// Without ALPN it is HTTP/1.1.
	conn := tls.Client(dial(t, both.addr), insecure())
	if got := ask(t, conn, request); got != "HTTP/1.1 200 OK" || conn.ConnectionState().NegotiatedProtocol != "" {
		t.Errorf("got %q", got)
	}
}

func TestHTTP2WithoutTLSHasToBeAskedFor(t *testing.T) {
	for _, test := range []struct {
		spec, want string
		own        func(context.Context, net.Conn, listen.Info)
	}{
		{"h2c=true", "std HTTP/2.0 tls=false client=127.0.0.1", own},
		{"proto=grpc", "std HTTP/2.0 tls=false client=127.0.0.1", own},
		{"h2c=true", "std HTTP/2.0 tls=false client=127.0.0.1", nil},
		{"proto=http", "", own},
		{"proto=http", "", nil},
	} {
		s := start(t, test.spec, listen.Config{Std: says("std"), Own: test.own})
		got := get(client(t, true, nil), "http://"+s.addr)
		if test.want != "" && got != test.want || test.want == "" && strings.HasPrefix(got, "std") {
			t.Errorf("%s: got %q, want %q", test.spec, got, test.want)
		}
		want := "own HTTP/1.1 tls=false client=127.0.0.1"
		if test.own == nil {
			want = strings.Replace(want, "own", "std", 1)
		}
		if got := get(client(t, false, nil), "http://"+s.addr); got != want {
			t.Errorf("%s: HTTP/1.1 got %q, want %q", test.spec, got, want)
		}
	}
}

func TestAMethodThatBeginsLikeThePrefaceIsNotHTTP2(t *testing.T) {
	s := start(t, "h2c=true", listen.Config{Std: says("std"), Own: own})
	conn := dial(t, s.addr)
	for _, c := range []byte("PRI /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") {
		if _, err := conn.Write([]byte{c}); err != nil {
			t.Fatal(err)
		}
	}
	answer := make([]byte, len("HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\nown"))
	if _, err := io.ReadFull(conn, answer); err != nil || !strings.HasSuffix(string(answer), "own") {
		t.Errorf("got %q, %v", answer, err)
	}
}

func TestACertificateIsReplacedWhileConnectionsLive(t *testing.T) {
	spec, path, _ := certs(t)
	s := start(t, spec, listen.Config{Std: says("std"), Own: own, Reload: 5 * time.Millisecond})
	serial := func() int64 {
		conn := tls.Client(dial(t, s.addr), insecure())
		defer conn.Close()
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	before := tls.Client(dial(t, s.addr), insecure())
	if got := ask(t, before, request); got != "HTTP/1.1 200 OK" || serial() != 1 {
		t.Fatalf("got %q", got)
	}
	mint(t, path, 2)
	eventually(t, "the new certificate is served", func() bool { return serial() == 2 })
	if got := ask(t, before, request); got != "HTTP/1.1 200 OK" {
		t.Errorf("the old connection: %q", got)
	}
	if err := os.WriteFile(path, []byte("half a fi"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the trouble is in the snapshot", func() bool { return s.Snapshot().Problem != "" })
	if shot := s.Snapshot(); serial() != 2 || len(shot.Certificates) != 1 || !shot.NotAfter.Equal(shot.Certificates[0].NotAfter) {
		t.Errorf("got %d, %+v", serial(), shot)
	}
}

func TestOnlyModernTLSIsTaken(t *testing.T) {
	spec, _, _ := certs(t)
	s := start(t, spec, listen.Config{Std: says("std")})
	newest := start(t, spec+";tlsmin=1.3", listen.Config{Std: says("std")})
	shake := func(addr string, version uint16, suites ...uint16) error {
		conn := tls.Client(dial(t, addr), &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, CipherSuites: suites})
		defer conn.Close()
		return conn.Handshake()
	}
	for name, err := range map[string]error{
		"TLS 1.2": shake(s.addr, tls.VersionTLS12),
		"TLS 1.3": shake(s.addr, tls.VersionTLS13),
		"only":    shake(newest.addr, tls.VersionTLS13),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"TLS 1.1": shake(s.addr, tls.VersionTLS11),
		"CBC":     shake(s.addr, tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA),
		"1.2":     shake(newest.addr, tls.VersionTLS12),
	} {
		if err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	eventually(t, "failures are counted", func() bool { return s.Snapshot().BadHandshakes == 2 && newest.Snapshot().BadHandshakes == 1 })
}

func TestAClientWithoutACertificateIsRefusedWhereOneIsAskedFor(t *testing.T) {
	spec, path, pair := certs(t)
	s := start(t, spec+";clientca="+path, listen.Config{Std: says("std"), Own: own})
	if got := get(client(t, false, insecure()), "https://"+s.addr); !strings.Contains(got, "certificate required") {
		t.Errorf("got %q", got)
	}
	with := insecure()
	with.Certificates = []tls.Certificate{pair}
	if got := get(client(t, false, with), "https://"+s.addr); got != "own HTTP/1.1 tls=true client=127.0.0.1" {
		t.Errorf("got %q", got)
	}
	other := insecure()
	other.Certificates = []tls.Certificate{mint(t, t.TempDir()+"/b.pem", 1)}
	other.Certificates[0].Leaf = nil
	other.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &other.Certificates[0], nil }
	if got := get(client(t, false, other), "https://"+s.addr); !strings.Contains(got, "tls:") {
		t.Errorf("got %q", got)
	}
}

// The file of the roots is another than that of the listener's own certificate.
func TestARootOfClientsIsReplacedAndWhomItLetInIsCut(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		spec, _, _ := certs(t)
		roots, others := filepath.Join(t.TempDir(), "roots.pem"), filepath.Join(t.TempDir(), "others.pem")
		kept, gone := mint(t, others, 7), mint(t, roots, 8)
		both := append(read(t, others), read(t, roots)...)
		replace(t, roots, both)
		s := start(t, spec+";clientca="+roots, listen.Config{Std: says("std"), Own: own, Reload: 5 * time.Millisecond})
		with := func(pair tls.Certificate) *http.Client {
			config := insecure()
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
			config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			return client(t, http2, config)
		}
		stays, leaves := with(kept), with(gone)
		url := "https://" + s.addr
		for _, c := range []*http.Client{stays, leaves} {
			if got := get(c, url); !strings.Contains(got, "tls=true") {
				t.Fatalf("with both roots: %q", got)
			}
		}
		replace(t, roots, both[:len(both)-40])
		eventually(t, "half a file is a problem", func() bool { return strings.Contains(s.Snapshot().Problem, "roots.pem") })
		if got := get(leaves, url); !strings.Contains(got, "tls=true") || s.Snapshot().Open != 2 {
			t.Errorf("half a file has changed something: %q, %+v", got, s.Snapshot())
		}
		replace(t, roots, read(t, others))
		eventually(t, "the connection is cut", func() bool { return s.Snapshot().Open == 1 })
		if problem := s.Snapshot().Problem; problem != "" {
			t.Errorf("the problem stays: %s", problem)
		}
		if got := get(leaves, url); strings.Contains(got, "tls=true") {
			t.Errorf("whose root has gone gets in: %q", got)
		}
		before := s.Snapshot().Accepted
		if got := get(stays, url); !strings.Contains(got, "tls=true") || s.Snapshot().Accepted != before {
			t.Errorf("whose root is there had to connect again: %q", got)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// replace writes a file by a rename, so that nobody reads half of it.
func replace(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestASlowHandshakeIsCut(t *testing.T) {
	spec, _, _ := certs(t)
	s := start(t, spec+";handshake=30ms", listen.Config{Std: says("std"), Own: own})
	conn := dial(t, s.addr)
	if _, err := conn.Write([]byte{22, 3, 1}); err != nil {
		t.Fatal(err)
	}
	if err := ends(conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection stays")
	}
	eventually(t, "it is counted, and gone", func() bool { shot := s.Snapshot(); return shot.BadHandshakes == 1 && shot.Open == 0 })
}

func TestPlainHTTPAtATLSPortIsAnsweredInWords(t *testing.T) {
	spec, _, _ := certs(t)
	s := start(t, spec, listen.Config{Std: says("std")})
	if got := get(client(t, false, nil), "http://"+s.addr); !strings.Contains(got, "takes https") {
		t.Errorf("got %q", got)
	}
}

const header = "PROXY TCP4 192.0.2.7 192.0.2.1 1234 443\r\n"

func TestATrustedBalancerSaysWhoTheClientIs(t *testing.T) {
	infos := make(chan listen.Info, 1)
	s := start(t, "pxyproto=true;pxyfrom=127.0.0.0/8", listen.Config{Std: says("std"), Own: func(ctx context.Context, conn net.Conn, info listen.Info) {
		infos <- info
		own(ctx, conn, info)
	}})
	conn := dial(t, s.addr)
	if got := ask(t, conn, header+request); got != "HTTP/1.1 200 OK" {
		t.Fatalf("got %q", got)
	}
	info := <-infos
	if info.Client.String() != "192.0.2.7:1234" || info.Local.String() != "192.0.2.1:443" || info.PROXY == nil || info.PROXY.Version != 1 || info.Balancer.String() != conn.LocalAddr().String() {
		t.Errorf("got %+v", info)
	}
	if err := ends(dialAndSend(t, s.addr, request)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a balancer without a header is kept waiting")
	}
	eventually(t, "it is counted", func() bool { return s.Snapshot().BadHeaders == 1 })
	std := start(t, "pxyproto=true;pxyfrom=127.0.0.0/8", listen.Config{Std: says("std")})
	if got, err := io.ReadAll(dialAndSend(t, std.addr, header+"GET / HTTP/1.0\r\n\r\n")); !strings.HasSuffix(string(got), "client=192.0.2.7") {
		t.Errorf("got %q, %v", got, err)
	}
}

func dialAndSend(t *testing.T, addr, text string) net.Conn {
	t.Helper()
	conn := dial(t, addr)
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestAHeaderFromSomebodyWhoIsNotTrustedIsRefused(t *testing.T) {
	called := func(context.Context, net.Conn, listen.Info) { t.Error("it got in") }
	s := start(t, "pxyproto=true;pxyfrom=192.0.2.0/24", listen.Config{Std: says("std"), Own: called})
	if err := fate(s.addr); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("it ends with %v, want a reset", err)
	}
	eventually(t, "it is counted", func() bool { return s.Snapshot().Untrusted == 1 })
	// Where others may come directly, what they say about themselves is no header.
	others := start(t, "pxyproto=true;pxyfrom=192.0.2.0/24;pxyothers=true", listen.Config{Std: says("std")})
	if got := ask(t, dial(t, others.addr), header+request); !strings.HasPrefix(got, "HTTP/1.1 400") {
		t.Errorf("got %q", got)
	}
	if got := get(client(t, false, nil), "http://"+others.addr); got != "std HTTP/1.1 tls=false client=127.0.0.1" {
		t.Errorf("got %q", got)
	}
}

func TestOneConnectionTooManyIsClosedAtOnceAndCounted(t *testing.T) {
	spec, _, _ := certs(t)
	for _, test := range []struct {
		spec string
		cfg  listen.Config
	}{
		{"maxconn=2", listen.Config{Std: says("std")}},
		{"maxconn=2", listen.Config{Std: says("std"), Own: own}},
		{"maxconn=2;" + spec, listen.Config{Std: says("std"), Own: own}},
		{"maxconn=2;proto=tcp", listen.Config{TCP: echoTo(t)}},
	} {
		s := start(t, test.spec, test.cfg)
		first, second := dial(t, s.addr), dial(t, s.addr)
		eventually(t, "both are in", func() bool { return s.Snapshot().Open == 2 })
		if err := fate(s.addr); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: the third ends with %v, want a reset", test.spec, err)
		}
		if shot := s.Snapshot(); shot.Refused != 1 || shot.Accepted != 2 {
			t.Errorf("%s: got %+v", test.spec, shot)
		}
		_ = first.Close()
		eventually(t, "one has left", func() bool { return s.Snapshot().Open == 1 })
		_ = dial(t, s.addr)
		eventually(t, "there is room again", func() bool { shot := s.Snapshot(); return shot.Open == 2 && shot.Refused == 1 })
		_ = second.Close()
	}
}

// echoTo returns a router to a server that sends back what it gets.
func echoTo(t *testing.T) tcp.Config {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); _ = conn.Close() }()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	return tcp.Config{Route: func(_ context.Context, call tcp.Call) (tcp.Target, error) {
		if call.ServerName == "gateway.test" {
			return tcp.Target{}, tcp.ErrNoRoute
		}
		return tcp.Target{Service: "echo", Instance: "echo-1", Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
		}}, nil
	}}
}

func TestBytesAreCarried(t *testing.T) {
	s := start(t, "proto=tcp", listen.Config{TCP: echoTo(t)})
	conn := dial(t, s.addr)
	if got := ask(t, conn, "hello\n"); got != "hello" || s.Snapshot().Open != 1 {
		t.Errorf("got %q, %+v", got, s.Snapshot())
	}
	_ = conn.Close()
	eventually(t, "it has left", func() bool { return s.Snapshot().Open == 0 })
}

func TestWhatHasNoRouteByItsNameIsHTTPS(t *testing.T) {
	spec, _, _ := certs(t)
	s := start(t, spec+";proto=https+tcp+sni", listen.Config{Std: says("std"), Own: own, TCP: echoTo(t)})
	for http2, want := range map[bool]string{true: "std HTTP/2.0 tls=true client=127.0.0.1", false: "own HTTP/1.1 tls=true client=127.0.0.1"} {
		ours := insecure()
		ours.ServerName = "gateway.test"
		if got := get(client(t, http2, ours), "https://"+s.addr); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	// The hello of a name that has a route comes back as it was.
	conn := dial(t, s.addr)
	sent := make(chan []byte, 1)
	go func() {
		_ = tls.Client(recorded{conn, sent}, &tls.Config{InsecureSkipVerify: true, ServerName: "other.test"}).Handshake()
	}()
	hello := <-sent
	back := make([]byte, len(hello))
	if _, err := io.ReadFull(conn, back); err != nil || string(back) != string(hello) {
		t.Errorf("got %d bytes, %v", len(back), err)
	}
	_ = conn.Close()
	eventually(t, "it has left", func() bool { return s.Snapshot().Open <= 2 })
}

// recorded keeps the first thing that is written, and reads nothing.
type recorded struct {
	net.Conn
	sent chan []byte
}

func (r recorded) Write(p []byte) (int, error) {
	n, err := r.Conn.Write(p)
	r.sent <- append([]byte{}, p...)
	return n, err
}

func (r recorded) Read([]byte) (int, error) { return 0, io.EOF }

func TestOpenSaysWhatIsMissing(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for _, test := range []struct {
		spec string
		cfg  listen.Config
		want string
	}{
		{"127.0.0.1:0", listen.Config{}, "has no handler"},
		{"127.0.0.1:0;proto=tcp", listen.Config{}, "has no router"},
		{"127.0.0.1:0;certs=/nonexistent", listen.Config{Std: says("std")}, "/nonexistent"},
		{busy.Addr().String(), listen.Config{Std: says("std")}, "address already in use"},
	} {
		test.cfg.Listener, err = config.ParseListener(test.spec)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := listen.Open(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.spec, err, test.want)
		}
	}
	spec, path, _ := certs(t)
	if err := os.WriteFile(path+".txt", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := config.ParseListener("127.0.0.1:0;" + spec + ";clientca=" + path + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listen.Open(listen.Config{Listener: l, Std: says("std")}); err == nil || !strings.Contains(err.Error(), "there is no certificate in it") {
		t.Errorf("got %v", err)
	}
}

func TestAFailureOfTheListenerEndsRunWithIt(t *testing.T) {
	for _, spec := range []string{"proto=http", "proto=tcp"} {
		l, _ := config.ParseListener("127.0.0.1:0;" + spec)
		s, err := listen.Open(listen.Config{Listener: l, Std: says("std"), TCP: echoTo(t)})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.Run(t.Context()) }()
		_ = s.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: got %v", spec, err)
		}
	}
}

// passes reads the head of a request, and passes the connection on as proxy.Own
// does.
func passes(s **running) func(context.Context, net.Conn, listen.Info) {
	return func(_ context.Context, conn net.Conn, _ listen.Info) {
		reader := bufio.NewReader(conn)
		_, _ = reader.Peek(1)
		(*s).PassOn(passed{conn, reader})
	}
}

type passed struct {
	net.Conn
	rest *bufio.Reader
}

func (p passed) Read(b []byte) (int, error) { return p.rest.Read(b) }
func (p passed) NetConn() net.Conn          { return p.Conn }

func TestAConnectionThatIsPassedOnIsServedAndStaysKnown(t *testing.T) {
	spec, _, _ := certs(t)
	var s *running
	s = start(t, spec, listen.Config{Std: says("std"), Own: passes(&s)})
	if got := get(client(t, false, insecure()), "https://"+s.addr); got != "std HTTP/1.1 tls=true client=127.0.0.1" {
		t.Errorf("got %q", got)
	}
	if shot := s.Snapshot(); shot.Open != 1 || shot.Accepted != 1 {
		t.Errorf("got %+v", shot)
	}
}
