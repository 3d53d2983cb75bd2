package consul

import (
	"context"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"sluice/consul/answers"
)

// Unhealthy is an instance that takes no part, and why.
type Unhealthy struct {
	ServiceID string
	Node      string
	Address   string
	Tags      []string
	// Check is the name of a check that does not pass, Status its state and Output
	// what it said, as Consul keeps it.
	Check, Status, Output string
}

// Unhealthy returns the Connect instances of a service of which a check does not
// pass, and with plain those outside the mesh as well. It asks Consul now: it is
// for people who want to know why.
func (c *Client) Unhealthy(ctx context.Context, service string, plain bool) ([]Unhealthy, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	entries, _, err := c.brief.Health().Connect(service, "", false, query(ctx))
	entries = withoutNulls(entries)
	if err == nil && plain {
		var all []*api.ServiceEntry
		all, _, err = c.brief.Health().Service(service, "", false, query(ctx))
		all = withoutNulls(all)
		meshed := namesOf(shortened(entries))
		for i, entry := range shortened(all) {
			if outside(entry) && !meshed[[2]string{entry.Node, entry.ID}] {
				entries = append(entries, all[i])
			}
		}
	}
	if err != nil {
		return nil, explain("read the health of "+service, `service "`+service+`" { policy = "read" } and node_prefix "" { policy = "read" }`, err)
	}
	return unhealthyOf(entries), nil
}

// withoutNulls leaves out of an answer what says nothing: watches pass over that too.
func withoutNulls(entries []*api.ServiceEntry) []*api.ServiceEntry {
	entries = slices.DeleteFunc(entries, func(e *api.ServiceEntry) bool { return e == nil })
	for _, entry := range entries {
		entry.Checks = slices.DeleteFunc(entry.Checks, func(c *api.HealthCheck) bool { return c == nil })
	}
	return entries
}

// shortened returns of entries, which have no nulls, what watches read of them.
func shortened(entries []*api.ServiceEntry) []*answers.Entry {
	list := make([]*answers.Entry, len(entries))
	for i, entry := range entries {
		e := &answers.Entry{Passing: entry.Checks.AggregatedStatus() == api.HealthPassing}
		if n := entry.Node; n != nil {
			e.Located, e.Node, e.NodeAddress, e.Datacenter = true, n.Node, n.Address, n.Datacenter
		}
		if s := entry.Service; s != nil {
			e.Registered, e.Kind, e.ID, e.Address, e.Port, e.Tags, e.Meta = true, s.Kind, s.ID, s.Address, s.Port, s.Tags, s.Meta
			e.Native = s.Connect != nil && s.Connect.Native
			if s.Proxy != nil {
				e.ProxyFor = s.Proxy.DestinationServiceID
			}
		}
		list[i] = e
	}
	return list
}

func unhealthyOf(entries []*api.ServiceEntry) []Unhealthy {
	var list []Unhealthy
	for i, entry := range shortened(entries) {
		if !entry.Located || !entry.Registered || entry.Passing {
			continue
		}
		u := Unhealthy{ServiceID: entry.ID, Node: entry.Node, Address: addressOf(entry), Tags: entry.Tags}
		for _, check := range entries[i].Checks {
			if check.Status != api.HealthPassing && (u.Check == "" || u.Status == api.HealthWarning) {
				u.Check, u.Status, u.Output = check.Name, check.Status, strings.TrimSpace(check.Output)
			}
		}
		list = append(list, u)
	}
	return list
}
