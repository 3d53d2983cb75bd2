package consul

import (
	"cmp"
	"context"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"sluice/consul/answers"
	"sluice/mesh"
)

const (
	// mostSkipped is how many services the list of services leaves out at most: Consul
	// compares the name of every instance with all of them.
	mostSkipped = 100
	// leastSkipped is the size of a service's tags, in bytes, below which there is no
	// point in leaving it out; skippedByLetter is the same for each letter of its name,
	// which Consul reads anew each time.
	leastSkipped    = 512
	skippedByLetter = 100
)

// lister asks for the services that have a tag. Consul answers with all tags of all
// services whenever one changes. Of services whose instances are watched, and of which
// one has the tag, that would be no news, so they are left out of the answer. Once
// that is not so any more, the list is asked for again with them, which may be as
// late as the end of the query that Consul holds then: who is left in it until then
// has no instance. That every service is hidden from the token is an error, so that the
// last list stays; with only it is not, since there may be nobody for whom it holds.
type lister struct {
	client     *Client
	datacenter string
	// only is a filter on the instances that count; "" is all.
	only string
	// settled returns the services that may be left out, sorted.
	settled func() []string
	reader  answers.Services
	skipped []string
}

// list is the query of a watch, and belongs to its goroutine.
func (l *lister) list(_ context.Context, options *api.QueryOptions) ([]string, *api.QueryMeta, error) {
	options.Datacenter = l.datacenter
	var skip []string
	if options.WaitIndex > 0 {
		skip = l.settled()
	}
	if !allIn(l.skipped, skip) {
		options.WaitIndex = 0 // the newest answer says nothing of some of them
	}
	tagged, hidden, meta, err := l.ask(options, skip)
	if hidden && len(skip) > 0 {
		// Either nobody but these is visible, or they are hidden by now too.
		options.WaitIndex, skip = 0, nil
		tagged, hidden, meta, err = l.ask(options, nil)
	}
	if hidden && l.only == "" {
		err = api.StatusError{Code: 403, Body: "every service is hidden from the token"}
		err = explain("list services", `service_prefix "" { policy = "read" } and node_prefix "" { policy = "read" }`, err)
	}
	if err != nil {
		return nil, nil, err
	}
	l.skipped = skip
	return union(skip, tagged), meta, nil
}

// ask lists the services but skip that have the tag. hidden is that there is not even
// one without it, and that Consul hides some.
func (l *lister) ask(options *api.QueryOptions, skip []string) (tagged []string, hidden bool, meta *api.QueryMeta, err error) {
	options.Filter = both(l.only, without(skip))
	var total int
	_, meta, err = l.client.long.Catalog().Services(readBy(options, func(from io.Reader, buffer []byte) (err error) {
		tagged, total, err = l.reader.Read(from, buffer)
		return err
	}))
	if err != nil {
		return nil, false, nil, explain("list services", `service_prefix "" { policy = "read" }`, err)
	}
	return tagged, total == 0 && meta.ResultsFilteredByACLs, meta, nil
}

// allIn reports whether all of part, sorted, are in whole, sorted.
func allIn(part, whole []string) bool {
	for _, name := range part {
		if _, found := slices.BinarySearch(whole, name); !found {
			return false
		}
	}
	return true
}

// union returns the names of two sorted lists, sorted.
func union(a, b []string) []string {
	if len(a) == 0 {
		return b
	}
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// simpleName is a name that has no meaning but itself in an expression.
var simpleName = regexp.MustCompile(`^[0-9A-Za-z_-]+$`)

// without is the filter that leaves services out; "" leaves out none.
func without(services []string) string {
	if len(services) == 0 {
		return ""
	}
	return "ServiceName not matches `^(" + patternOf(services) + ")$`"
}

// both is the filter of what two filters let pass.
func both(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return "(" + a + ") and (" + b + ")"
}

// weighed is a service with the size of its tags, in bytes.
type weighed struct {
	name string
	size int
}

// largest returns those services that are worth to be left out of a list, sorted.
func largest(all []weighed) []string {
	all = slices.DeleteFunc(all, func(w weighed) bool {
		return w.size < max(leastSkipped, skippedByLetter*len(w.name)) || !simpleName.MatchString(w.name)
	})
	slices.SortFunc(all, func(a, b weighed) int { return cmp.Or(cmp.Compare(b.size, a.size), strings.Compare(a.name, b.name)) })
	names := make([]string, 0, min(len(all), mostSkipped))
	for _, w := range all[:min(len(all), mostSkipped)] {
		names = append(names, w.name)
	}
	slices.Sort(names)
	return names
}

func sizeOfTags(instances []mesh.Instance) int {
	size := 0
	for i := range instances {
		for _, tag := range instances[i].Tags {
			size += len(tag)
		}
	}
	return size
}
