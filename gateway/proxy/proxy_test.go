package proxy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"sluice/gateway/proxy"
	"sluice/gateway/tcp"
	"sluice/internal/meshtest"
	"sluice/mesh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// codec is which of the two the tests go through: the gateway's own, or "std".
const codec = "SLUICE_TEST_CODEC"

// TestAllOfThisHoldsWithNetHTTPToo runs the tests of the package once more.
func TestAllOfThisHoldsWithNetHTTPToo(t *testing.T) {
	if os.Getenv(codec) != "" {
		t.Skip("this is the second time")
	}
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.count=1", "-test.timeout=5m")
	again.Env = append(os.Environ(), codec+"=std")
	if out, err := again.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// listen serves a gateway on a port of its own and returns its URL.
func listen(t *testing.T, p *proxy.Proxy) string {
	t.Helper()
	return listenWith(t, p, proxy.OwnConfig{})
}

// listenWith is listen with limits of the gateway's own codec.
func listenWith(t *testing.T, p *proxy.Proxy, cfg proxy.OwnConfig) string {
	t.Helper()
	if os.Getenv(codec) == "std" {
		server := httptest.NewServer(p)
		t.Cleanup(server.Close)
		return server.URL
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handoff := tcp.NewHandoff(listener.Addr())
	fallback := &http.Server{Handler: p, ReadHeaderTimeout: time.Second}
	cfg.Fallback = func(c net.Conn) { handoff.Give(c) }
	own := p.Own(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = fallback.Serve(handoff) })
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { own.Serve(ctx, conn, proxy.Connection{}) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		_ = fallback.Close()
		_ = handoff.Close()
		running.Wait()
	})
	return "http://" + listener.Addr().String()
}

// lab is a gateway in front of a world.
type lab struct {
	*meshtest.World
	*proxy.Proxy
	t        *testing.T
	url      string
	client   *http.Client
	registry *prometheus.Registry
}

// start runs a gateway whose own view of the intentions is policy; nil is the
// world's.
func start(t *testing.T, world *meshtest.World, policy *meshtest.Policy) *lab {
	t.Helper()
	if policy == nil {
		policy = world.Policy
	}
	l := &lab{World: world, t: t, registry: prometheus.NewRegistry()}
	l.Proxy = proxy.New(proxy.Config{
		Catalog: world.Catalog, Dialer: world.Dialer("gateway", policy), Policy: policy,
		Registerer: l.registry, ExplainErrors: true, Timeout: 2000 * time.Millisecond,
	})
	world.Run("gateway", l.Proxy.Run)
	l.connect(t)
	l.client.Timeout = 10 * time.Second
	want := 0
	for _, instances := range world.Catalog.Services() {
		if len(instances[0].Tags) > 0 {
			want++
		}
	}
	meshtest.Wait(t, "the gateway has read the catalog", func() bool { return len(l.Table().Routes()) >= want })
	return l
}

// connect makes the gateway reachable, and a client for it.
func (l *lab) connect(t *testing.T) {
	t.Helper()
	l.url = listen(t, l.Proxy)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	l.client = &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (l *lab) do(method, path, body string, header ...string) answer {
	l.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	request, err := http.NewRequest(method, l.url+path, reader)
	if err != nil {
		l.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := l.client.Do(request)
	if err != nil {
		l.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(text)}
}

func (l *lab) get(path string, header ...string) answer {
	l.t.Helper()
	return l.do(http.MethodGet, path, "", header...)
}

func hello(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	fmt.Fprintf(w, "hello %s", mesh.ConnFromContext(r.Context()).Peer().Service())
}

var allowWeb = meshtest.Allow("gateway", "web")

func TestRequestCrossesTheMeshWithHeadersThatNoClientCanForge(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	var seen http.Header
	var host, peer string
	world.Serve("web", "web-1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen, host, peer = r.Header.Clone(), r.Host, mesh.ConnFromContext(r.Context()).Peer().Service()
		w.Header().Set("X-Request-Id", "forged by web")
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "1")
		fmt.Fprint(w, r.URL.RequestURI())
	}), "urlprefix-/web")
	l := start(t, world, nil)

	got := l.get("/web/a%2Fb?x=1&y=%zz",
		"X-Forwarded-For", "6.6.6.6", "X-Forwarded-Host", "evil", "X-Forwarded-Proto", "https", "X-Forwarded-Port", "1",
		"X-Real-Ip", "6.6.6.6", "Forwarded", "for=6.6.6.6", "X-Request-Id", "forged", "Connection", "X-Client-Hop", "X-Client-Hop", "1",
		"Accept", "text/html")
	if got.status != 200 || got.body != "/web/a%2Fb?x=1&y=%zz" {
		t.Fatalf("answer = %d %q, want the request target as it was sent", got.status, got.body)
	}
	if peer != "gateway" {
		t.Errorf("web saw the peer %q, want gateway", peer)
	}
	address := strings.TrimPrefix(l.url, "http://")
	_, port, _ := net.SplitHostPort(address)
	for name, want := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": address, "X-Forwarded-Proto": "http", "X-Forwarded-Port": port,
		"X-Real-Ip": "", "Forwarded": "", "X-Client-Hop": "", "Connection": "", "Accept": "text/html",
	} {
		if values := seen.Values(name); strings.Join(values, "|") != want {
			t.Errorf("web saw %s = %q, want %q", name, values, want)
		}
	}
	if host != address {
		t.Errorf("web saw the host %q, want %q", host, address)
	}
	id := seen.Get("X-Request-Id")
	if len(id) < 20 || strings.Join(got.header.Values("X-Request-Id"), "|") != id {
		t.Errorf("request ID: web saw %q, the client %q; want one that the gateway made", id, got.header.Values("X-Request-Id"))
	}
	if got.header.Get("X-Hop") != "" {
		t.Error("a hop-by-hop header of web reached the client")
	}
}

func TestDenyBitesTheVeryNextRequestAndAllowTheOneAfter(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	world.Serve("web", "web-1", http.HandlerFunc(hello), "urlprefix-/web")
	world.Serve("web", "web-2", http.HandlerFunc(hello), "urlprefix-/web")
	l := start(t, world, nil)
	for range 50 {
		world.Policy.Set(allowWeb)
		if got := l.get("/web"); got.status != 200 || got.body != "hello gateway" {
			t.Fatalf("after allow: %d %q", got.status, got.body)
		}
		world.Policy.Set(meshtest.Deny("gateway", "web"))
		if got := l.get("/web"); got.status != 403 || !strings.Contains(got.body, "denied by intention gateway -> web") {
			t.Fatalf("after deny: %d %q", got.status, got.body)
		}
	}
}

func TestDeniedPageNamesSourceDestinationRuleAndTheCommandThatAllows(t *testing.T) {
	world := meshtest.New(t)
	world.Serve("web", "web-1", http.HandlerFunc(hello), "urlprefix-/web")
	l := start(t, world, nil)
	tests := []struct {
		name  string
		rule  func()
		wants []string
	}{
		{
			"exact", func() { world.Policy.Set(meshtest.Deny("gateway", "web")) },
			[]string{"denied by intention gateway -> web", "gateway -> web, deny (precedence 9)"},
		},
		{
			"wildcard", func() { world.Policy.Set(meshtest.Deny("*", "web")) },
			[]string{"denied by intention * -> web", "* -> web, deny (precedence 8)"},
		},
		{
			"default", func() { world.Policy.Set() },
			[]string{"no intention matches gateway -> web"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.rule()
			for _, accept := range []string{"text/html,*/*;q=0.8", "application/json", "*/*"} {
				got := l.get("/web", "Accept", accept)
				if accept == "application/json" && !json.Valid([]byte(got.body)) {
					t.Errorf("not JSON: %s", got.body)
				}
				for _, want := range append(test.wants, "sluice intentions allow gateway web") {
					if got.status != 403 || !strings.Contains(got.body, want) && !strings.Contains(got.body, strings.ReplaceAll(want, ">", "&gt;")) {
						t.Errorf("Accept %s: %d without %q in %s", accept, got.status, want, got.body)
					}
				}
			}
		})
	}
	page := l.get("/web", "Accept", "text/html")
	if csp := page.header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; style-src 'sha256-") {
		t.Errorf("content security policy = %q", csp)
	}
}

func TestDestinationThatLearnsOfADenyFirstIsBelieved(t *testing.T) {
	world := meshtest.New(t)
	own := meshtest.NewPolicy()
	own.Set(allowWeb)
	world.Policy.Set(allowWeb)
	world.Serve("web", "web-1", http.HandlerFunc(hello), "urlprefix-/web")
	l := start(t, world, own)
	if got := l.get("/web"); got.status != 200 {
		t.Fatalf("before: %d %q", got.status, got.body)
	}
	world.Policy.Set(meshtest.Deny("gateway", "web"))
	meshtest.Wait(t, "the destination enforces the deny", func() bool { return l.get("/web").status != 200 })
	for _, method := range []string{"GET", "POST"} {
		body := ""
		if method == "POST" {
			body = "x"
		}
		if got := l.do(method, "/web", body); got.status != 403 || !strings.Contains(got.body, "denied by the destination: gateway -> web") {
			t.Fatalf("%s after the deny: %d %q", method, got.status, got.body)
		}
	}
}

func TestDestinationThatLearnsOfAnAllowLaterIsWaitedFor(t *testing.T) {
	world := meshtest.New(t)
	own := meshtest.NewPolicy()
	own.Set(allowWeb)
	world.Policy.Set(meshtest.Deny("gateway", "web"))
	world.Serve("web", "web-1", http.HandlerFunc(hello), "urlprefix-/web")
	l := start(t, world, own)
	timer := time.AfterFunc(60*time.Millisecond, func() { world.Policy.Set(allowWeb) })
	defer timer.Stop()
	if got := l.do("POST", "/web", "body"); got.status != 200 {
		t.Fatalf("answer = %d %q, want it once the destination allows", got.status, got.body)
	}
}

func TestDenyCutsAnAnswerThatIsBeingStreamed(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	world.Serve("web", "web-1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "first")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}), "urlprefix-/web")
	l := start(t, world, nil)
	response, err := l.client.Get(l.url + "/web")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	reader := bufio.NewReader(response.Body)
	if line, err := reader.ReadString('\n'); err != nil || line != "first\n" {
		t.Fatalf("first line = %q, %v; want it before the answer ends", line, err)
	}
	world.Policy.Set()
	start := time.Now()
	if _, err := reader.ReadString('\n'); err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the stream ended with %v, want it broken", err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("the stream went on for %v after the deny", took)
	}
}

func TestSwitchedProtocolPassesAndIsCutByDeny(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	world.Serve("web", "web-1", switching(t), "urlprefix-/web")
	l := start(t, world, nil)
	conn, err := net.Dial("tcp", strings.TrimPrefix(l.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprint(conn, "GET /web HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil || response.StatusCode != 101 {
		t.Fatalf("answer = %v, %v; want 101", response, err)
	}
	fmt.Fprintln(conn, "ping")
	if line, err := reader.ReadString('\n'); err != nil || line != "ping\n" {
		t.Fatalf("echo = %q, %v", line, err)
	}
	world.Policy.Set()
	if _, err := reader.ReadByte(); err == nil || errors.Is(err, errTimeout(err)) {
		t.Fatalf("after the deny: %v, want the connection to end", err)
	}
}

func errTimeout(err error) error {
	var netError net.Error
	if errors.As(err, &netError) && netError.Timeout() {
		return err
	}
	return errors.New("other")
}

// refusing returns an address at which nobody listens.
func refusing(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func TestRequestThatWasNotSentGoesToAnotherInstanceWhateverItsMethod(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	world.Catalog.Add(world.Instance("web", "web-0", refusing(t), "urlprefix-/web"))
	world.Serve("web", "web-1", http.HandlerFunc(hello), "urlprefix-/web")
	l := start(t, world, nil)
	for range 20 {
		if got := l.do("POST", "/web", strings.Repeat("body", 5000)); got.status != 200 {
			t.Fatalf("answer = %d %q", got.status, got.body)
		}
	}
}

// breaking is a service that takes a request and breaks the connection.
func breaking(hits *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		hits.Add(1)
		panic(http.ErrAbortHandler)
	})
}

func TestRequestThatMayHaveBeenCarriedOutIsSentAgainOnlyIfThatIsHarmless(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	var broken, good atomic.Int64
	world.Serve("web", "web-1", breaking(&broken), "urlprefix-/web", "urlprefix-/broken")
	world.Serve("web", "web-2", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { good.Add(1); hello(w, r) }), "urlprefix-/web")
	l := start(t, world, nil)
	for range 20 {
		if got := l.get("/web"); got.status != 200 {
			t.Fatalf("GET = %d %q, want the other instance's answer", got.status, got.body)
		}
	}
	broken.Store(0)
	got := l.do("POST", "/broken", "once")
	if got.status != 502 || !strings.Contains(got.body, "web-web-1 on web-1") || broken.Load() != 1 {
		t.Fatalf("POST = %d %q after %d tries, want 502 after one", got.status, got.body, broken.Load())
	}
	l = start(t, world, nil) // one that does not know yet which of them is broken
	broken.Store(0)
	good.Store(0)
	sent := 0
	deadline := time.Now().Add(10 * time.Second)
	for broken.Load() == 0 && time.Now().Before(deadline) { // the broken one is avoided for a while
		sent++
		if got := l.do("POST", "/web", "once"); got.status != 200 && got.status != 502 {
			t.Fatalf("POST = %d %q", got.status, got.body)
		}
	}
	if all := int(broken.Load() + good.Load()); all != sent || broken.Load() == 0 {
		t.Fatalf("%d POST requests were carried out %d times (%d broken)", sent, all, broken.Load())
	}
}

func TestInstanceThatFailedUnderADenyIsNotAvoidedAfterAllow(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	instance := world.Serve("web", "web-1", http.HandlerFunc(hello), "urlprefix-/web")
	other := world.Serve("web", "web-2", http.HandlerFunc(hello), "urlprefix-/web")
	l := start(t, world, nil)
	world.Policy.Set()
	for range 5 {
		l.get("/web")
	}
	world.Policy.Set(allowWeb)
	meshtest.Wait(t, "both instances are trusted", func() bool {
		for _, r := range l.Routes().Routes {
			for _, i := range r.Instances {
				if i.Avoided || !i.Allowed {
					return false
				}
			}
		}
		return true
	})
	world.Catalog.Remove(other)
	if got := l.get("/web"); got.status != 200 {
		t.Fatalf("answer of %s = %d %q", instance.ServiceID, got.status, got.body)
	}
}

func TestSomebodyElseAtTheAddressGetsNothing(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb, meshtest.Allow("gateway", "impostor"))
	var hits atomic.Int64
	impostor := world.Serve("impostor", "x", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	world.Catalog.Add(world.Instance("web", "web-1", impostor.Address, "urlprefix-/web"))
	l := start(t, world, nil)
	meshtest.Wait(t, "the route is there", func() bool { return len(l.Table().Routes()) == 1 })
	got := l.get("/web")
	if got.status != 403 || !strings.Contains(got.body, "/svc/web") || !strings.Contains(got.body, "/svc/impostor") || hits.Load() != 0 {
		t.Fatalf("answer = %d %q, want 403 with both identities and no request sent", got.status, got.body)
	}
}

func TestErrorPages(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb, meshtest.Allow("gateway", "slow"), meshtest.Allow("gateway", "down"))
	world.Serve("slow", "s-1", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), "urlprefix-/slow")
	world.Catalog.Add(world.Instance("down", "d-1", refusing(t), "urlprefix-/down"))
	gone := world.Serve("web", "web-1", http.HandlerFunc(hello), "urlprefix-/web")
	l := start(t, world, nil)
	meshtest.Wait(t, "all routes are there", func() bool { return len(l.Table().Routes()) == 3 })
	world.Catalog.Remove(gone)
	meshtest.Wait(t, "web has no instance", func() bool {
		r, ok := l.Table().Lookup("", "/web")
		return ok && len(r.Instances) == 0
	})
	tests := []struct {
		path   string
		status int
		text   string
	}{
		{"/nothing", 404, `No service takes the path "/nothing"`},
		{"/<script>alert(1)</script>", 404, "No service takes the path"},
		{"/web", 503, "No healthy instance of web."},
		{"/down", 502, "down (down-d-1 on d-1) failed: it refused the connection."},
		{"/slow", 504, "slow (slow-s-1 on s-1) did not answer in time."},
	}
	for _, test := range tests {
		plain := l.get(test.path)
		if plain.status != test.status || !strings.Contains(plain.body, test.text) {
			t.Errorf("%s: %d %q, want %d with %q", test.path, plain.status, plain.body, test.status, test.text)
		}
		if strings.Contains(plain.body, "127.0.0.1:") && test.status == 502 {
			t.Errorf("%s: the page shows an inner address: %q", test.path, plain.body)
		}
		page := l.get(test.path, "Accept", "text/html")
		if page.status != test.status || !strings.HasPrefix(page.body, "<!doctype html>") || strings.Contains(page.body, "<script>") || !strings.Contains(page.body, "<main>") {
			t.Errorf("%s as HTML: %d %q", test.path, page.status, page.body)
		}
	}
}

func TestPathWithDotSegmentsIsRefused(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	world.Serve("web", "web-1", http.HandlerFunc(hello), "urlprefix-/web")
	l := start(t, world, nil)
	for _, target := range []string{"/web/../admin", "/web/%2e%2e/admin", "/web/.", "*"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(l.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", target)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || response.StatusCode != 400 {
			t.Errorf("%s: %v, %v; want 400", target, response, err)
		}
		_ = conn.Close()
	}
}

func TestKeepAliveOutlivesAChangeOfTheCatalogButNotADeny(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	world.Serve("web", "web-1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RemoteAddr) }), "urlprefix-/web")
	l := start(t, world, nil)
	first := l.get("/web").body
	world.Catalog.Add(world.Instance("other", "o-1", refusing(t), "urlprefix-/other"))
	meshtest.Wait(t, "the new route is there", func() bool { return len(l.Table().Routes()) == 2 })
	if again := l.get("/web").body; again != first {
		t.Errorf("a new connection (%s, then %s) after a change elsewhere", first, again)
	}
	world.Policy.Set()
	l.get("/web")
	world.Policy.Set(allowWeb)
	if again := l.get("/web"); again.status != 200 || again.body == first {
		t.Errorf("%d: the connection %s outlived a deny", again.status, first)
	}
}

func TestMalformedTagIsCountedAndListed(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	world.Serve("web", "web-1", http.HandlerFunc(hello), "urlprefix-/web", "urlprefix-nothing")
	l := start(t, world, nil)
	if problems := l.Routes().Problems; len(problems) != 1 || problems[0].Service != "web" {
		t.Fatalf("ignored tags = %+v", problems)
	}
	meshtest.Wait(t, "it is counted", func() bool { return l.metric(t, "sluice_gateway_ignored_tags_total") == 1 })
}

// metric returns the value of a counter or gauge without labels.
func (l *lab) metric(t *testing.T, name string) float64 {
	t.Helper()
	families, err := l.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetCounter().GetValue() + family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}
