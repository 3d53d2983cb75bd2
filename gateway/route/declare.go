package route

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sluice/gateway/tag"
	"sluice/mesh"
)

// service is what one service has in the table.
type service struct {
	// given are the instances as they came, parts the same in their order.
	given    []mesh.Instance
	name     string
	parts    []*part
	problems []Problem
	// instances are those of parts, for routes that have them all.
	instances []mesh.Instance
}

// part is what one instance declares. It is shared by tables for as long as the
// instance stays as it is, and holds nothing of the rest of its service, which
// would be kept alive by it.
type part struct {
	service  string
	instance *mesh.Instance
	// alone and services are those of routes that no other instance declares.
	alone    []mesh.Instance
	services []string
	// readings are those of the tags, in their order.
	readings []*reading
	declared []*declaration // by key
	problems []Problem
}

// declaration is one instance at one route. If it was refused, it serves nobody.
type declaration struct {
	*reading
	*part
}

func compareDeclarations(a, b *declaration) int {
	return cmp.Or(a.key.Compare(b.key), strings.Compare(a.service, b.service), compareInstances(a.instance, b.instance))
}

func compareInstances(a, b *mesh.Instance) int {
	return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.ServiceID, b.ServiceID), strings.Compare(a.Address, b.Address))
}

func sameInstance(a, b *mesh.Instance) bool {
	return a == b || a.ServiceID == b.ServiceID && a.Node == b.Node && a.Address == b.Address && a.ID == b.ID &&
		sameTags(a.Tags, b.Tags) && maps.Equal(a.Meta, b.Meta)
}

// sameTags knows at once that a list is itself: each route of an instance asks.
func sameTags(a, b []string) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

// tagReader turns the tags of services into declarations.
type tagReader struct {
	parser tag.Parser
	check  func(tag.Route) error
	admit  func(*mesh.Instance, *tag.Options) error
	plain  *tag.Options
}

// reading is a tag that was read. One that closes its route has a key and a
// refusal.
type reading struct {
	key     Key
	options *tag.Options
	refused string
	isRoute bool
	closes  bool
}

func (t tagReader) read(text string) *reading {
	route, err := t.parser.Parse(text)
	if errors.Is(err, tag.ErrNotRoute) {
		return &reading{}
	}
	r := &reading{isRoute: true, key: route.Key, options: t.plain}
	var refused *tag.Error
	switch {
	case errors.As(err, &refused):
		r.refused, r.closes = err.Error(), refused.Guards
		return r
	case t.check != nil:
		err = t.check(route)
	}
	if err != nil {
		r.refused, r.closes = err.Error(), route.Options.Guarded()
		return r
	}
	if !route.Options.Equal(t.plain) {
		r.options = &route.Options
	}
	return r
}

// admitted returns the reading as it holds for one instance.
func (t tagReader) admitted(r *reading, instance *mesh.Instance) *reading {
	if t.admit == nil || r.refused != "" {
		return r
	}
	err := t.admit(instance, r.options)
	if err == nil {
		return r
	}
	refused := *r
	refused.refused, refused.closes = err.Error(), r.options.Guarded()
	return &refused
}

// declarer gathers what one service declares. Instances mostly carry the same
// tags, which are read once and share their options.
type declarer struct {
	reader tagReader
	known  map[string]*reading
	// distinct are options that were read, up to maxDistinct.
	distinct []*tag.Options
	// mine are the routes of the instance in hand, which is that of part.
	mine map[Key]*declaration
	part *part
}

// declare returns what a service declares, with the parts of old, which may be nil,
// for the instances that are as they were. It returns nil for a service without
// instances.
func (t tagReader) declare(name string, instances []mesh.Instance, old *service) *service {
	if len(instances) == 0 {
		return nil
	}
	s := &service{name: name, given: instances, instances: inOrder(instances)}
	d := declarer{reader: t, known: map[string]*reading{}, mine: map[Key]*declaration{}}
	s.parts = make([]*part, 0, len(instances))
	rest := old.all()
	for i := range s.instances {
		instance := &s.instances[i]
		for len(rest) > 0 && compareInstances(rest[0].instance, instance) < 0 {
			rest = rest[1:]
		}
		switch {
		case len(rest) == 0 || compareInstances(rest[0].instance, instance) != 0:
			if len(d.known) == 0 {
				d.learn(old.all())
			}
			s.parts = append(s.parts, d.declare(name, instance))
		case sameInstance(rest[0].instance, instance):
			s.parts, rest = append(s.parts, rest[0]), rest[1:]
		default:
			d.learn(rest)
			s.parts, rest = append(s.parts, d.declare(name, instance)), rest[1:]
		}
		s.problems = append(s.problems, s.parts[i].problems...)
	}
	slices.SortFunc(s.problems, compareProblems)
	return s
}

// learn takes the readings of the first of parts, the most likely to have the tags
// of an instance that is to be read.
func (d *declarer) learn(parts []*part) {
	if len(parts) == 0 {
		return
	}
	for i, r := range parts[0].readings {
		d.known[parts[0].instance.Tags[i]] = r
		_ = d.one(r.options)
	}
}

// maxDistinct is how many different options of a service are looked through for ones
// that a tag has as well.
const maxDistinct = 16

// one returns options that were read before and are the same, if there are any. What a
// route makes of its options is larger than they are, and routes with the same ones
// share it.
func (d *declarer) one(o *tag.Options) *tag.Options {
	for _, known := range d.distinct {
		if known == o || o != nil && known.Equal(o) {
			return known
		}
	}
	if o != nil && len(d.distinct) < maxDistinct {
		d.distinct = append(d.distinct, o)
	}
	return o
}

func inOrder(instances []mesh.Instance) []mesh.Instance {
	compare := func(a, b mesh.Instance) int { return compareInstances(&a, &b) }
	if slices.IsSortedFunc(instances, compare) {
		return instances
	}
	instances = slices.Clone(instances)
	slices.SortFunc(instances, compare)
	return instances
}

func newPart(service string, instance *mesh.Instance) *part {
	alone := []mesh.Instance{*instance}
	return &part{service: service, instance: &alone[0], alone: alone, services: []string{service}, readings: make([]*reading, len(instance.Tags))}
}

// declare reads the tags of one instance.
func (d *declarer) declare(service string, instance *mesh.Instance) *part {
	clear(d.mine)
	d.part = newPart(service, instance)
	for i, text := range instance.Tags {
		read := d.known[text]
		if read == nil {
			read = d.reader.read(text)
			read.options = d.one(read.options)
			d.known[text] = read
		}
		d.part.readings[i] = read
		if !read.isRoute {
			continue
		}
		read = d.reader.admitted(read, instance)
		if read.refused != "" {
			d.problem(text, read.refused, read.closes)
		}
		if read.refused == "" || read.closes {
			d.add(&declaration{reading: read, part: d.part}, text)
		}
	}
	d.part.declared = slices.Clip(d.part.declared)
	slices.SortFunc(d.part.declared, compareDeclarations)
	return d.part
}

// add takes one route of an instance. If the instance declares it a second time,
// the first holds, unless they disagree on who may use it: then nobody may.
func (d *declarer) add(next *declaration, text string) {
	known := d.mine[next.key]
	if known == nil {
		d.mine[next.key] = next
		d.part.declared = append(d.part.declared, next)
		return
	}
	if known.refused == next.refused && known.options.Equal(next.options) {
		return
	}
	const reason = "the instance declares the route again, with other options"
	guards := known.refused != "" || next.refused != "" || known.options.Guarded() || next.options.Guarded()
	d.problem(text, reason, guards)
	if guards && known.refused == "" {
		refused := *known.reading
		refused.refused, refused.closes = reason, true
		known.reading = &refused
	}
}

func (d *declarer) problem(text, reason string, closed bool) {
	d.part.problems = append(d.part.problems, Problem{
		Service: d.part.service, Node: d.part.instance.Node, Tag: fmt.Sprintf("%.80q", text), Reason: reason, Closed: closed,
	})
}

func compareProblems(a, b Problem) int {
	return cmp.Or(
		strings.Compare(a.Service, b.Service), strings.Compare(a.Node, b.Node),
		strings.Compare(a.Tag, b.Tag), strings.Compare(a.Reason, b.Reason),
	)
}
