package proxy_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/gateway/balance"
	"sluice/gateway/override"
	"sluice/gateway/proxy"
	"sluice/gateway/route"
	"sluice/internal/meshtest"
	"sluice/mesh"
)

// quiet is a catalog that can stop to say anything new, as it does when Consul
// cannot be asked.
type quiet struct {
	proxy.Catalog
	mu     sync.Mutex
	frozen map[string][]mesh.Instance // nil while it speaks
	again  chan struct{}
}

func (q *quiet) Services() map[string][]mesh.Instance {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.frozen != nil {
		return q.frozen
	}
	return q.Catalog.Services()
}

func (q *quiet) Changed() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.frozen != nil {
		return q.again
	}
	return q.Catalog.Changed()
}

func (q *quiet) hush() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.frozen, q.again = q.Catalog.Services(), make(chan struct{})
}

func (q *quiet) speak() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.frozen = nil
	close(q.again)
}

// load sends requests to a path from some clients until stop, and counts answers.
type load struct {
	answers [600]atomic.Int64
	clients sync.WaitGroup
}

func (l *lab) load(clients int, path string, stop <-chan struct{}) *load {
	running := &load{}
	for range clients {
		running.clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					running.answers[l.status(path)].Add(1)
				}
			}
		})
	}
	return running
}

// status is of one request; 0 is that there was no answer.
func (l *lab) status(path string) int {
	response, err := l.client.Get(l.url + path)
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return 0
	}
	return response.StatusCode
}

func (l *load) counts() map[int]int64 {
	counts := map[int]int64{}
	for status := range l.answers {
		if n := l.answers[status].Load(); n > 0 {
			counts[status] = n
		}
	}
	return counts
}

// only reports whether there were answers, and no other than these.
func (l *load) only(statuses ...int) bool {
	for status := range l.counts() {
		if !slices.Contains(statuses, status) {
			return false
		}
	}
	return len(l.counts()) > 0
}

// storm is a gateway in front of services of which one stays, one may not be
// called, and one comes and goes.
type storm struct {
	*lab
	catalog  *quiet
	flapping []mesh.Instance
}

func newStorm(t *testing.T) *storm {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb, meshtest.Allow("gateway", "steady"))
	ok := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }
	serve(world, "steady", "s", ok, "urlprefix-/steady", "urlprefix-/web strategy=rr")
	serve(world, "denied", "d", ok, "urlprefix-/denied")
	s := &storm{catalog: &quiet{Catalog: world.Catalog}}
	for i := range 4 {
		tags := []string{"urlprefix-/web strategy=rr", fmt.Sprintf("urlprefix-/only%d", i%2)}
		s.flapping = append(s.flapping, serve(world, "web", fmt.Sprint("w", i), ok, tags...))
	}
	s.lab = &lab{World: world, t: t, Proxy: proxy.New(proxy.Config{
		Catalog: s.catalog, Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Registerer: prometheus.NewRegistry(),
	})}
	return s
}

// flap takes instances out and puts them back, n times, and leaves none out.
func (s *storm) flap(r *rand.Rand, n int, each func()) {
	out := make([]bool, len(s.flapping))
	for range n {
		i := r.IntN(len(out))
		if out[i] = !out[i]; out[i] {
			s.Catalog.Remove(s.flapping[i])
		} else {
			s.Catalog.Add(s.flapping[i])
		}
		each()
	}
	for i := range out {
		if out[i] {
			s.Catalog.Add(s.flapping[i])
		}
	}
}

func TestNoRouteIsLostAndNothingLeaksWhileInstancesFlap(t *testing.T) {
	s := newStorm(t)
	world := s.World
	world.Run("gateway", s.Proxy.Run)
	s.connect(t)
	meshtest.Wait(t, "every route is there", func() bool { return s.Table().Len() == 5 })
	before := runtime.NumGoroutine()

	stop := make(chan struct{})
	loads := map[string]*load{}
	for _, path := range []string{"/steady", "/web", "/only0", "/only1", "/denied"} {
		loads[path] = s.load(2, path, stop)
	}
	flaps := 0
	s.flap(rand.New(rand.NewPCG(1, 2)), 600, func() {
		// Some changes come in a row, some are felt by requests first.
		if flaps++; flaps%3 == 0 {
			seen := loads["/web"].answers[200].Load()
			meshtest.Wait(t, "requests go on", func() bool { return loads["/web"].answers[200].Load() > seen })
		}
	})
	close(stop)
	for path, load := range loads {
		load.clients.Wait()
		may := map[string][]int{"/steady": {200}, "/web": {200}, "/only0": {200, 503}, "/only1": {200, 503}, "/denied": {403}}[path]
		if !load.only(may...) {
			t.Errorf("%s was answered %v, want nothing but %v", path, load.counts(), may)
		}
	}
	if n := loads["/only0"].answers[503].Load() + loads["/only1"].answers[503].Load(); n == 0 {
		t.Error("no request met a route whose instances were all out: the storm was too mild")
	}
	meshtest.Wait(t, "everybody is back", func() bool {
		r, ok := s.Table().Lookup("", "/web")
		return ok && len(r.Instances) == 5
	})

	for _, instances := range world.Catalog.Services() {
		for _, i := range instances {
			world.Catalog.Remove(i)
		}
	}
	s.client.CloseIdleConnections()
	meshtest.Wait(t, "as many goroutines run as before the storm", func() bool { return runtime.NumGoroutine() <= before })
}

func TestTheLastGoodTableIsKeptWhileTheCatalogIsSilent(t *testing.T) {
	s := newStorm(t)
	s.World.Run("gateway", s.Proxy.Run)
	s.connect(t)
	meshtest.Wait(t, "every route is there", func() bool { return s.Table().Len() == 5 })
	s.catalog.hush()
	rows := fmt.Sprint(s.Table().Routes())

	stop := make(chan struct{})
	loads := []*load{s.load(2, "/web", stop), s.load(2, "/only0", stop)}
	for _, i := range s.flapping {
		s.Catalog.Remove(i)
	}
	late := serve(s.World, "steady", "late", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }, "urlprefix-/late")
	// The gateway looks by itself every second; it must not see anything.
	silence := time.NewTimer(1500 * time.Millisecond)
	<-silence.C
	if now := s.Table(); fmt.Sprint(now.Routes()) != rows {
		t.Errorf("without news, the table has become %v", now.Routes())
	}
	close(stop)
	for _, l := range loads {
		l.clients.Wait()
		if !l.only(200) {
			t.Errorf("answers in the silence: %v, want nothing but 200", l.counts())
		}
	}

	s.catalog.speak()
	meshtest.Wait(t, "what happened in the silence is known", func() bool { return s.status("/late") == 200 && s.status("/only0") == 503 })
	s.Catalog.Remove(late)
}

// stage is a catalog and overrides whose unchanged parts stay the same values, as
// the real ones do.
type stage struct {
	mu       sync.Mutex
	services map[string][]mesh.Instance
	rules    route.Rules
	changed  chan struct{}
	ruled    chan struct{}
}

func newStage() *stage {
	return &stage{services: map[string][]mesh.Instance{}, changed: make(chan struct{}), ruled: make(chan struct{})}
}

func (s *stage) Services() map[string][]mesh.Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.services)
}

func (s *stage) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *stage) set(service string, instances []mesh.Instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.services[service] = instances; len(instances) == 0 {
		delete(s.services, service)
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// ruling is the stage as overrides.
type ruling struct{ *stage }

func (r ruling) Rules() route.Rules {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rules
}

func (r ruling) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ruled
}

func (r ruling) set(rules route.Rules) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rules = rules
	close(r.ruled)
	r.ruled = make(chan struct{})
}

// playedBy runs a proxy on the stage and returns it when it serves.
func (s *stage) playedBy(t *testing.T, world *meshtest.World, now func() time.Time) *proxy.Proxy {
	p := proxy.New(proxy.Config{
		Catalog: s, Overrides: ruling{s}, Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Registerer: prometheus.NewRegistry(),
		Datacenter: "dc1", AllowPlain: true, SlowStart: -1, Ejection: balance.Ejection{}, Now: now,
	})
	nothing := p.Table()
	world.Run("gateway", p.Run)
	meshtest.Wait(t, "the first table is there", func() bool { return p.Table() != nothing })
	return p
}

// scene is all that a proxy does with requests: its rows with their instances,
// shares and options, as the table has them and as they are served.
func scene(t *testing.T, p *proxy.Proxy) string {
	t.Helper()
	type part struct {
		Instance mesh.Instance
		Service  string
		Options  string
		Weight   float64
		Share    float64
	}
	var rows []any
	for _, r := range p.Table().Routes() {
		if len(r.Targets) == 0 {
			continue // only the past knows of it
		}
		parts := make([]part, len(r.Targets))
		for i, target := range r.Targets {
			parts[i] = part{*target.Instance, target.Service, target.Options.String(), target.Weight, target.Share}
		}
		var guards []string
		for _, g := range r.Guards {
			guards = append(guards, g.String())
		}
		rows = append(rows, []any{r.Key, r.Services, r.Instances, parts, r.Options.String(), guards, r.Mixed, r.Closed})
	}
	served := p.Routes()
	served.Routes = slices.DeleteFunc(served.Routes, func(r proxy.RouteState) bool { return !r.Gone.IsZero() })
	text, err := json.MarshalIndent([]any{rows, served}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// tagPool and linePool are what instances and overrides are drawn from.
func tagPool() []string {
	return []string{
		"urlprefix-/a", "urlprefix-/a weight=0.2", "urlprefix-/a strip=/a", "urlprefix-/ab match=segment", "urlprefix-x.test/", "urlprefix-x.test/a timeout=1s",
		"urlprefix-*.test/", "urlprefix-$DC.test/a", "urlprefix-/old redirect=301,https://new.test$path", "urlprefix-/g allow=ip:10.0.0.0/8",
		"urlprefix-/g deny=ip:10.0.0.0/8", "urlprefix-/g alow=ip:10.0.0.0/8", "urlprefix-broken", "urlprefix-/plain plain=true", "urlprefix-/s sticky=cookie",
		"v1", "v2",
	}
}

func linePool() []string {
	return []string{
		"route del s0", "route del s1 /a", `route del tags "v1"`, "route weight s2 /a weight 0.3", `route weight /a weight 0.9 tags "v2"`, "route bad line",
		"route add s0 /a http://127.0.0.1:1/", "route add s9 /new http://127.0.0.1:2/ weight 0.4", "route add s9 x.test/ http://127.0.0.1:3/", "route del s9 /new",
		`route add s1 /old /there opts "redirect=302"`, "route weight s1 /a weight 0",
	}
}

func draw(r *rand.Rand, pool []string, most int) []string {
	var drawn []string
	for _, i := range r.Perm(len(pool))[:r.IntN(most+1)] {
		drawn = append(drawn, pool[i])
	}
	return drawn
}

// next makes one change.
func (s *stage) next(r *rand.Rand, world *meshtest.World) {
	if r.IntN(3) == 0 {
		var text string
		for _, line := range draw(r, linePool(), 5) {
			text += line + "\n"
		}
		ruling{s}.set(override.Parse(override.Config{Datacenter: "dc1"}, override.Source{Name: "key", Text: text}))
		return
	}
	service := fmt.Sprint("s", r.IntN(4))
	var instances []mesh.Instance
	for i := range r.IntN(4) {
		// An instance may come back at another address.
		address := fmt.Sprintf("127.0.0.1:%d", 1000+10*i+r.IntN(2))
		instances = append(instances, world.Instance(service, fmt.Sprint("n", i), address, draw(r, tagPool(), 6)...))
	}
	s.set(service, instances)
}

func TestAnySequenceOfUpdatesServesAsAFreshGatewayDoes(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(meshtest.Allow("gateway", "*"))
	now := func() time.Time { return time.Unix(1_800_000_000, 0) }
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 3))
		s := newStage()
		old := s.playedBy(t, world, now)
		for step := range 60 {
			s.next(r, world)
			if step%6 != 5 {
				runtime.Gosched() // some changes are seen together, some alone
				continue
			}
			fresh := s.playedBy(t, world, now)
			want := scene(t, fresh)
			if got := settled(func() string { return scene(t, old) }, want); got != want {
				t.Fatalf("seed %d, step %d: after updates\n%s\nfresh\n%s", seed, step, got, want)
			}
		}
	}
}

func TestARouteWhoseServiceWentIsForgottenInTheEnd(t *testing.T) {
	world := meshtest.New(t)
	var clock atomic.Int64
	clock.Store(time.Unix(1_800_000_000, 0).UnixNano())
	s := newStage()
	s.set("web", []mesh.Instance{world.Instance("web", "n0", "127.0.0.1:1000", "urlprefix-/brief")})
	p := s.playedBy(t, world, func() time.Time { return time.Unix(0, clock.Load()) })
	s.set("web", nil)
	meshtest.Wait(t, "the route has no instance", func() bool {
		r, ok := p.Table().Lookup("", "/brief")
		return ok && len(r.Instances) == 0
	})
	clock.Add(int64(11 * time.Minute))
	meshtest.Wait(t, "the route is forgotten without any news", func() bool { return p.Table().Len() == 0 })
}

// settled returns what is seen as soon as it is what is wanted, or in the end.
func settled(see func() string, want string) string {
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.Now().Add(5 * time.Second)
	for {
		if got := see(); got == want || time.Now().After(deadline) {
			return got
		}
		<-ticker.C
	}
}
