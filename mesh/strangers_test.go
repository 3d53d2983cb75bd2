package mesh_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"sluice/internal/testca"
	"sluice/mesh"
)

// rawClient is a TLS client that is not of this mesh's make.
func rawClient(leaf *tls.Certificate) *tls.Config {
	cfg := &tls.Config{InsecureSkipVerify: true}
	if leaf != nil {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return leaf, nil }
	}
	return cfg
}

// served reports whether a server that greets every accepted connection with one
// byte greets this client.
func served(address string, cfg *tls.Config) (tls.ConnectionState, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, cfg)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, err = io.ReadFull(conn, make([]byte, 1))
	return conn.ConnectionState(), err
}

// wrongClients are those that speak TLS; right is what they fail to be.
func wrongClients(t *testing.T, w *world) (wrong map[string]*tls.Config, right *tls.Certificate) {
	otherCA := testca.NewRoot(t, trustDomain)
	dc2 := w.ca.Root().Intermediate(t, "dc2")
	web := testca.Leaf{Datacenter: "dc1", Service: "web"}
	with := func(change func(*testca.Leaf)) *tls.Certificate {
		leaf := web
		change(&leaf)
		return w.ca.Leaf(t, leaf)
	}
	right = w.ca.Leaf(t, web)
	stolen := *right
	stolen.PrivateKey = otherCA.Leaf(t, web).PrivateKey
	unchained := *right
	unchained.Certificate = right.Certificate[:1]
	tls12 := rawClient(right)
	tls12.MaxVersion = tls.VersionTLS12

	return map[string]*tls.Config{
		"no certificate":             rawClient(nil),
		"other CA":                   rawClient(otherCA.Leaf(t, web)),
		"TLS 1.2":                    tls12,
		"certificate without a key":  rawClient(&stolen),
		"intermediate left out":      rawClient(&unchained),
		"right CA, other service":    rawClient(w.ca.Leaf(t, testca.Leaf{Datacenter: "dc1", Service: "gateway"})),
		"right name, wrong case":     rawClient(w.ca.Leaf(t, testca.Leaf{Datacenter: "dc1", Service: "Web"})),
		"right name, other dc":       rawClient(dc2.Leaf(t, testca.Leaf{Datacenter: "dc2", Service: "web"})),
		"right name, other domain":   rawClient(with(func(l *testca.Leaf) { l.TrustDomain = "66666666-2222-3333-4444-555555555555.consul" })),
		"expired":                    rawClient(with(func(l *testca.Leaf) { l.NotAfter = time.Now().Add(-10 * time.Second) })),
		"not valid yet":              rawClient(with(func(l *testca.Leaf) { l.NotBefore = time.Now().Add(time.Hour) })),
		"no identity":                rawClient(with(func(l *testca.Leaf) { l.URIs = []string{} })),
		"two identities":             rawClient(with(func(l *testca.Leaf) { l.URIs = []string{w.id("web").String(), w.id("gateway").String()} })),
		"an agent's identity":        rawClient(with(func(l *testca.Leaf) { l.URIs = []string{"spiffe://" + trustDomain + "/agent/client/dc/dc1/id/web"} })),
		"a signing certificate":      rawClient(with(func(l *testca.Leaf) { l.IsCA = true })),
		"not for clients":            rawClient(with(func(l *testca.Leaf) { l.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })),
		"another namespace":          rawClient(with(func(l *testca.Leaf) { l.URIs = []string{"spiffe://" + trustDomain + "/ns/team/dc/dc1/svc/web"} })),
		"leaf signed by a leaf":      rawClient(leafSignedByLeaf(t, w, web)),
		"wildcard as a service name": rawClient(with(func(l *testca.Leaf) { l.URIs = []string{"spiffe://" + trustDomain + "/ns/default/dc/dc1/svc/*"} })),
	}, right
}

func TestWrongClientsAreNeverHandedOut(t *testing.T) {
	w := newWorld(t)
	clients, right := wrongClients(t, w)
	server := w.listen("mongo-primary", allowing(allow("web", "mongo-primary")), nil)
	server.handle(t, func(c net.Conn) { _, _ = c.Write([]byte{1}) })
	for name, cfg := range clients {
		t.Run(name, func(t *testing.T) {
			if _, err := served(server.Addr().String(), cfg); err == nil {
				t.Error("served")
			}
		})
	}
	t.Run("no TLS", func(t *testing.T) {
		conn, err := net.Dial("tcp", server.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: web\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(conn); len(b) > 0 && b[0] != 0x15 {
			t.Errorf("answered %q, want at most a TLS alert", b)
		}
	})
	eventually(t, "every stranger is counted", func() bool {
		c := server.table.Counters()
		return c.Denied+c.HandshakeFailed == uint64(len(clients)+1)
	})
	if c := server.table.Counters(); c.Accepted != 0 || c.Denied == 0 {
		t.Errorf("counters: %+v", c)
	}
	if _, err := served(server.Addr().String(), rawClient(right)); err != nil {
		t.Errorf("the right client is not served any more: %v", err)
	}
}

func leafSignedByLeaf(t *testing.T, w *world, leaf testca.Leaf) *tls.Certificate {
	signer := w.ca.Leaf(t, testca.Leaf{Datacenter: "dc1", Service: "gateway"})
	return testca.SignedBy(t, signer, w.ca, leaf)
}

func TestClientsOfOtherMakesAreServed(t *testing.T) {
	w := newWorld(t)
	server := w.listen("web", allowing(allow("gateway", "web")), nil)
	server.handle(t, func(c net.Conn) { _, _ = c.Write([]byte{1}) })
	leaf := w.ca.Leaf(t, testca.Leaf{Datacenter: "dc1", Service: "gateway"})
	for name, protocols := range map[string][]string{"no ALPN": nil, "h2": {"h2", "http/1.1"}} {
		cfg := rawClient(leaf)
		cfg.NextProtos = protocols
		state, err := served(server.Addr().String(), cfg)
		if err != nil || state.NegotiatedProtocol != "" {
			t.Errorf("%s: negotiated %q, %v", name, state.NegotiatedProtocol, err)
		}
	}
}

func TestASourceInAnotherDatacenterIsServedWhereItIsNamed(t *testing.T) {
	w := newWorld(t)
	policy := allowing(allow("web", "mongo-primary"))
	server := w.listen("mongo-primary", policy, func(c *mesh.ListenConfig) {
		c.Authorizer = mesh.NewAuthorizer(mesh.AuthorizerConfig{Service: "mongo-primary", Policy: policy, Datacenters: []string{"dc1", "dc2"}})
	})
	server.echo(t)
	for datacenter, want := range map[string]bool{"dc1": true, "dc2": true, "dc3": false} {
		dialer, _ := w.dialer("web", func(c *mesh.DialerConfig) { c.Credentials = w.identityIn(datacenter, "web") })
		_, err := dialer.DialInstance(t.Context(), server.instance())
		if (err == nil) != want {
			t.Errorf("%s: %v", datacenter, err)
		}
	}
}

func TestWrongServersAreNeverTalkedTo(t *testing.T) {
	w := newWorld(t)
	mongo := testca.Leaf{Datacenter: "dc1", Service: "mongo-primary"}
	with := func(change func(*testca.Leaf)) *tls.Certificate {
		leaf := mongo
		change(&leaf)
		return w.ca.Leaf(t, leaf)
	}
	servers := map[string]struct {
		leaf  *tls.Certificate
		wrong bool
	}{
		"other CA":      {leaf: testca.NewRoot(t, trustDomain).Leaf(t, mongo)},
		"expired":       {leaf: with(func(l *testca.Leaf) { l.NotAfter = time.Now().Add(-10 * time.Second) })},
		"not a server":  {leaf: with(func(l *testca.Leaf) { l.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })},
		"no identity":   {leaf: with(func(l *testca.Leaf) { l.URIs = []string{} })},
		"other service": {wrong: true, leaf: with(func(l *testca.Leaf) { l.Service = "mongo-secondary" })},
		"other dc":      {wrong: true, leaf: with(func(l *testca.Leaf) { l.Datacenter = "dc2" })},
		"other domain":  {wrong: true, leaf: with(func(l *testca.Leaf) { l.TrustDomain = "66666666-2222-3333-4444-555555555555.consul" })},
		"other case":    {wrong: true, leaf: with(func(l *testca.Leaf) { l.Service = "Mongo-primary" })},
	}
	for name, server := range servers {
		t.Run(name, func(t *testing.T) {
			address := stockServer(t, &tls.Config{Certificates: []tls.Certificate{*server.leaf}, ClientAuth: tls.RequireAnyClientCert})
			dialer, table := w.dialer("web", nil)
			_, err := dialer.DialInstance(t.Context(), mesh.Instance{Address: address, ID: w.id("mongo-primary")})
			if err == nil || errors.Is(err, mesh.ErrWrongIdentity) != server.wrong {
				t.Errorf("got %v", err)
			}
			if n := len(table.Connections()); n != 0 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

func TestARefusalByAServerOfAnotherMakeIsADeniedErrorAtTheFirstRead(t *testing.T) {
	w := newWorld(t)
	leaf := w.ca.Leaf(t, testca.Leaf{Datacenter: "dc1", Service: "mongo-primary"})
	for name, protocols := range map[string][]string{"no ALPN": nil, "insists on h2": {"h2"}} {
		address := stockServer(t, &tls.Config{
			Certificates: []tls.Certificate{*leaf}, ClientAuth: tls.RequireAnyClientCert, NextProtos: protocols,
			VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error { return errors.New("no") },
		})
		dialer, _ := w.dialer("web", nil)
		conn, err := dialer.DialInstance(t.Context(), mesh.Instance{Address: address, ID: w.id("mongo-primary")})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, err = conn.Read(make([]byte, 1))
		var denied *mesh.DeniedError
		if !errors.As(err, &denied) || denied.By != mesh.ByDestination {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// stockServer accepts, shakes hands and holds what it accepted.
func stockServer(t *testing.T, cfg *tls.Config) (address string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var conns []net.Conn
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
			_ = conn.SetDeadline(time.Now().Add(patience))
			_ = conn.(*tls.Conn).Handshake()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
	return l.Addr().String()
}

// FuzzFirstBytes: whatever the first bytes are, a server does not panic, hands
// nothing out, and ends the connection.
func FuzzFirstBytes(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte{0x16, 0x03, 0x01, 0x00, 0x05, 0x01, 0x00, 0x00, 0x01, 0x03})
	f.Add([]byte{0x16, 0x03, 0x01, 0xff, 0xff, 0x01, 0x00, 0x00, 0x01, 0x03})
	f.Add([]byte{0x17, 0x03, 0x03, 0x00, 0x01, 0x00})
	f.Add([]byte{0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x2a})
	f.Add(clientHello(f))
	w := newWorld(f)
	server := w.listen("web", allowing(allow("*", "*")), func(c *mesh.ListenConfig) { c.HandshakeTimeout = 2 * time.Second })
	server.handle(f, func(net.Conn) {})
	f.Fuzz(func(t *testing.T, first []byte) {
		conn, err := net.Dial("tcp", server.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = conn.Write(first)
		_ = conn.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		if c := server.table.Counters(); c.Accepted != 0 {
			t.Fatalf("handed out: %+v", c)
		}
	})
}

// clientHello returns the first flight of a client.
func clientHello(tb testing.TB) []byte {
	tb.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(theirs, &tls.Config{InsecureSkipVerify: true}).Handshake()
	}()
	hello := make([]byte, 16<<10)
	n, err := ours.Read(hello)
	_ = ours.Close()
	<-done
	if err != nil {
		tb.Fatal(err)
	}
	return hello[:n]
}
