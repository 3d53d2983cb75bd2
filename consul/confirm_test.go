package consul

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"sluice/internal/consultest"
)

// forgetful is an agent that holds what it is told, but whose servers see the
// first status of the first registration only: the rest came while it was pushing.
type forgetful struct {
	mu            sync.Mutex
	held          *api.AgentServiceRegistration
	status        string
	registrations int
	// pushed is what the servers have.
	pushedMeta, pushedStatus string
}

func (f *forgetful) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch r.URL.Path {
	case "/v1/agent/services":
		services := map[string]*api.AgentService{}
		if h := f.held; h != nil {
			services[h.ID] = &api.AgentService{ID: h.ID, Service: h.Name, Port: h.Port, Address: h.Address, Tags: h.Tags, Meta: h.Meta, Connect: h.Connect}
		}
		_ = json.NewEncoder(w).Encode(services)
	case "/v1/agent/checks":
		checks := map[string]*api.AgentCheck{}
		if h := f.held; h != nil {
			checks[h.Check.CheckID] = &api.AgentCheck{CheckID: h.Check.CheckID, Type: "ttl", Status: f.status}
		}
		_ = json.NewEncoder(w).Encode(checks)
	case "/v1/agent/service/register":
		var h api.AgentServiceRegistration
		_ = json.NewDecoder(r.Body).Decode(&h)
		f.registrations++
		f.held, f.status = &h, h.Check.Status
		f.pushedMeta, f.pushedStatus = h.Meta[metaIncarnation], h.Check.Status
	case "/v1/agent/check/update/service:web-1":
		var update struct{ Status string }
		_ = json.NewDecoder(r.Body).Decode(&update)
		f.status = update.Status // and nobody else hears of it
	case "/v1/health/service/web":
		_ = json.NewEncoder(w).Encode([]*api.ServiceEntry{{
			Node:    &api.Node{Node: "n"},
			Service: &api.AgentService{ID: "web-1", Meta: map[string]string{metaIncarnation: f.pushedMeta}},
			Checks:  api.HealthChecks{{CheckID: "service:web-1", Status: f.pushedStatus}},
		}})
	default:
		http.NotFound(w, r)
	}
}

func TestWhatTheServersMissedIsSentAgain(t *testing.T) {
	t.Parallel()
	agent := &forgetful{}
	server := httptest.NewServer(agent)
	defer server.Close()
	client, err := Open(Config{Address: server.Listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	registrar := client.Registrar()
	running(t, registrar.Run)
	registrar.Set(ttl("web-1", "web"))
	registrar.Fail("web-1", "not ready yet")
	if err := registrar.Wait(within(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	registrar.Pass("web-1", "ready")
	consultest.Await(t, 5*time.Second, "the servers see it pass", func() error {
		agent.mu.Lock()
		defer agent.mu.Unlock()
		if agent.pushedStatus != api.HealthPassing {
			return fmt.Errorf("they see it %s", agent.pushedStatus)
		}
		return nil
	})
	agent.mu.Lock()
	defer agent.mu.Unlock()
	if agent.registrations != 2 {
		t.Errorf("%d registrations, want 2", agent.registrations)
	}
}
