package proxy_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/balance"
	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
)

// TestOnlyA503ThatSaysWhenToComeBackEjectsNobody answers the same from both instances,
// and looks at what the gateway makes of it.
func TestOnlyA503ThatSaysWhenToComeBackEjectsNobody(t *testing.T) {
	for _, c := range []struct {
		name    string
		status  int
		after   string
		outcome balance.Outcome
	}{
		{"503, in seconds", 503, "30", balance.Deferred},
		{"503, at once", 503, "0", balance.Deferred},
		{"503, at a date", 503, "Fri, 27 Nov 2026 03:00:00 GMT", balance.Deferred},
		{"503", 503, "", balance.OriginFailure},
		{"503, in words", 503, "soon", balance.OriginFailure},
		{"503, in the past", 503, "-1", balance.OriginFailure},
		{"500", 500, "30", balance.OriginFailure},
		{"502", 502, "30", balance.OriginFailure},
		{"504", 504, "30", balance.OriginFailure},
		{"429", 429, "30", balance.Success},
	} {
		t.Run(c.name, func(t *testing.T) {
			world := meshtest.New(t)
			world.Policy.Set(allowWeb)
			for _, node := range []string{"web-1", "web-2"} {
				serve(world, "web", node, func(w http.ResponseWriter, _ *http.Request) {
					if c.after != "" {
						w.Header().Set("Retry-After", c.after)
					}
					w.WriteHeader(c.status)
				}, "urlprefix-/web")
			}
			moment := time.Unix(1_800_000_000, 0)
			l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Now: func() time.Time { return moment }})
			before := l.budgetLeft(t)
			for i := range 40 {
				method := []string{http.MethodGet, http.MethodPost}[i%2]
				got := l.do(method, "/web", "")
				var trace proxy.Trace
				meshtest.Wait(t, "the request is accounted for", func() (known bool) {
					trace, known = l.Trace(got.header.Get("X-Request-Id"))
					return known
				})
				if got.status != c.status || got.header.Get("Retry-After") != c.after || len(trace.Attempts) != 1 || trace.Attempts[0].Outcome != c.outcome.String() {
					t.Fatalf("%s: %d, Retry-After %q, %+v; want one attempt, %s", method, got.status, got.header.Get("Retry-After"), trace.Attempts, c.outcome)
				}
			}
			ejected := 0
			for _, i := range l.Routes().Routes[0].Instances {
				if i.Avoided {
					ejected++
				}
			}
			if want := map[bool]int{true: 1}[c.outcome.Failure()]; ejected != want {
				t.Errorf("%d ejected, want %d", ejected, want)
			}
			if after := l.budgetLeft(t); after < before || l.metric(t, "sluice_gateway_retries_total") != 0 {
				t.Errorf("%d of %d retries are left", after, before)
			}
		})
	}
}

// budgetLeft is how many retries the route of /web may make now.
func (l *lab) budgetLeft(t *testing.T) int {
	t.Helper()
	explained, err := l.Explain(t.Context(), proxy.Question{URL: l.url + "/web"})
	if err != nil {
		t.Fatal(err)
	}
	return explained.BudgetLeft
}

// TestAnInstanceThatAloneDefersDrawsNoRequests has the other instance busy, as it is under
// traffic, with a request that is not answered before the end.
func TestAnInstanceThatAloneDefersDrawsNoRequests(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	serve(world, "web", "web-1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "30")
		w.WriteHeader(http.StatusServiceUnavailable)
	}, "urlprefix-/web")
	held, release := make(chan struct{}, 1), make(chan struct{})
	serve(world, "web", "web-2", func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/web/held" {
			held <- struct{}{}
			<-release
		}
	}, "urlprefix-/web")
	moment := time.Unix(1_800_000_000, 0)
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Now: func() time.Time { return moment }})
	meshtest.Wait(t, "both instances are there", func() bool { return len(l.Routes().Routes[0].Instances) == 2 })
	meshtest.Wait(t, "one request is refused", func() bool { return l.get("/web").status == http.StatusServiceUnavailable })
	done := make(chan int, 1)
	go func() {
		response, err := l.client.Get(l.url + "/web/held")
		if err != nil {
			done <- 0
			return
		}
		_ = response.Body.Close()
		done <- response.StatusCode
	}()
	select {
	case <-held:
	case got := <-done:
		close(release)
		t.Fatalf("one that comes after a refusal is refused too: %d", got)
	}
	refused := 0
	for range 100 {
		if l.get("/web").status != http.StatusOK {
			refused++
		}
	}
	close(release)
	if got := <-done; got != http.StatusOK || refused > 0 {
		t.Errorf("the request that was held: %d; %d of 100 others were refused, want none", got, refused)
	}
}

func TestThePageAndExplanationsTellWhoDefersAndForHowLong(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	var defers atomic.Bool
	defers.Store(true)
	serve(world, "web", "web-1", func(w http.ResponseWriter, _ *http.Request) {
		if defers.Load() {
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}, "urlprefix-/web")
	var later atomic.Int64
	moment := time.Unix(1_800_000_000, 0)
	l := with(t, world, proxy.Config{
		Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Now: func() time.Time { return moment.Add(time.Duration(later.Load())) },
	})
	const counts, before = "it defers (503 with Retry-After), which counts for ", "it has deferred (503 with Retry-After), and not succeeded since"
	for _, c := range []struct {
		at        time.Duration
		asked     bool // for an answer, before the look
		defers    bool
		left      time.Duration
		text, row string
	}{
		{0, false, false, 0, "", ">eligible<"},
		{0, true, true, 2 * time.Second, counts + "2.0 s", ">defers<"},
		{600 * time.Millisecond, false, true, 1400 * time.Millisecond, counts + "1.4 s", ">defers<"},
		{1999 * time.Millisecond, false, true, time.Millisecond, counts + "0.1 s", ">defers<"},
		{2 * time.Second, false, true, 0, before, ">defers<"},
		{3 * time.Second, true, false, 0, "", ">eligible<"},
	} {
		later.Store(int64(c.at))
		defers.Store(c.defers)
		if c.asked {
			l.get("/web")
		}
		explained, err := l.Explain(t.Context(), proxy.Question{URL: "/web"})
		if err != nil || explained.Status != 0 {
			t.Fatalf("%v: %+v, %v", c.at, explained, err)
		}
		want := strings.TrimSuffix("eligible; "+c.text, "; ")
		for where, i := range map[string]proxy.InstanceState{"explain": explained.Instances[0], "routes": l.Routes().Routes[0].Instances[0]} {
			if i.Why != want || i.Deferred != c.defers || i.DeferringFor != c.left || !i.Eligible {
				t.Errorf("after %v, %s: %q, deferred %t, for %v; want %q, %t, %v", c.at, where, i.Why, i.Deferred, i.DeferringFor, want, c.defers, c.left)
			}
		}
		for _, question := range []string{"/", "/?ask=/web"} {
			answer := httptest.NewRecorder()
			l.Admin(proxy.AdminConfig{}).Index().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, question, nil))
			page := answer.Body.String()
			if !strings.Contains(page, c.row) || !strings.Contains(page, c.text) || strings.Contains(page, "</b> deferring<") != c.defers {
				t.Errorf("after %v, the page at %s has not %q and %q", c.at, question, c.row, c.text)
			}
			if n, want := strings.Count(page, "503 with Retry-After"), map[bool]int{true: strings.Count(question, "ask") + 1}[c.defers]; n != want {
				t.Errorf("after %v, the page at %s tells of it %d times, want %d", c.at, question, n, want)
			}
		}
	}
}
