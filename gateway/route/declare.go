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
	name string
	// given are the instances as they came, instances the same in their order.
	given, instances []mesh.Instance
	declared         []*declaration // by key, then by instance
	problems         []Problem
}

// declaration is one instance at one route. If it was refused, it serves nobody.
type declaration struct {
	*reading
	service  *service
	instance *mesh.Instance
}

func (d *declaration) same(other *declaration) bool {
	return d.refused == other.refused && d.options.Equal(other.options) && sameInstance(d.instance, other.instance)
}

func compareDeclarations(a, b *declaration) int {
	return cmp.Or(a.key.Compare(b.key), strings.Compare(a.service.name, b.service.name), compareInstances(a.instance, b.instance))
}

func compareInstances(a, b *mesh.Instance) int {
	return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.ServiceID, b.ServiceID), strings.Compare(a.Address, b.Address))
}

func sameInstance(a, b *mesh.Instance) bool {
	return a == b || a.ServiceID == b.ServiceID && a.Node == b.Node && a.Address == b.Address && a.ID == b.ID &&
		slices.Equal(a.Tags, b.Tags) && maps.Equal(a.Meta, b.Meta)
}

// tagReader turns the tags of services into declarations.
type tagReader struct {
	parser tag.Parser
	check  func(tag.Route) error
	plain  *tag.Options
}

// reading is a tag that was read. One that closes its route has a key and a
// refusal.
type reading struct {
	isRoute bool
	key     Key
	options *tag.Options
	refused string
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

// declarer gathers what one service declares. Instances mostly carry the same
// tags, which are read once and share their options.
type declarer struct {
	reader tagReader
	known  map[string]*reading
	// mine are the routes of the instance in hand.
	mine   map[Key]*declaration
	result *service
}

// declare returns nil for a service without instances.
func (t tagReader) declare(name string, instances []mesh.Instance) *service {
	if len(instances) == 0 {
		return nil
	}
	d := declarer{reader: t, known: map[string]*reading{}, mine: map[Key]*declaration{}, result: &service{name: name, given: instances, instances: inOrder(instances)}}
	for i := range d.result.instances {
		d.instance(&d.result.instances[i])
	}
	d.result.declared = slices.Clip(d.result.declared)
	slices.SortFunc(d.result.declared, compareDeclarations)
	slices.SortFunc(d.result.problems, compareProblems)
	return d.result
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

func (d *declarer) instance(instance *mesh.Instance) {
	clear(d.mine)
	for _, text := range instance.Tags {
		read := d.known[text]
		if read == nil {
			read = d.reader.read(text)
			d.known[text] = read
		}
		if !read.isRoute {
			continue
		}
		if read.refused != "" {
			d.problem(instance, text, read.refused, read.closes)
		}
		if read.refused == "" || read.closes {
			d.add(&declaration{reading: read, service: d.result, instance: instance}, text)
		}
	}
}

// add takes one route of an instance. If the instance declares it a second time,
// the first holds, unless they disagree on who may use it: then nobody may.
func (d *declarer) add(next *declaration, text string) {
	known := d.mine[next.key]
	if known == nil {
		d.mine[next.key] = next
		d.result.declared = append(d.result.declared, next)
		return
	}
	if known.refused == next.refused && known.options.Equal(next.options) {
		return
	}
	const reason = "the instance declares the route again, with other options"
	guards := known.refused != "" || next.refused != "" || known.options.Guarded() || next.options.Guarded()
	d.problem(known.instance, text, reason, guards)
	if guards && known.refused == "" {
		refused := *known.reading
		refused.refused, refused.closes = reason, true
		known.reading = &refused
	}
}

func (d *declarer) problem(instance *mesh.Instance, text, reason string, closed bool) {
	d.result.problems = append(d.result.problems, Problem{
		Service: d.result.name, Node: instance.Node, Tag: fmt.Sprintf("%.80q", text), Reason: reason, Closed: closed,
	})
}

func compareProblems(a, b Problem) int {
	return cmp.Or(
		strings.Compare(a.Service, b.Service), strings.Compare(a.Node, b.Node),
		strings.Compare(a.Tag, b.Tag), strings.Compare(a.Reason, b.Reason),
	)
}
