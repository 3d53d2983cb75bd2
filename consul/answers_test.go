package consul

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/consultest"
	"sluice/mesh"
)

// plainAnswer is an answer of /v1/health/service about instances with these IDs.
func plainAnswer(ids ...string) string {
	var entries []string
	for _, id := range ids {
		entries = append(entries, fmt.Sprintf(`{"Node":{"Node":"n","Address":"10.0.0.1","Datacenter":"dc1"},"Service":{"ID":%q,"Port":1,"Tags":["urlprefix-/%s"]},"Checks":[]}`, id, id))
	}
	return "[" + strings.Join(entries, ",") + "]"
}

func TestAnAnswerThatCannotBeReadKeepsTheLastGoodInstances(t *testing.T) {
	for name, bad := range map[string]string{
		"not JSON":               plainAnswer("c")[1:],
		"JSON of something else": `{"a":1}`,
		"broken off":             plainAnswer("c")[:40],
		"more after its end":     plainAnswer("c") + "]",
	} {
		t.Run(name, func(t *testing.T) {
			var answered atomic.Int64
			release := make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if packed := r.Header.Get("Accept-Encoding"); packed != "" {
					t.Errorf("the agent is asked to pack its answer: %q", packed)
				}
				switch n := answered.Add(1); {
				case n == 1:
					w.Header().Set("X-Consul-Index", "5")
					_, _ = w.Write([]byte(plainAnswer("a")))
				case n == 2 || n == 3:
					w.Header().Set("X-Consul-Index", "6")
					_, _ = w.Write([]byte(bad))
				default:
					select {
					case <-release:
						w.Header().Set("X-Consul-Index", "7")
						_, _ = w.Write([]byte(plainAnswer("a", "b")))
					case <-r.Context().Done():
					}
				}
			}))
			defer server.Close()
			watch := openAt(t, server.URL, "").watchPlain("web", "urlprefix-", make(chan struct{}, 1))
			stop := running(t, watch.Run)
			defer stop()
			has := func(failures int, want ...string) func() error {
				return func() error {
					state := watch.State()
					if got := idsOf(state.Value.instances); got != strings.Join(want, ",") || state.Failures != failures {
						return fmt.Errorf("instances %q, failures %d: %w", got, state.Failures, errors.Join(state.Err))
					}
					return nil
				}
			}
			consultest.Await(t, 5*time.Second, "after two bad answers the instances of the last good one are left", has(2, "a"))
			close(release)
			consultest.Await(t, 5*time.Second, "the next good answer is taken", has(0, "a", "b"))
		})
	}
}

// TestAnAnswerWithoutAnIndexIsNotConsulsAndKeepsWhatIsKnown is of an agent, or of what
// answers in its place, that says 200 and knows nothing.
func TestAnAnswerWithoutAnIndexIsNotConsulsAndKeepsWhatIsKnown(t *testing.T) {
	names := func(c *Client) *Watch[[]string] { return c.ResolverAll("urlprefix-").names }
	for _, c := range []struct{ what, good, bad string }{
		{"instances outside the mesh", plainAnswer("a"), "[]"},
		{"instances outside the mesh", plainAnswer("a"), "null"},
		{"instances", plainAnswer("a"), "[]"},
		{"instances", plainAnswer("a"), "null"},
		{"services", `{"a":["urlprefix-/"]}`, "{}"},
		{"services", `{"a":["urlprefix-/"]}`, "null"},
	} {
		t.Run(c.what+" "+c.bad, func(t *testing.T) {
			client := openAt(t, falling(t, c.good, c.bad), "")
			switch c.what {
			case "instances":
				keepsA(t, client.watchInstances("web", "", knownRoots(), nil), func(l instanceList) string { return idsOf(l.instances) })
			case "services":
				keepsA(t, names(client), func(l []string) string { return strings.Join(l, ",") })
			default:
				keepsA(t, client.watchPlain("web", "urlprefix-", nil), func(l instanceList) string { return idsOf(l.instances) })
			}
		})
	}
}

// falling serves one good answer, and then bad ones without an index.
func falling(t *testing.T, good, bad string) (url string) {
	var answered atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if answered.Add(1) > 1 {
			_, _ = w.Write([]byte(bad))
			return
		}
		w.Header().Set("X-Consul-Index", "5")
		_, _ = w.Write([]byte(good))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// knownRoots is a watch that knows the trust domain, and is not run.
func knownRoots() *Watch[rootFacts] {
	roots := newWatch(watchConfig[rootFacts]{name: "roots", logger: slog.New(slog.DiscardHandler)})
	roots.learn(rootFacts{trustDomain: "11111111-2222-3333-4444-555555555555.consul"}, 1, true)
	return roots
}

// keepsA holds that a watch whose second answer is bad says so and still knows a.
func keepsA[T any](t *testing.T, watch *Watch[T], text func(T) string) {
	t.Helper()
	defer running(t, watch.Run)()
	consultest.Await(t, 5*time.Second, "a second answer has come", func() error {
		if state := watch.State(); !state.Known || state.Failures < 2 && text(state.Value) == "a" {
			return errors.New("not yet")
		}
		return nil
	})
	state := watch.State()
	told := state.Err != nil && (strings.Contains(state.Err.Error(), "without an index") || strings.Contains(state.Err.Error(), "a null"))
	if text(state.Value) != "a" || !told {
		t.Errorf("%q is known, error %v; want a, and an error", text(state.Value), state.Err)
	}
}

func idsOf(instances []mesh.Instance) string {
	var ids []string
	for _, i := range instances {
		ids = append(ids, i.ServiceID)
	}
	return strings.Join(ids, ",")
}
