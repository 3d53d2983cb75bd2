package listen_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/gateway/config"
	"sluice/gateway/listen"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// running is a listener that runs.
type running struct {
	*listen.Server
	addr string
	// halt begins a stop, and stop also waits for its end.
	halt context.CancelFunc
	stop func() error
}

// start runs a listener; spec has no address.
func start(t *testing.T, spec string, cfg listen.Config) *running {
	t.Helper()
	l, err := config.ParseListener("127.0.0.1:0;" + spec)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listener = l
	s, err := listen.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r := &running{Server: s, addr: s.Addr().String(), halt: cancel}
	r.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return r
}

// says is a handler that tells who answers and what it knows.
func says(who string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := listen.InfoOf(r.Context())
		fmt.Fprintf(w, "%s %s tls=%t client=%s", who, r.Proto, r.TLS != nil && info.TLS != nil, info.Client.Addr())
	})
}

// own is a codec in a few lines: one answer per request, as proxy.Own ends.
func own(ctx context.Context, conn net.Conn, info listen.Info) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	reader := bufio.NewReader(conn)
	for {
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, request.Body)
		text := fmt.Sprintf("own %s tls=%t client=%s", request.Proto, info.TLS != nil, info.Client.Addr())
		if _, err := fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text); err != nil {
			return
		}
	}
}

// mint writes a certificate for 127.0.0.1 and its key into one file, signed by
// itself, and returns it for clients to trust and to show.
func mint(t *testing.T, path string, serial int64) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{"gateway.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true, IsCA: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	secret := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	replace(t, path, append(append([]byte{}, chain...), secret...))
	pair, err := tls.X509KeyPair(chain, secret)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// certs returns a folder with one certificate, and its path and that.
func certs(t *testing.T) (spec, path string, pair tls.Certificate) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "a.pem")
	pair = mint(t, path, 1)
	return "certs=" + filepath.Dir(path), path, pair
}

func insecure() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

// client speaks HTTP/1.1, or HTTP/2 alone, to one address.
func client(t *testing.T, http2 bool, config *tls.Config) *http.Client {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2 && config != nil)
	protocols.SetUnencryptedHTTP2(http2 && config == nil)
	transport := &http.Transport{TLSClientConfig: config, Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// get returns the body of an answer, or the error.
func get(c *http.Client, url string) string {
	response, err := c.Get(url)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// ask sends text and returns the first line of the answer.
func ask(t *testing.T, conn net.Conn, text string) string {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		return err.Error()
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return line + err.Error()
	}
	return strings.TrimSpace(line)
}

const request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

// ends reports how a connection ends from which nothing more comes.
func ends(conn net.Conn) error {
	_, err := io.Copy(io.Discard, conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if err == nil {
		return io.EOF
	}
	return err
}

// fate reports how a connection ends that says nothing; a reset may come before
// the dial returns.
func fate(addr string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	return ends(conn)
}
