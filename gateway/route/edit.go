package route

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"sluice/gateway/tag"
	"sluice/mesh"
)

// edit makes the next table out of one. It gathers the keys that are touched and
// then builds each of their routes once.
type edit struct {
	next    Table
	now     time.Time
	touched map[Key]bool
	// removed are what instances declared that have gone or changed, added is what
	// new and changed ones do.
	removed map[*part]bool
	added   map[Key][]*declaration
}

func (e *edit) touch(key Key) {
	if e.touched == nil {
		e.touched = map[Key]bool{}
	}
	e.touched[key] = true
}

// services gives services other instances.
func (e *edit) services(changed map[string][]mesh.Instance) {
	if e.next.plain == nil {
		e.next.plain = &tag.Options{Proto: tag.ProtoHTTP}
	}
	reader := tagReader{parser: tag.NewParser(e.next.prefix, e.next.datacenter).Matching(e.next.match), check: e.next.check, admit: e.next.admit, plain: e.next.plain}
	e.removed, e.added = map[*part]bool{}, map[Key][]*declaration{}
	for name, instances := range changed {
		old := e.next.services.get(name)
		if old.sameInstances(instances) {
			continue
		}
		next := reader.declare(name, instances, old)
		e.next.services = e.next.services.with(name, next)
		troubled := next
		if next != nil && len(next.problems) == 0 {
			troubled = nil
		}
		e.next.troubled = e.next.troubled.with(name, troubled)
		e.compare(old.all(), next.all())
	}
}

// all returns the parts of a service that may be nil.
func (s *service) all() []*part {
	if s == nil {
		return nil
	}
	return s.parts
}

func (s *service) sameInstances(instances []mesh.Instance) bool {
	if s == nil {
		return len(instances) == 0
	}
	if len(s.given) != len(instances) {
		return false
	}
	if &s.given[0] == &instances[0] {
		return true
	}
	for i := range instances {
		if !sameInstance(&s.given[i], &instances[i]) {
			return false
		}
	}
	return true
}

// compare touches the keys of the instances of a service that are not as they were.
func (e *edit) compare(old, next []*part) {
	kept := make(map[*part]bool, len(old))
	for _, p := range old {
		kept[p] = false
	}
	for _, p := range next {
		if _, known := kept[p]; known {
			kept[p] = true
			continue
		}
		for _, d := range p.declared {
			e.added[d.key] = append(e.added[d.key], d)
			e.touch(d.key)
		}
	}
	for _, p := range old {
		if kept[p] {
			continue
		}
		e.removed[p] = true
		for _, d := range p.declared {
			e.touch(d.key)
		}
	}
}

// rules gives the table other rules, which may touch every route.
func (e *edit) rules(rules Rules) {
	if rules == e.next.rules {
		return
	}
	if e.next.rules != nil {
		for _, key := range e.next.rules.Added() {
			e.touch(key)
		}
	}
	e.next.rules = rules
	if rules != nil {
		for _, key := range rules.Added() {
			e.touch(key)
		}
	}
	e.next.rows.each(func(r *row) bool {
		e.touch(r.key())
		return true
	})
}

// finish builds the routes that were touched.
func (e *edit) finish() (*Table, []Change) {
	if !e.next.expires.IsZero() && !e.now.Before(e.next.expires) {
		e.next.gone.each(func(r *row) bool {
			if e.expired(r.route.Gone) {
				e.touch(r.key())
			}
			return true
		})
	}
	// In order, so that what is looked up together is made together, and lies so.
	var changes []Change
	for _, key := range slices.SortedFunc(maps.Keys(e.touched), Key.Compare) {
		if before, after := e.rebuild(key); before != after {
			changes = append(changes, Change{before, after})
		}
	}
	e.schedule()
	next := e.next // not a pointer into the edit, which would be kept alive
	return &next, changes
}

func (e *edit) expired(gone time.Time) bool { return e.now.Sub(gone) >= e.next.keep }

// schedule finds out when the next route that is gone is to be forgotten.
func (e *edit) schedule() {
	if len(e.touched) == 0 {
		return
	}
	e.next.expires = time.Time{}
	e.next.gone.each(func(r *row) bool {
		at := r.route.Gone.Add(e.next.keep)
		if e.next.expires.IsZero() || at.Before(e.next.expires) {
			e.next.expires = at
		}
		return true
	})
}

// rebuild puts the route of one key in its place and returns it, and the one
// before; the same twice if nothing came of the change.
func (e *edit) rebuild(key Key) (before, after *Route) {
	name := text(key)
	old := e.next.rows.get(name)
	next := &row{declared: e.declared(old, key)}
	if old != nil {
		before = old.route
	}
	next.route = e.route(key, next, old)
	if next.route.same(before) {
		next.route = before
	}
	after = next.route
	if after == nil && len(next.declared) == 0 {
		next = nil
	}
	e.next.rows = e.next.rows.with(name, next)
	if after == nil || after.Gone.IsZero() {
		e.next.gone = e.next.gone.with(name, nil)
	} else {
		e.next.gone = e.next.gone.with(name, next)
	}
	if before != after {
		e.place(key, before, after)
	}
	return before, after
}

// declared returns what declares a key now.
func (e *edit) declared(old *row, key Key) []*declaration {
	var all []*declaration
	if old != nil {
		for _, d := range old.declared {
			if !e.removed[d.part] {
				all = append(all, d)
			}
		}
	}
	all = append(all, e.added[key]...)
	slices.SortFunc(all, compareDeclarations)
	return slices.Clip(all)
}

// route builds the route of a key; nil means that there is none.
func (e *edit) route(key Key, next, old *row) *Route {
	var targets []Target
	closed := ""
	for _, d := range next.declared {
		if d.refused != "" {
			closed = cmp.Or(closed, d.refused)
			continue
		}
		targets = append(targets, Target{Instance: d.instance, Service: d.service, Options: d.options, Weight: d.options.Weight})
	}
	// Old instances without the guard, and those that rules add, do not open what
	// new ones were to restrict.
	if closed != "" && !guarded(targets) {
		targets = nil
	}
	discovered := len(targets) > 0
	if e.next.rules != nil {
		targets = e.next.rules.Apply(key, targets)
	}
	if closed != "" && len(targets) > 0 && !guarded(targets) {
		targets, discovered = nil, false
	}
	switch {
	case len(targets) > 0:
		r := newRoute(key, targets)
		var whole *service
		var first *part
		if len(next.declared) > 0 {
			first = next.declared[0].part
			whole = e.next.services.get(first.service)
		}
		r.setInstances(whole, first)
		return r
	case closed != "" && !discovered:
		return &Route{Key: key, Services: servicesOf(next.declared), Closed: closed}
	case len(next.declared) > 0 || old == nil || old.route == nil:
		return nil
	}
	gone := old.route.Gone
	if gone.IsZero() {
		gone = e.now
	}
	// What only rules had added is not gone: somebody took it away.
	if len(old.declared) == 0 && old.route.Gone.IsZero() || e.expired(gone) {
		return nil
	}
	return &Route{Key: key, Services: old.route.Services, Gone: gone}
}

func guarded(targets []Target) bool {
	return slices.ContainsFunc(targets, func(t Target) bool { return t.Options.Guarded() })
}

func servicesOf(declared []*declaration) []string {
	var all []string
	for _, d := range declared {
		all = append(all, d.service)
	}
	return slices.Compact(all)
}

// place puts a route where lookups find it; after is nil to remove it.
func (e *edit) place(key Key, before, after *Route) {
	t := &e.next
	if before == nil {
		t.size++
	}
	if after == nil {
		t.size--
	}
	switch {
	case key.Kind == tag.Port:
		t.ports = t.ports.with(key.Host, after)
	case key.Kind == tag.Name:
		t.names = t.names.with(key, after)
	case key.Host == "":
		t.any = t.any.with(key, after)
	default:
		t.web = t.web.with(key, after)
	}
}
