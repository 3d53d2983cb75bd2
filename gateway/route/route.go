// Package route is the gateway's routing table: which instances of which
// services answer for a host and a path, for a TCP port, or for a TLS server
// name.
//
// A Table is an immutable value. An update makes another that shares with it all
// that did not change, so one writer publishes tables by an atomic pointer and
// readers take no lock. A lookup allocates nothing. What a table holds depends on
// the catalog and the rules it was made from, not on the order in which they
// came; only routes whose last instance went depend on the past, and they are
// forgotten after a while.
//
// The package is pure: it does no I/O, starts nothing, and asks nobody for the
// time.
package route

import (
	"net/netip"
	"time"

	"sluice/gateway/tag"
	"sluice/mesh"
)

// DefaultPrefix marks a tag as a route.
const DefaultPrefix = tag.DefaultPrefix

// Key is what a route takes.
type Key = tag.Key

// Parse reads the key of a tag. See tag.Parser for its errors.
func Parse(prefix, text string) (Key, error) {
	r, err := tag.NewParser(prefix, "").Parse(text)
	if err != nil {
		return Key{}, err
	}
	return r.Key, nil
}

// HasDotSegment reports whether a decoded path has a segment "." or "..".
func HasDotSegment(path string) bool { return tag.HasDotSegment(path) }

// Route is one row of the table: a key and the instances that answer for it.
// More than one service may declare the same route; they share it. A Route is
// shared by tables and requests: do not change it.
type Route struct {
	Key
	// Services are the names of the services behind the route, sorted.
	Services []string `json:"services"`
	// Instances is empty while no instance is healthy. Ordered by service, node
	// and registration.
	Instances []mesh.Instance `json:"instances"`
	// Targets say how each of Instances is used, in the same order.
	Targets []Target `json:"-"`
	// Options are those of the first target, where something concerns the whole
	// route; nil without a target.
	Options *tag.Options `json:"-"`
	// Guards are the different restrictions that the targets declare. A client
	// must satisfy all of them, whichever target it would get: while a change of
	// tags is on its way through the instances, the stricter one holds.
	Guards []*tag.Options `json:"-"`
	// Mixed is true while the targets do not declare the same options; weights may
	// differ.
	Mixed bool `json:"mixed,omitempty"`
	// Closed says why nobody may use the route: a tag was meant to restrict it and
	// cannot be read, and no instance declares a restriction that can. "" if it is
	// open.
	Closed string `json:"closed,omitempty"`
	// Gone is when the last healthy instance went; zero while there is one.
	Gone time.Time `json:"gone,omitzero"`
	// Use is how whoever serves the table uses the route. The package leaves it
	// alone; it is set before the table is shared, and not changed after that.
	Use any `json:"-"`
}

// Target is one instance in its use for one route.
type Target struct {
	// Instance is where to connect. One that a rule added has an address alone,
	// no identity, and is Plain by its options.
	Instance *mesh.Instance
	Service  string
	Options  *tag.Options
	// Weight is the fixed share that was asked for; 0 is an equal part of the rest.
	Weight float64
	// Share is the part of the route's requests, from 0 to 1; all of a route add up
	// to 1.
	Share float64
}

// Admits reports whether a client at addr may use the route. It does not look
// at credentials; see Guards.
func (r *Route) Admits(addr netip.Addr) bool {
	if r.Closed != "" {
		return false
	}
	for _, guard := range r.Guards {
		if !guard.Admits(addr) {
			return false
		}
	}
	return true
}

// Problem is a tag that is quarantined, and why.
type Problem struct {
	Service string `json:"service"`
	Node    string `json:"node"`
	Tag     string `json:"tag"`
	Reason  string `json:"reason"`
	// Closed is true if the tag was meant as a guard: its route is kept, and closed
	// to everybody unless another instance declares a guard that can be read.
	Closed bool `json:"closed,omitempty"`
}

// Rules change what the catalog declares. A Rules value is immutable.
type Rules interface {
	// Apply returns the targets of a route after the rules. It may change the slice
	// that it is given, which is not shared, but nothing that its elements point to.
	Apply(key Key, discovered []Target) []Target
	// Added are the routes to which the rules add targets.
	Added() []Key
}

// share computes the part of the route that each target gets, in Fabio's way:
// fixed weights first, scaled if they exceed the whole or if nobody is there for
// the rest; what is left is split equally among targets without a weight.
func share(targets []Target) {
	sum, fixed := 0.0, 0
	for _, t := range targets {
		if t.Weight > 0 {
			sum += t.Weight
			fixed++
		}
	}
	rest, whole := 0.0, 1.0
	if sum > 1 || fixed == len(targets) {
		whole = sum
	}
	if fixed < len(targets) {
		rest = max(0, 1-sum) / float64(len(targets)-fixed)
	}
	for i := range targets {
		targets[i].Share = rest
		if targets[i].Weight > 0 {
			targets[i].Share = targets[i].Weight / whole // not * (1/whole), which overflows
		}
	}
}
