package proxy

import (
	"strings"

	"sluice/gateway/route"
	"sluice/gateway/tag"
)

// mostInstances bounds those that the page shows of one route.
const mostInstances = 25

// Found is what a search among the routes has found.
type Found struct {
	Query  string
	Routes []FoundRoute
	// Matches counts the routes that fit, of Total.
	Matches, Total int
}

// FoundRoute is a route and how many of its instances are not listed.
type FoundRoute struct {
	RouteState
	Omitted int
}

// More is how many routes fit beside those that are listed.
func (f Found) More() int { return f.Matches - len(f.Routes) }

// Search finds the routes that have every word of a query in their host, path,
// services, options or instances, and tells of the first ones, at most so many. A
// word can be for one of these: host:, path:, service:, option: and instance: (ID,
// node, address and datacenter). is:closed, is:plain, is:gone, is:tcp and
// is:draining find what is so. The case of letters does not matter.
func (p *Proxy) Search(query string, most int) Found {
	const longest = 200
	query = strings.ToValidUTF8(query[:min(len(query), longest)], "")
	state := p.state.Load()
	found := Found{Query: query, Routes: []FoundRoute{}, Total: state.table.Len()}
	terms := termsOf(query)
	for _, r := range state.table.Routes() {
		if !p.fits(planOf(r), r, terms) {
			continue
		}
		found.Matches++
		if found.Matches <= most {
			row := p.routeState(state, r, mostInstances)
			all := len(planOf(r).members) + len(p.withoutShare(planOf(r)))
			found.Routes = append(found.Routes, FoundRoute{row, all - len(row.Instances)})
		}
	}
	return found
}

// term is one word of a query; field is "" for any.
type term struct{ field, text string }

func termsOf(query string) []term {
	var terms []term
	for _, word := range strings.Fields(strings.ToLower(query)) {
		field, text, ok := strings.Cut(word, ":")
		switch field {
		case "host", "path", "service", "option", "instance", "is":
			if ok {
				terms = append(terms, term{field, text})
				continue
			}
		}
		terms = append(terms, term{"", word})
	}
	return terms
}

func (p *Proxy) fits(pl *plan, r *route.Route, terms []term) bool {
	for _, t := range terms {
		if t.field == "is" {
			if !p.is(pl, r, t.text) {
				return false
			}
			continue
		}
		if !p.has(pl, r, t) {
			return false
		}
	}
	return true
}

// has reports whether a route has the word where it is looked for.
func (p *Proxy) has(pl *plan, r *route.Route, t term) bool {
	in := func(field, text string) bool {
		return (t.field == "" || t.field == field) && strings.Contains(strings.ToLower(text), t.text)
	}
	switch {
	case in("host", r.Host), in("path", r.Path), t.field == "" && in("", r.String()):
		return true
	case r.Options != nil && (t.field == "" || t.field == "option") && in("option", r.Options.String()):
		return true
	}
	for _, service := range r.Services {
		if in("service", service) {
			return true
		}
	}
	if t.field != "" && t.field != "instance" {
		return false
	}
	for i := range pl.members {
		instance := &pl.members[i].target.instance
		if in("instance", instance.ServiceID) || in("instance", instance.Node) || in("instance", instance.Address) || in("instance", p.datacenterOf(instance)) {
			return true
		}
	}
	return false
}

// is reports whether a route is in a state.
func (p *Proxy) is(pl *plan, r *route.Route, what string) bool {
	switch what {
	case "closed":
		return pl.closed != ""
	case "gone":
		return !r.Gone.IsZero()
	case "tcp":
		return r.Kind != tag.HTTP
	}
	for i := range pl.members {
		m := &pl.members[i]
		if what == "plain" && !m.mesh() || what == "draining" && m.target.endpoint.Status(p.now()).Draining {
			return true
		}
	}
	return false
}
