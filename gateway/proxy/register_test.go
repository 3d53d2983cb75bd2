package proxy_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
)

// heardOf is a registry that keeps what it was told last, and refuses one name.
type heardOf struct {
	mu   sync.Mutex
	list []proxy.Registration
}

func (h *heardOf) Want(list []proxy.Registration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = list
}

func (h *heardOf) Problem(r proxy.Registration) error {
	if r.Name == "bad" {
		return errors.New("refused for a test")
	}
	return nil
}

func (h *heardOf) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []string
	for _, r := range h.list {
		names = append(names, fmt.Sprint(r.Name, r.Port))
	}
	return strings.Join(names, " ")
}

func TestRegistrationsAreWhatTheRoutesAskForThatAreServed(t *testing.T) {
	world, registry := meshtest.New(t), &heardOf{}
	world.Policy.Set(allowWeb)
	first := world.Instance("web", "a", "127.0.0.1:1", "urlprefix-/a register=one", "urlprefix-/b register=one", "urlprefix-/c register=bad", "urlprefix-/d")
	second := world.Instance("web", "b", "127.0.0.1:1", "urlprefix-/a register=two", "urlprefix-:99 proto=tcp register=db")
	world.Catalog.Add(first)
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Registry: registry})
	is := func(want string) {
		t.Helper()
		meshtest.Wait(t, "the registrations are "+want, func() bool { return registry.String() == want })
	}
	is("bad one")
	world.Catalog.Add(second)
	is("bad db:99 one two")
	e, err := l.Explain(t.Context(), proxy.Question{Method: http.MethodGet, URL: "/c"})
	if err != nil || len(e.Registered) != 1 || e.Registered[0] != (proxy.Registered{Service: "bad", Problem: "refused for a test"}) {
		t.Errorf("explained: %+v %v, want the reason", e.Registered, err)
	}
	world.Catalog.Remove(first)
	is("db:99 two")
	world.Catalog.Remove(second)
	is("") // the routes are kept for a while without instances, but nobody is sent there
	world.Catalog.Add(second)
	world.Catalog.Add(first)
	is("bad db:99 one two")
}
