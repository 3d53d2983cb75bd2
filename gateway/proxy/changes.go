package proxy

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/gateway/balance"
	"sluice/gateway/override"
	"sluice/gateway/route"
	"sluice/intentions"
	"sluice/mesh"
)

// cause is what a table came of.
type cause struct {
	heard time.Time
	// changed are the services of which the catalog has news, and ruled is true if
	// the overrides are new.
	changed map[string][]mesh.Instance
	ruled   bool
}

// index returns the newest Consul index of what changed for one of the services; 0
// is not known.
func (f *follower) index(c cause, services ...string) uint64 {
	var index uint64
	if catalog, ok := f.cfg.Catalog.(IndexedCatalog); ok {
		for _, service := range services {
			if _, changed := c.changed[service]; changed {
				index = max(index, catalog.Index(service))
			}
		}
	}
	if overrides, ok := f.cfg.Overrides.(IndexedOverrides); ok && c.ruled {
		index = max(index, overrides.Index())
	}
	return index
}

// tell writes down what a new table changes.
func (f *follower) tell(old *route.Table, changes []route.Change, c cause) {
	now := time.Now()
	effect := now.Sub(c.heard)
	if c.ruled {
		f.timeline.add(Event{At: now, Kind: "override", Subject: "overrides", Text: commands(f.rules), Index: f.index(cause{ruled: true}), Effect: effect})
	}
	for _, change := range changes {
		if text := difference(change); text != "" {
			r := change.After
			if r == nil {
				r = change.Before
			}
			f.timeline.add(Event{At: now, Kind: "route", Subject: r.String(), Text: text, Index: f.index(c, r.Services...), Effect: effect})
		}
	}
	before, after := problems(old), problems(f.state.Load().table)
	for _, problem := range f.state.Load().table.Problems() {
		if !before[problem] {
			f.timeline.add(Event{
				At: now, Kind: "tag", Subject: problem.Service, Index: f.index(c, problem.Service), Effect: effect,
				Text: fmt.Sprintf("quarantined on %s: %s: %s", problem.Node, problem.Tag, problem.Reason),
			})
		}
	}
	for _, problem := range old.Problems() {
		if !after[problem] {
			f.timeline.add(Event{
				At: now, Kind: "tag", Subject: problem.Service, Index: f.index(c, problem.Service), Effect: effect,
				Text: fmt.Sprintf("gone from quarantine on %s: %s", problem.Node, problem.Tag),
			})
		}
	}
}

func problems(table *route.Table) map[route.Problem]bool {
	set := map[route.Problem]bool{}
	for _, problem := range table.Problems() {
		set[problem] = true
	}
	return set
}

// commands says how many overrides there are.
func commands(rules route.Rules) string {
	if rules == nil {
		return "there are none any more"
	}
	counted, ok := rules.(*override.Commands)
	if !ok {
		return "they are new"
	}
	text := fmt.Sprintf("%d commands hold", counted.Len())
	if counted.Len() == 1 {
		text = "1 command holds"
	}
	if ignored := len(counted.Problems()); ignored > 0 {
		text += fmt.Sprintf("; lines that are ignored: %d", ignored)
	}
	return text
}

// difference says in words what a change is; "" if it is not the route's: tags of
// other routes on the same instance, or its metadata.
func difference(c route.Change) string {
	switch {
	case c.Before == nil:
		return "new: " + instances(c.After)
	case c.After == nil:
		return "forgotten"
	}
	after := names(c.After)
	parts := diff(names(c.Before), after)
	if c.Before.Closed != c.After.Closed && c.After.Closed != "" {
		parts = append(parts, "closed: "+c.After.Closed)
	}
	if c.Before.Options != nil && c.After.Options != nil && !c.Before.Options.Equal(c.After.Options) {
		parts = append(parts, fmt.Sprintf("options %q, were %q", c.After.Options.String(), c.Before.Options.String()))
	}
	if len(after) == 0 {
		parts = append(parts, "no healthy instance is left")
	}
	if len(parts) == 0 && !slices.EqualFunc(c.Before.Targets, c.After.Targets, func(a, b route.Target) bool { return a.Share == b.Share }) {
		parts = append(parts, "its instances have other shares")
	}
	return strings.Join(parts, "; ")
}

// diff says what came and what went.
func diff(before, after []string) (parts []string) {
	missing := func(from, in []string) []string {
		return slices.DeleteFunc(slices.Clone(from), func(n string) bool { return slices.Contains(in, n) })
	}
	if came := missing(after, before); len(came) > 0 {
		parts = append(parts, "+ "+few(came))
	}
	if went := missing(before, after); len(went) > 0 {
		parts = append(parts, "- "+few(went))
	}
	return parts
}

func instances(r *route.Route) string {
	if len(r.Targets) == 0 {
		return "no healthy instance"
	}
	return few(names(r))
}

func names(r *route.Route) []string {
	list := make([]string, 0, len(r.Instances))
	for i := range r.Instances {
		list = append(list, r.Instances[i].ServiceID+" on "+r.Instances[i].Node)
	}
	return list
}

func few(list []string) string {
	if len(list) > mostNamed {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:mostNamed], ", "), len(list)-mostNamed)
	}
	return strings.Join(list, ", ")
}

// tellPolicy writes down new intentions: all of them the first time, and then what
// is different.
func (f *follower) tellPolicy(policy mesh.Policy, heard time.Time) {
	now := time.Now()
	set, fallback := policy.Set, "default "+string(policy.Set.Default())
	var parts []string
	if f.judged {
		parts = diff(rulesOf(f.rulesSeen), rulesOf(set))
		if before := f.rulesSeen.Default(); before != set.Default() {
			parts = append(parts, fallback+", was "+string(before))
		}
		if len(parts) == 0 {
			parts = append(parts, "the same rules, with other details")
		}
	} else {
		if rules := rulesOf(set); len(rules) > 0 {
			parts = append(parts, few(rules))
		}
		parts = append(parts, fallback)
	}
	f.timeline.add(Event{At: now, Kind: "intention", Subject: f.cfg.Source, Text: strings.Join(parts, "; "), Index: policy.Index, Effect: now.Sub(heard)})
}

func rulesOf(set intentions.Set) []string {
	rules := set.Rules()
	list := make([]string, 0, len(rules))
	for _, rule := range rules {
		text := rule.Edge() + ": " + string(rule.Action)
		if rule.L7 {
			text = rule.Edge() + ": by request, which is a deny here"
		}
		list = append(list, text)
	}
	return list
}

// followRoots writes down that other roots are trusted than before.
func (f *follower) followRoots(roots *x509.CertPool, from mesh.Provenance, heard time.Time) {
	before, ids := f.roots, f.rootIDs
	f.roots, f.rootIDs = roots, from.RootIDs
	if before == nil || roots == nil || before == roots || before.Equal(roots) {
		return
	}
	text := "other roots are trusted"
	if parts := diff(ids, from.RootIDs); len(parts) > 0 {
		text = strings.Join(parts, "; ")
	}
	now := time.Now()
	f.log.Info("other roots are trusted", "change", text, "index", from.RootsIndex)
	f.timeline.add(Event{At: now, Kind: "root", Subject: "trusted roots", Text: text, Index: from.RootsIndex, Effect: now.Sub(heard)})
}

// tellEjection counts and writes down that an instance is left out because it fails, or
// is back.
func (p *Proxy) tellEjection(t balance.Transition) {
	if service, _, _ := strings.Cut(t.Key, "|"); !t.Until.IsZero() { // see target.name
		p.metrics.one(p.metrics.ejections, service)
	}
	subject := t.Key
	for _, known := range p.state.Load().targets {
		if known.name() == t.Key {
			subject = known.place()
			break
		}
	}
	until := t.Until.UTC().Format(time.TimeOnly)
	text := fmt.Sprintf("ejected until %s: failures in a row: %d to connect, %d of its answers", until, t.LocalFailures, t.OriginFailures)
	switch {
	case t.Until.IsZero():
		text = "back: a request that was its trial succeeded"
	case t.Trial:
		text = fmt.Sprintf("ejected until %s: a request that was its trial failed", until)
	}
	p.timeline.add(Event{At: time.Now(), Kind: "ejection", Subject: subject, Text: text})
}
