package consul

import (
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"
)

// Registration is a service instance as it should be known to the agent.
type Registration struct {
	// ID is unique on the node; Name is the service.
	ID, Name string
	// Address and Port are where the instance listens. An empty Address means the
	// node's.
	Address string
	Port    int
	Tags    []string
	Meta    map[string]string
	// Native marks a Connect-native instance: it answers with its own identity.
	Native bool
	Check  Check
}

// Check says how Consul learns whether the instance is healthy: HTTP or TTL, not
// both. Without either, an instance counts as healthy.
type Check struct {
	// HTTP is a URL that answers 2xx while the instance is healthy.
	HTTP string
	// TTL is how long a report by Pass, Warn or Fail holds. The Registrar repeats
	// the last report three times per TTL, so the check turns critical when the
	// process dies. Until the first report it is critical.
	TTL time.Duration
	// Interval is the time between HTTP checks (default 1 s), Timeout the longest
	// that one may take (default 1 s).
	Interval, Timeout time.Duration
	// DeregisterAfter removes an instance that has been critical for so long.
	// Consul takes at least a minute; 0 means never.
	DeregisterAfter time.Duration
}

// report is what Pass, Warn or Fail said last.
type report struct{ status, note string }

func (r Registration) clone() Registration {
	r.Tags = slices.Clone(r.Tags)
	r.Meta = maps.Clone(r.Meta)
	return r
}

func (r Registration) checkID() string { return "service:" + r.ID }

// request translates the registration for the agent. The check starts with the
// last report, so that registering again does not make it critical for a moment.
func (r Registration) request(last report) *api.AgentServiceRegistration {
	request := &api.AgentServiceRegistration{
		ID: r.ID, Name: r.Name, Address: r.Address, Port: r.Port, Tags: r.Tags, Meta: r.Meta,
	}
	if r.Native {
		request.Connect = &api.AgentServiceConnect{Native: true}
	}
	check := &api.AgentServiceCheck{CheckID: r.checkID(), Name: r.Name + " on " + r.ID, Notes: r.Meta[metaIncarnation]}
	switch {
	case r.Check.HTTP != "":
		check.HTTP = r.Check.HTTP
		check.Interval = orDefault(r.Check.Interval, time.Second).String()
		check.Timeout = orDefault(r.Check.Timeout, time.Second).String()
	case r.Check.TTL > 0:
		check.TTL = r.Check.TTL.String()
		check.Status = last.status
	default:
		return request
	}
	if r.Check.DeregisterAfter > 0 {
		check.DeregisterCriticalServiceAfter = r.Check.DeregisterAfter.String()
	}
	request.Check = check
	return request
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// matches reports whether the agent holds the registration as it should be.
func (r Registration) matches(actual *api.AgentService, check *agentCheck) bool {
	if actual == nil || actual.Service != r.Name || actual.Port != r.Port || actual.Address != r.Address ||
		!slices.Equal(actual.Tags, r.Tags) || !maps.Equal(actual.Meta, r.Meta) {
		return false
	}
	if native := actual.Connect != nil && actual.Connect.Native; native != r.Native {
		return false
	}
	switch {
	case r.Check.HTTP != "":
		return check != nil && check.Type == "http"
	case r.Check.TTL > 0:
		return check != nil && check.Type == "ttl"
	default:
		return true
	}
}
