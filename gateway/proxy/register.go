package proxy

import (
	"cmp"
	"slices"

	"sluice/gateway/route"
	"sluice/gateway/tag"
)

// Registration is a service that a route's register= asks for: it stands for the
// gateway, at the place where clients of the route come in.
type Registration struct {
	// Name is the service.
	Name string
	// Kind is that of the route. Port is where a TCP route listens, ":port" or
	// "ip:port"; "" for the others.
	Kind tag.Kind
	Port string
}

// Registry registers services that stand for the gateway.
type Registry interface {
	// Want makes these registered, and no others of which it was told before. It does
	// not wait.
	Want([]Registration)
	// Problem returns why one of them is not registered now; nil if it is.
	Problem(Registration) error
}

// Registered is a service of register=, for people.
type Registered struct {
	Service string `json:"service"`
	// Problem is why it is not registered; "" if it is.
	Problem string `json:"problem,omitempty"`
}

// registrationsOf are those that a route asks for, each once. One that is closed or
// whose instances are gone has no targets, and asks for none.
func registrationsOf(r *route.Route) []Registration {
	if r == nil {
		return nil
	}
	var list []Registration
	for i := range r.Targets {
		next := Registration{Name: r.Targets[i].Options.Register, Kind: r.Kind}
		if r.Kind == tag.Port {
			next.Port = r.Host
		}
		if next.Name != "" && !slices.Contains(list, next) {
			list = append(list, next)
		}
	}
	return list
}

// register tells the registry of changes.
func (f *follower) register(changes []route.Change) {
	if f.cfg.Registry == nil {
		return
	}
	news := map[Registration]bool{}
	for _, c := range changes {
		for _, r := range registrationsOf(c.Before) {
			f.registered[r]--
			news[r] = true
		}
		for _, r := range registrationsOf(c.After) {
			f.registered[r]++
			news[r] = true
		}
	}
	if len(news) == 0 {
		return
	}
	var wanted []Registration
	for r, routes := range f.registered {
		if routes > 0 {
			wanted = append(wanted, r)
		} else {
			delete(f.registered, r)
		}
	}
	slices.SortFunc(wanted, func(a, b Registration) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Port, b.Port))
	})
	f.cfg.Registry.Want(wanted)
}

// registeredFor tells of the services that a route has registered.
func (p *Proxy) registeredFor(r *route.Route) []Registered {
	if p.cfg.Registry == nil {
		return nil
	}
	var list []Registered
	for _, wanted := range registrationsOf(r) {
		state := Registered{Service: wanted.Name}
		if err := p.cfg.Registry.Problem(wanted); err != nil {
			state.Problem = err.Error()
		}
		list = append(list, state)
	}
	return list
}
