package consul

import (
	"errors"
	"fmt"
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
		entries = append(entries, fmt.Sprintf(`{"Node":{"Node":"n","Address":"10.0.0.1"},"Service":{"ID":%q,"Port":1,"Tags":["urlprefix-/%s"]},"Checks":[]}`, id, id))
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

func idsOf(instances []mesh.Instance) string {
	var ids []string
	for _, i := range instances {
		ids = append(ids, i.ServiceID)
	}
	return strings.Join(ids, ",")
}
