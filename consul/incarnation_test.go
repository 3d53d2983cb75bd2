package consul

import (
	"maps"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// An agent that loaded a registration from its disk takes the same one, given
// again, for known to the servers, so that a new process must not give the same.
func TestARegistrationIsNeverTheSameAsOneBefore(t *testing.T) {
	given := Registration{ID: "web-1", Name: "web", Port: 8000, Meta: map[string]string{"role": "test"}, Check: Check{TTL: time.Second}}
	desired := func() Registration {
		registrar := (&Client{}).Registrar()
		registrar.Set(given)
		return registrar.desired["web-1"].registration
	}
	last, next := desired(), desired()
	loaded := &api.AgentService{ID: "web-1", Service: "web", Port: 8000, Tags: last.Tags, Meta: last.Meta}
	check := &agentCheck{Type: "ttl"}
	if !last.matches(loaded, check) {
		t.Fatal("a process does not recognise its own registration")
	}
	if next.matches(loaded, check) {
		t.Error("a new process takes the last one's registration for its own")
	}
	if last.request(report{}).Check.Notes == next.request(report{}).Check.Notes {
		t.Error("a new process gives the same check as the last")
	}
	if !maps.Equal(given.Meta, map[string]string{"role": "test"}) {
		t.Errorf("the caller's own map was changed: %v", given.Meta)
	}
}
