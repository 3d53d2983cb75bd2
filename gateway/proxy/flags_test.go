package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/gateway/accesslog"
	"sluice/gateway/balance"
	"sluice/gateway/proxy"
	"sluice/gateway/tcp"
	"sluice/internal/meshtest"
	"sluice/mesh"
)

// logged runs a gateway whose access log has lines of a format.
func logged(t *testing.T, world *meshtest.World, cfg proxy.Config, format string) (*lab, *lines) {
	t.Helper()
	out := &lines{}
	log, err := accesslog.New(accesslog.Config{Output: out, Format: format, Flush: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	world.Run("access log", log.Run)
	cfg.Access = log
	return with(t, world, cfg), out
}

// has waits for a line of the log that begins with a text, and returns it.
func (l *lines) has(t *testing.T, begin string) (found string) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("the log:\n%s", l)
		}
	}()
	meshtest.Wait(t, "the log has a line "+begin, func() bool {
		for line := range strings.Lines(l.String()) {
			if strings.HasPrefix(line, begin) {
				found = strings.TrimSuffix(line, "\n")
				return true
			}
		}
		return false
	})
	return found
}

// unready is a dialer that has no leaf for one node.
type unready struct {
	proxy.Dialer
	node string
}

func (u unready) DialInstance(ctx context.Context, instance mesh.Instance) (*mesh.Conn, error) {
	if instance.Node == u.node {
		return nil, fmt.Errorf("dial: %w", mesh.ErrNotReady)
	}
	return u.Dialer.DialInstance(ctx, instance)
}

// speaking returns an address at which everybody gets a text.
func speaking(t *testing.T, world *meshtest.World, text string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	attend(world, "listener", listener, func(conn net.Conn) {
		_, _ = io.WriteString(conn, text)
		_, _ = conn.Read(make([]byte, 4096)) // else the reset is faster than the text
	})
	return listener.Addr().String()
}

// flagWorld has a service for each thing that can be out of the ordinary.
func flagWorld(t *testing.T) *meshtest.World {
	world := meshtest.New(t)
	world.Policy.Set(meshtest.Allow("gateway", "*"), meshtest.Deny("gateway", "denied"))
	slow := func(_ http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/quick") {
			<-r.Context().Done()
		}
	}
	broken := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	world.Serve("web", "web-1", http.HandlerFunc(hello), "urlprefix-/web", "urlprefix-/allow allow=ip:192.0.2.0/24", "urlprefix-/closed alow=ip:192.0.2.0/24",
		"urlprefix-/auth auth=staff", "urlprefix-/strip strip=/strip")
	world.Serve("denied", "d", http.HandlerFunc(hello), "urlprefix-/denied")
	world.Serve("slow", "s-1", http.HandlerFunc(slow), "urlprefix-/late timeout=500ms retry=0", "urlprefix-/full maxconn=1", "urlprefix-/leave", "urlprefix-/hedged hedge=20ms timeout=1s")
	world.Serve("slow", "s-2", http.HandlerFunc(slow), "urlprefix-/hedged hedge=20ms timeout=1s")
	world.Serve("broken", "b-1", http.HandlerFunc(broken), "urlprefix-/reset retry=0")
	world.Serve("half", "h-1", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}), "urlprefix-/half")
	world.Serve("upload", "u-1", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }), "urlprefix-/upload")
	add := func(service, node, address, tag string) {
		world.Catalog.Add(world.Instance(service, node, address, tag))
	}
	add("nobody", "n-1", refusing(t), "urlprefix-/nobody retry=1")
	add("nobody", "n-2", refusing(t), "urlprefix-/nobody retry=1")
	add("nobody", "n-3", refusing(t), "urlprefix-/nobody retry=1")
	add("strange", "x-1", speaking(t, world, strings.Repeat("this is no TLS. ", 8)), "urlprefix-/strange retry=0")
	instanceOf(world, "odd", func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, "HTTP/1.1 nonsense\r\n\r\n")
	}, "urlprefix-/odd retry=0")
	wrong := world.Serve("other", "o-1", http.HandlerFunc(hello), "urlprefix-/other")
	add("impostor", "i-1", wrong.Address, "urlprefix-/impostor")
	add("unready", "unready", wrong.Address, "urlprefix-/unready")
	return world
}

func TestTheAccessLogSaysWhatWasOutOfTheOrdinary(t *testing.T) {
	world := flagWorld(t)
	gone := world.Serve("gone", "g-1", http.HandlerFunc(hello), "urlprefix-/gone")
	l, log := logged(t, world, proxy.Config{
		Dialer: unready{world.Dialer("gateway", nil), "unready"}, Policy: world.Policy, Auth: staff(t), BodyIdle: 50 * time.Millisecond,
		Ejection: balance.Ejection{Local: -1, Origin: -1},
	}, `$request_method $request_uri $response_status $flags "$reason"`)
	if !withStd() {
		l.impatient(t, proxy.OwnConfig{BodyIdle: 50 * time.Millisecond}, nil)
	}
	meshtest.Wait(t, "every route is there", func() bool { return l.Table().Len() == 20 })
	world.Catalog.Remove(gone)
	meshtest.Wait(t, "one instance is gone", func() bool { r, _ := l.Table().Lookup("", "/gone"); return r != nil && len(r.Instances) == 0 })
	meshtest.Wait(t, "a connection to the slow instance is kept", func() bool { return l.get("/late/quick").status == 200 })

	for _, c := range []struct{ path, want string }{
		{"/web", `200 - ""`},
		{"/nowhere", `404 NR "no route takes it"`},
		{"/web/..%2F", `400 DPE "a request like this is not carried"`},
		{"/allow", `403 CA "127.0.0.1 is in no allowed network"`},
		{"/closed", `403 CA "`},
		{"/auth", `401 CU "credentials are missing"`},
		{"/denied", `403 DI "`},
		{"/impostor", `403 WI "`},
		{"/unready", `503 NL "`},
		{"/gone", `503 UH "`},
		{"/nobody", `502 UF,URX "`},
		{"/strange", `502 URX,TF`},
		{"/late", `504 UT`},
		{"/reset", `502 UR`},
		{"/odd", `502 UPE`},
		{"/hedged", `504 UT`},
	} {
		l.get(c.path)
		line := log.has(t, "GET "+c.path+" ")
		flags := strings.Split(strings.Split(strings.TrimPrefix(line, "GET "+c.path+" "), ` "`)[0], " ")
		want := strings.Split(strings.Split(c.want, ` "`)[0], " ")
		got := strings.TrimPrefix(line, "GET "+c.path+" ")
		if flags[0] != want[0] || !strings.HasPrefix(flags[1]+",", want[1]+",") || strings.Contains(c.want, `"`) && !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s, want %s", c.path, got, c.want)
		}
	}
	if line := log.has(t, "GET /hedged "); !strings.Contains(line, ",HG ") {
		t.Errorf("the hedge is not told: %s", line)
	}
	clientsOwnFaults(t, l, log)
}

// clientsOwnFaults are what no client of net/http does.
func clientsOwnFaults(t *testing.T, l *lab, log *lines) {
	t.Helper()
	if response, err := l.client.Get(l.url + "/half"); err == nil {
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
	for _, c := range []struct{ request, begin, flag string }{
		{"", "GET /half 200 ", "UR"},
		{"GET /leave HTTP/1.1\r\nHost: x\r\n\r\n", "GET /leave ", "DC"},
		{"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf", "POST /upload 408 ", "DT"},
		{"PUT /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "PUT /upload ", "DPE"},
	} {
		var conn net.Conn
		if c.request != "" {
			conn = l.dial(t)
			fmt.Fprint(conn, c.request)
		}
		if c.flag == "DC" {
			meshtest.Wait(t, "the instance has it", func() bool { return l.inFlight("/leave") > 0 })
			if got := l.get("/full"); got.status != 503 || !strings.Contains(log.has(t, "GET /full "), "503 UO") {
				t.Errorf("one too many: %d, %s", got.status, log.has(t, "GET /full "))
			}
			_ = conn.Close()
		}
		if line := log.has(t, c.begin); !strings.Contains(line, " "+c.flag+` "`) {
			t.Errorf("want %s: %s", c.flag, line)
		}
	}
}

// inFlight is how many requests the instances of a route have.
func (l *lab) inFlight(route string) (n int64) {
	for _, r := range l.Routes().Routes {
		for _, i := range r.Instances {
			if r.Route == route {
				n += i.InFlight
			}
		}
	}
	return n
}

func TestTheAccessLogSaysThatALaterDatacenterOrEjectedInstancesWereUsed(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	serve(world, "web", "web-1", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "urlprefix-/web")
	l, log := logged(t, world, proxy.Config{
		Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Datacenter: "dc9", Datacenters: []string{"dc1"}, Ejection: balance.Ejection{Origin: 1},
	}, "$request_uri $flags")
	l.get("/web/1")
	l.get("/web/2") // its only instance is ejected by then
	for path, want := range map[string]string{"/web/1": "FO", "/web/2": "FO,PM"} {
		if line := log.has(t, path+" "); line != path+" "+want {
			t.Errorf("got %q, want %s", line, want)
		}
	}
}

func TestTheAccessLogSaysThatARequestWasCutByAStop(t *testing.T) {
	onlyOwn(t)
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	serve(world, "web", "web-1", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "urlprefix-/web")
	dialer := &held{Dialer: world.Dialer("gateway", nil), begun: make(chan struct{}), goOn: make(chan struct{})}
	l, log := logged(t, world, proxy.Config{Dialer: dialer, Policy: world.Policy}, "$request_uri $flags")
	_, _, _, cut := stopping(t, l)
	<-dialer.begun
	cut()
	if line := log.has(t, "/web "); line != "/web DR" {
		t.Errorf("got %q", line)
	}
}

func TestTheAccessLogTellsWhoWasAskedForWhatAndByWhichLeaf(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	instance := serve(world, "web", "web-1", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, mesh.ConnFromContext(r.Context()).PeerCertificate().SerialNumber.Text(16))
	}, "urlprefix-/strip strip=/strip prepend=/v1")
	l, log := logged(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy},
		"$request_uri $remote_addr $remote_port $upstream_request_uri $upstream_request_url $serial $overhead_us")
	conn := l.dial(t)
	fmt.Fprint(conn, "GET /strip/a%2Fb?q=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	serial := string(answer[strings.LastIndex(string(answer), "\n")+1:])
	_, port, _ := net.SplitHostPort(conn.LocalAddr().String())
	fields := strings.Fields(log.has(t, "/strip/a%2Fb?q=1 "))
	want := []string{"/strip/a%2Fb?q=1", conn.LocalAddr().String(), port, "/v1/a%2Fb?q=1", "https://" + instance.Address + "/v1/a%2Fb?q=1", serial}
	if serial == "" || fmt.Sprint(fields[:6]) != fmt.Sprint(want) || fields[6] == "0" {
		t.Errorf("got  %q\nwant %q and some overhead", fields, want)
	}
}

func TestTheAccessLogHasTCPConnectionsAndWhyTheyWereCut(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(meshtest.Allow("gateway", "db"))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	echoing(t, world, "db-1", "urlprefix-:"+port)
	table := tcp.NewTable(nil)
	l, log := logged(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Streams: table}, `"$request" $upstream_service $upstream_instance $upstream_addr $request_body_size $response_body_size $flags "$reason"`)
	server := tcp.New(tcp.Config{Route: l.RouteStream, Table: table, Ended: l.StreamEnded})
	world.Run("streams", func(ctx context.Context) error { return server.Serve(ctx, listener) })
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	speaks(t, conn)
	instance := l.Table().Routes()[0].Instances[0]
	cut := table.CutWhere("its instance is not healthy, or its route is gone", func(tcp.Info) bool { return true })
	ends(t, conn)
	want := fmt.Sprintf(`"TCP %s TCP" db %s %s 4 4 CT "cut: its instance is not healthy, or its route is gone"`, address, instance.ServiceID, instance.Address)
	if line := log.has(t, `"TCP `); line != want || cut != 1 {
		t.Errorf("got  %s\nwant %s", line, want)
	}
	l.StreamEnded(tcp.Info{ServerName: "drained"}, errors.Join(tcp.ErrCut, tcp.ErrDrained))
	meshtest.Wait(t, "the stop is told", func() bool { return strings.Contains(log.String(), ` DR "`) })
}
