package proxy_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"sluice/gateway/acl"
	"sluice/gateway/auth"
	"sluice/gateway/balance"
	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
	"sluice/mesh"
)

// echo answers with what it got.
func echo(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("X-Got-Authorization", r.Header.Get("Authorization"))
	fmt.Fprintf(w, "%s %s prefix=%s", r.Host, r.RequestURI, r.Header.Get("X-Forwarded-Prefix"))
}

// serve runs an instance of a service in a world.
func serve(world *meshtest.World, service, node string, handler http.HandlerFunc, tags ...string) mesh.Instance {
	return world.Serve(service, node, handler, tags...)
}

// tags runs a gateway in front of a service web with one instance that declares
// these tags.
func tags(t *testing.T, handler http.HandlerFunc, cfg proxy.Config, list ...string) *lab {
	t.Helper()
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	serve(world, "web", "web-1", handler, list...)
	cfg.Dialer, cfg.Policy = world.Dialer("gateway", nil), world.Policy
	return with(t, world, cfg)
}

func TestTheOptionsOfATagDoWhatTheySay(t *testing.T) {
	l := tags(t, echo, proxy.Config{Datacenter: "dc1"},
		"urlprefix-/strip strip=/strip", "urlprefix-/pre prepend=/v1", "urlprefix-/both strip=/both prepend=/v2",
		"urlprefix-/host host=inner.example", "urlprefix-/dst host=dst", "urlprefix-/$DC/x strip=/dc1",
		"urlprefix-/old redirect=301,https://new.example$path", "urlprefix-/fixed redirect=302,https://new.example/there",
		"urlprefix-/moved strip=/moved redirect=308,https://$host/new$path")
	for _, c := range []struct{ target, want string }{
		{"/strip/a%2Fb?q=1", "/a%2Fb?q=1 prefix=/strip"},
		{"/strip", "/ prefix=/strip"},
		{"/stripped", "/ped prefix=/strip"},
		{"/pre/a?x", "/v1/pre/a?x prefix="},
		{"/both/a", "/v2/a prefix=/both"},
		{"/dc1/x", "/x prefix=/dc1"},
		{"/strip//a", "//a prefix=/strip"},
	} {
		if got := l.get(c.target); got.status != 200 || !strings.HasSuffix(got.body, " "+c.want) {
			t.Errorf("%s: %d %q, want %q", c.target, got.status, got.body, c.want)
		}
	}
	for _, target := range []string{"/both../a", "/both%2e./a", "/strip..;x/a", "/both./a"} {
		if got := l.get(target); got.status != 400 {
			t.Errorf("%s, which strip= turns into a dot segment: %d %q", target, got.status, got.body)
		}
	}
	if got := l.get("/host"); !strings.HasPrefix(got.body, "inner.example ") {
		t.Errorf("host=: %q", got.body)
	}
	if got := l.get("/dst"); !strings.HasPrefix(got.body, "127.") {
		t.Errorf("host=dst: %q", got.body)
	}
	l.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	host := strings.TrimPrefix(l.url, "http://")
	for target, want := range map[string]string{
		"/old/a?b=c": "301 https://new.example/old/a?b=c", "/fixed/a": "302 https://new.example/there",
		"/moved/a": "308 https://" + host + "/new/a", "/moved//evil.example": "308 https://" + host + "/new/evil.example",
	} {
		if got := l.get(target); fmt.Sprint(got.status, " ", got.header.Get("Location")) != want {
			t.Errorf("%s: %d %s, want %s", target, got.status, got.header.Get("Location"), want)
		}
	}
}

func TestWhoMayNotUseARouteIsToldSoAndNobodyIsCalled(t *testing.T) {
	var called atomic.Int64
	count := func(w http.ResponseWriter, r *http.Request) { called.Add(1); echo(w, r) }
	trusted, err := acl.NewNetworks([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	if err != nil {
		t.Fatal(err)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte("ann:"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	guard, err := auth.Open(auth.Config{Schemes: []auth.Scheme{{Name: "staff", File: file}}})
	if err != nil {
		t.Fatal(err)
	}
	l := tags(t, count, proxy.Config{Trusted: trusted, Auth: guard},
		"urlprefix-/in/ allow=ip:10.0.0.0/8", "urlprefix-/out/ deny=ip:10.0.0.0/8", "urlprefix-/staff/ auth=staff",
		"urlprefix-/slip/ alow=ip:10.0.0.0/8", "urlprefix-/nobody/ auth=unknown", "urlprefix-/")
	basic := func(user string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(user)) }
	for _, c := range []struct {
		path   string
		header []string
		want   int
	}{
		{"/in/", []string{"X-Forwarded-For", "10.1.2.3"}, 200},
		{"/in/", []string{"X-Forwarded-For", "192.0.2.1"}, 403},
		{"/in/", []string{"X-Forwarded-For", "10.1.2.3, 192.0.2.1"}, 403},
		{"/in/", []string{"X-Forwarded-For", "nonsense"}, 403},
		{"/in/", nil, 403},
		{"/out/", []string{"X-Forwarded-For", "10.1.2.3"}, 403},
		{"/out/", []string{"X-Forwarded-For", "192.0.2.1"}, 200},
		{"/staff/", nil, 401},
		{"/staff/", []string{"Authorization", basic("ann:wrong")}, 401},
		{"/staff/", []string{"Authorization", basic("ann:right")}, 200},
		{"/slip/", []string{"X-Forwarded-For", "10.1.2.3"}, 403},
		{"/nobody/", []string{"Authorization", basic("ann:right")}, 403},
		{"//in/", nil, 400},
		{"//harmless/", nil, 200},
	} {
		before := called.Load()
		got := l.get(c.path, c.header...)
		if got.status != c.want || (called.Load() > before) != (c.want == 200) {
			t.Errorf("%s %q: %d, %d calls; want %d", c.path, c.header, got.status, called.Load()-before, c.want)
		}
		if got.status == 401 && !strings.HasPrefix(got.header.Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("%s: no challenge: %q", c.path, got.header)
		}
		if got.header.Get("X-Got-Authorization") != "" && strings.HasPrefix(c.path, "/staff") {
			t.Error("the instance got the credentials that were the gateway's to check")
		}
	}
}

func TestAPlainInstanceIsQuarantinedUnlessItIsAllowed(t *testing.T) {
	l := tags(t, echo, proxy.Config{}, "urlprefix-/a plain=true", "urlprefix-/b")
	if got := l.get("/a"); got.status != 404 {
		t.Errorf("plain without leave: %d", got.status)
	}
	if problems := l.Table().Problems(); len(problems) != 1 || !strings.Contains(problems[0].Reason, "-allow-plain") {
		t.Errorf("problems: %+v", problems)
	}
}

func TestMaxconnRefusesInsteadOfWaiting(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	l := tags(t, func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-leave }, proxy.Config{}, "urlprefix-/web maxconn=1")
	var first sync.WaitGroup
	first.Go(func() { l.get("/web") })
	<-entered
	if got := l.get("/web"); got.status != 503 || got.header.Get("Retry-After") == "" || !strings.Contains(got.body, "in flight") {
		t.Errorf("%d %q, want 503", got.status, got.body)
	}
	close(leave)
	first.Wait()
}

func TestTimeoutOfARouteIsKeptAndSaysSo(t *testing.T) {
	l := tags(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, proxy.Config{}, "urlprefix-/web timeout=100ms")
	if got := l.get("/web"); got.status != 504 {
		trace, _ := l.Trace(got.header.Get("X-Request-Id"))
		t.Errorf("%d %q, want 504: %+v %v", got.status, got.body, trace, got.header)
	}
}

func TestACookieBringsAClientBackToItsInstance(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	for _, node := range []string{"a", "b", "c", "d"} {
		serve(world, "web", node, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, node) }, "urlprefix-/web sticky=cookie")
	}
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy})
	seen := map[string]bool{}
	for range 40 {
		first := l.get("/web")
		seen[first.body] = true
		cookie, _, _ := strings.Cut(first.header.Get("Set-Cookie"), ";")
		if cookie == "" {
			t.Fatal("no cookie")
		}
		for range 3 {
			again := l.get("/web", "Cookie", cookie)
			if again.body != first.body || again.header.Get("Set-Cookie") != "" {
				t.Fatalf("from %s to %s, cookie %q", first.body, again.body, again.header.Get("Set-Cookie"))
			}
		}
	}
	if len(seen) < 3 {
		t.Errorf("clients without a cookie reached only %v", seen)
	}
}

func TestASlowGetIsAskedOfASecondInstanceAndTheFirstAnswerCounts(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	serve(world, "web", "slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "urlprefix-/web hedge=20ms")
	serve(world, "web", "fast", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "fast") }, "urlprefix-/web hedge=20ms")
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy})
	hedged := 0
	for range 20 {
		got := l.get("/web")
		if got.status != 200 || got.body != "fast" {
			t.Fatalf("%d %q", got.status, got.body)
		}
		var trace proxy.Trace
		meshtest.Wait(t, "the request can be explained", func() (ok bool) {
			trace, ok = l.Trace(got.header.Get("X-Request-Id"))
			return ok
		})
		if len(trace.Attempts) == 2 {
			hedged++
		}
	}
	if hedged == 0 {
		t.Error("nothing was hedged")
	}
	// A dial that nobody waits for any more ends by itself.
	meshtest.Wait(t, "nothing is in flight", func() bool {
		for _, r := range l.Routes().Routes {
			for _, i := range r.Instances {
				if i.Avoided {
					t.Fatalf("%s is ejected: being slower once is no failure", i.Node)
				}
				if i.InFlight != 0 {
					return false
				}
			}
		}
		return true
	})
}

func TestADenialIsNotAskedElsewhereAndEjectsNobody(t *testing.T) {
	world := meshtest.New(t)
	own := meshtest.NewPolicy()
	own.Set(allowWeb, meshtest.Allow("gateway", "other"))
	var other atomic.Int64
	world.Policy.Set(meshtest.Allow("gateway", "other"))
	serve(world, "web", "web-1", hello, "urlprefix-/web")
	serve(world, "other", "o-1", func(http.ResponseWriter, *http.Request) { other.Add(1) }, "urlprefix-/web weight=0.5")
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", own), Policy: own, Ejection: balance.Ejection{Local: 1, Origin: 1}})
	denied := 0
	for range 20 {
		if got := l.get("/web"); got.status == 403 {
			denied++
		}
	}
	if denied == 0 || other.Load() != int64(20-denied) {
		t.Errorf("%d denied, %d answered by the other service, of 20", denied, other.Load())
	}
	for _, r := range l.Routes().Routes {
		for _, i := range r.Instances {
			if i.Avoided {
				t.Errorf("%s is ejected for a denial", i.Node)
			}
		}
	}
}

func TestAWeightHoldsForTheWholeService(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	var canary atomic.Int64
	for _, node := range []string{"a", "b", "c"} {
		serve(world, "web", node, hello, "urlprefix-/web")
	}
	serve(world, "web", "canary", func(http.ResponseWriter, *http.Request) { canary.Add(1) }, "urlprefix-/web weight=0.1")
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, SlowStart: -1})
	for range 600 {
		l.get("/web")
	}
	if n := canary.Load(); n < 30 || n > 100 {
		t.Errorf("an instance with weight=0.1 got %d of 600", n)
	}
}

func TestAllInstancesMayBeReplacedAtOnceUnderLoad(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	current := serve(world, "web", "n0", hello, "urlprefix-/web")
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy})
	stop, failed := make(chan struct{}), atomic.Int64{}
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got := l.get("/web"); got.status != 200 {
					failed.Add(1)
					t.Errorf("%d %s", got.status, got.body)
				}
			}
		})
	}
	for i := range 20 {
		next := serve(world, "web", fmt.Sprint("n", i+1), hello, "urlprefix-/web")
		world.Catalog.Remove(current)
		current = next
		meshtest.Wait(t, "the new instance serves", func() bool {
			r, ok := l.Table().Lookup("", "/web")
			return ok && len(r.Instances) == 1 && r.Instances[0].ServiceID == current.ServiceID
		})
	}
	close(stop)
	load.Wait()
}

// rotating is a source of credentials that can be changed.
type rotating struct {
	atomic.Pointer[mesh.Credentials]
}

func (r *rotating) Credentials() (mesh.Credentials, error) { return *r.Load(), nil }

func (r *rotating) set(t *testing.T, world *meshtest.World) {
	t.Helper()
	c, err := world.Credentials("gateway").Credentials()
	if err != nil {
		t.Fatal(err)
	}
	r.Store(&c)
}

func TestAfterARotationConnectionsFinishAndServeNobodyNew(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	entered, leave := make(chan struct{}), make(chan struct{})
	serve(world, "web", "web-1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/web/slow" {
			close(entered)
			<-leave
		}
		fmt.Fprint(w, r.RemoteAddr)
	}, "urlprefix-/web")
	leaf := &rotating{}
	leaf.set(t, world)
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Credentials: leaf})
	var slow sync.WaitGroup
	var old string
	slow.Go(func() { old = l.get("/web/slow").body })
	<-entered
	leaf.set(t, world)
	// The look at the leaf comes after each change of the policy.
	world.Policy.Set(allowWeb, meshtest.Allow("x", "y"))
	meshtest.Wait(t, "the rotation was seen", func() bool { return l.metric(t, "sluice_gateway_leaf_rotations_total") == 1 })
	close(leave)
	slow.Wait()
	if old == "" {
		t.Fatal("the request that was under way failed")
	}
	if now := l.get("/web").body; now == old {
		t.Errorf("a new request went over the connection of the old leaf: %s", now)
	}
}
