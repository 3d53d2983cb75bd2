package mesh_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"sluice/mesh"
)

func TestAnAllowedServiceSpeaksAndBothSidesKnowEachOther(t *testing.T) {
	w := newWorld(t)
	server := w.listen("mongo-primary", allowing(allow("web", "mongo-primary")), nil)
	accepted := make(chan *mesh.Conn, 1)
	server.handle(t, func(c net.Conn) {
		accepted <- c.(*mesh.Conn)
		_, _ = io.Copy(c, c)
	})
	dialer, table := w.dialer("web", nil)
	conn := mustDial(t, dialer, server.instance())
	roundTrip(t, conn, "hello")

	if got := conn.Peer(); got != w.id("mongo-primary") {
		t.Errorf("client sees %s", got)
	}
	inbound := <-accepted
	if got := inbound.Peer(); got != w.id("web") {
		t.Errorf("server sees %s", got)
	}
	if d := inbound.Decision(); !d.Allowed || d.Rule == nil || d.Rule.Edge() != "web -> mongo-primary" {
		t.Errorf("decision does not carry its rule: %+v", d)
	}
	for name, table := range map[string]*mesh.Table{"server": server.table, "client": table} {
		eventually(t, name+" table shows the connection and its bytes", func() bool {
			live := table.Connections()
			return len(live) == 1 && live[0].Source == w.id("web") && live[0].Destination == w.id("mongo-primary") &&
				live[0].BytesIn == 5 && live[0].BytesOut == 5 && live[0].PeerSerial != "" && live[0].LocalSerial != "" && live[0].LocalSerial != live[0].PeerSerial
		})
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both tables are empty", func() bool {
		return len(server.table.Connections())+len(table.Connections()) == 0
	})
}

func TestADialToADestinationThatDeniesIsADeniedError(t *testing.T) {
	w := newWorld(t)
	server := w.listen("mongo-primary", allowing(deny("web", "mongo-primary")), nil)
	dialer, table := w.dialer("web", nil)
	_, err := dialer.DialInstance(t.Context(), server.instance())
	var denied *mesh.DeniedError
	if !errors.As(err, &denied) || !errors.Is(err, mesh.ErrDenied) || denied.By != mesh.ByDestination {
		t.Fatalf("got %v", err)
	}
	if got, want := denied.Error(), "denied by the destination: web -> mongo-primary"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	eventually(t, "the server has counted the deny", func() bool { return server.table.Counters().Denied == 1 })
	if c := table.Counters(); c.DialDenied != 1 || c.Dialled != 0 {
		t.Errorf("client counters: %+v", c)
	}
}

func TestADenyThatTheSourceKnowsIsNotDialledAndNamesTheIntention(t *testing.T) {
	w := newWorld(t)
	server := w.listen("mongo-primary", allowing(allow("web", "mongo-primary")), nil)
	dialer, _ := w.dialer("web", func(c *mesh.DialerConfig) { c.Policy = allowing(deny("web", "mongo-primary")) })
	_, err := dialer.DialInstance(t.Context(), server.instance())
	var denied *mesh.DeniedError
	if !errors.As(err, &denied) || denied.By != mesh.BySource {
		t.Fatalf("got %v", err)
	}
	if got, want := denied.Error(), "denied by intention web -> mongo-primary"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if c := server.table.Counters(); c.Accepted+c.Denied+c.HandshakeFailed != 0 {
		t.Errorf("the server has been dialled: %+v", c)
	}
}

func TestHalfCloseKeepsTheOtherDirectionOpen(t *testing.T) {
	w := newWorld(t)
	server := w.listen("web", allowing(allow("gateway", "web")), nil)
	server.handle(t, func(c net.Conn) {
		all, err := io.ReadAll(c)
		if err != nil {
			t.Errorf("server reads: %v", err)
		}
		_, _ = c.Write(append(all, " and goodbye"...))
	})
	dialer, _ := w.dialer("gateway", nil)
	conn := mustDial(t, dialer, server.instance())
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || string(answer) != "hello and goodbye" {
		t.Errorf("got %q, %v", answer, err)
	}
}

func TestAnHTTPServerFindsTheConnectionOfARequest(t *testing.T) {
	w := newWorld(t)
	listener := w.listen("web", allowing(allow("gateway", "web")), nil)
	server := &http.Server{
		ReadHeaderTimeout: patience,
		ConnContext:       mesh.ConnContext,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, mesh.ConnFromContext(r.Context()).Peer().Service())
		}),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	dialer, _ := w.dialer("gateway", func(c *mesh.DialerConfig) { c.Resolver = resolving(listener.instance()) })
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.Dial(ctx, "web")
	}}
	response, err := (&http.Client{Transport: transport}).Get("http://web/")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if string(body) != "gateway" {
		t.Errorf("got %q", body)
	}
	transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	<-served
}

func TestTheReportIsJSONAndSaysWhetherTheChainHolds(t *testing.T) {
	w := newWorld(t)
	policy := allowing(allow("web", "mongo-primary"))
	server := w.listen("mongo-primary", policy, nil)
	server.echo(t)
	dialer, _ := w.dialer("web", nil)
	roundTrip(t, mustDial(t, dialer, server.instance()), "hello")

	missing, stranger := &identityOf{}, newWorld(t).identity("web")
	c, _ := stranger.Credentials()
	mine, _ := w.identity("web").Credentials()
	stranger.set(c.Certificate, mine.Roots)
	handler := mesh.ReportConfig{
		Credentials: []mesh.CredentialSource{w.identity("mongo-primary"), missing, stranger},
		Policies: []mesh.PolicyRef{
			{Service: "mongo-primary", Side: mesh.SideDestination, Source: policy},
			{Service: "mongo-primary", Side: mesh.SideSource, Source: newPolicy()},
		},
		Table: server.table,
	}.Handler()
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/mesh", nil))
	var report mesh.Report
	if err := json.Unmarshal(recorder.Body.Bytes(), &report); err != nil {
		t.Fatalf("%v in %s", err, recorder.Body)
	}
	if got := report.Identities; len(got) != 3 || got[0].Chain != "ok" || got[1].Chain == "ok" || got[2].Chain == "ok" {
		t.Errorf("identities: %+v", got)
	}
	if got := report.Policies; len(got) != 2 || !got[0].Arrived || len(got[0].Rules) != 1 || got[1].Arrived {
		t.Errorf("policies: %+v", got)
	}
	if len(report.Connections) != 1 || report.Counters.Accepted != 1 {
		t.Errorf("connections: %+v, counters: %+v", report.Connections, report.Counters)
	}
	recorder = httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/mesh", nil))
	if recorder.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", recorder.Code)
	}
}

func TestDrainWaitsForLiveConnectionsThenCuts(t *testing.T) {
	w := newWorld(t)
	server := w.listen("web", allowing(allow("gateway", "web")), func(c *mesh.ListenConfig) { c.DrainTimeout = 200 * time.Millisecond })
	server.echo(t)
	dialer, _ := w.dialer("gateway", nil)
	short, long := mustDial(t, dialer, server.instance()), mustDial(t, dialer, server.instance())
	roundTrip(t, short, "before")
	roundTrip(t, long, "before")

	stopped := make(chan struct{})
	began := time.Now()
	go func() {
		server.stop()
		close(stopped)
	}()
	eventually(t, "new connections are refused", func() bool {
		c, err := net.Dial("tcp", server.Addr().String())
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	roundTrip(t, short, "while draining")
	if err := short.Close(); err != nil {
		t.Error(err)
	}
	if err := ended(t, long); err == io.EOF {
		t.Error("the long connection was closed politely, want a reset")
	}
	<-stopped
	if took := time.Since(began); took < 200*time.Millisecond || took > 2*time.Second {
		t.Errorf("draining took %s", took)
	}
	if _, err := server.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after the end: %v", err)
	}
}
