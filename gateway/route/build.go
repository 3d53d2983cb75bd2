package route

import (
	"slices"
	"strings"

	"sluice/gateway/tag"
	"sluice/mesh"
)

// newRoute returns the route that has these targets, of which there is at least
// one.
func newRoute(key Key, targets []Target) *Route {
	slices.SortStableFunc(targets, func(a, b Target) int {
		if c := strings.Compare(a.Service, b.Service); c != 0 {
			return c
		}
		return compareInstances(a.Instance, b.Instance)
	})
	share(targets)
	r := &Route{Key: key, Targets: slices.Clip(targets), Options: targets[0].Options}
	for i := range targets {
		t := &targets[i]
		if len(r.Services) == 0 || r.Services[len(r.Services)-1] != t.Service {
			r.Services = append(r.Services, t.Service)
		}
		r.Mixed = r.Mixed || !sameButWeight(t.Options, r.Options)
		if t.Options.Guarded() && !slices.ContainsFunc(r.Guards, func(g *tag.Options) bool { return sameGuard(g, t.Options) }) {
			r.Guards = append(r.Guards, t.Options)
		}
	}
	return r
}

// setInstances makes Instances of the targets, of which whole is the service of the
// first and declarer its instance; both may be nil. If those are all the instances
// of one service, as they mostly are, or one of them, its routes share them.
func (r *Route) setInstances(whole *service, declarer *part) {
	if declarer != nil && len(r.Targets) == 1 && r.Targets[0].Instance == declarer.instance {
		r.Instances, r.Services = declarer.alone, declarer.services
		return
	}
	parts := whole.all()
	shared := len(parts) == len(r.Targets)
	for i := range r.Targets {
		shared = shared && r.Targets[i].Instance == parts[i].instance
	}
	if shared {
		r.Instances = whole.instances
	} else {
		r.Instances = make([]mesh.Instance, len(r.Targets))
		for i := range r.Targets {
			r.Instances[i] = *r.Targets[i].Instance
		}
	}
	for i := range r.Targets {
		r.Targets[i].Instance = &r.Instances[i]
	}
}

func sameButWeight(a, b *tag.Options) bool {
	if a == b {
		return true
	}
	weightless := *a
	weightless.Weight = b.Weight
	return weightless.Equal(b)
}

func sameGuard(a, b *tag.Options) bool {
	return a == b || a.Auth == b.Auth && slices.Equal(a.Allow, b.Allow) && slices.Equal(a.Deny, b.Deny)
}

// same reports whether two routes cannot be told apart.
func (r *Route) same(other *Route) bool {
	if r == nil || other == nil {
		return r == other
	}
	return r.Key == other.Key && r.Closed == other.Closed && r.Gone.Equal(other.Gone) &&
		slices.Equal(r.Services, other.Services) && slices.EqualFunc(r.Targets, other.Targets, sameTarget)
}

func sameTarget(a, b Target) bool {
	return a.Service == b.Service && a.Weight == b.Weight && a.Share == b.Share &&
		a.Options.Equal(b.Options) && sameInstance(a.Instance, b.Instance)
}
