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
	entries, err := healthOf(c.brief.Health().Connect, service, query(ctx))
	if err == nil && plain {
		var all []*toldEntry
		all, err = healthOf(c.brief.Health().Service, service, query(ctx))
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

// toldEntry is what is read of an instance and its checks where watches are not enough.
// The api package's own type panics at a null in place of a check's definition.
type toldEntry struct {
	Node    *struct{ Node, Address, Datacenter string }
	Service *struct {
		Kind        api.ServiceKind
		ID, Address string
		Port        int
		Tags        []string
		Meta        map[string]string
		Connect     *struct{ Native bool }
		Proxy       *struct{ DestinationServiceID string }
	}
	Checks []*toldCheck
}

type toldCheck struct{ CheckID, Name, Status, Output string }

// healthOf asks by one of the methods of api.Health for all instances of a service. As
// watches do, it refuses an answer with a null in place of one, its node, its service or
// a check.
func healthOf(ask func(string, string, bool, *api.QueryOptions) ([]*api.ServiceEntry, *api.QueryMeta, error), service string, options *api.QueryOptions) ([]*toldEntry, error) {
	var entries []*toldEntry
	if _, _, err := ask(service, "", false, readJSON(options, &entries)); err != nil {
		return nil, err
	}
	if entries == nil {
		return nil, errOther
	}
	for _, entry := range entries {
		if entry == nil || entry.Node == nil || entry.Service == nil || slices.Contains(entry.Checks, nil) {
			return nil, errNull
		}
	}
	return entries, nil
}

// shortened returns what watches read of entries.
func shortened(entries []*toldEntry) []*answers.Entry {
	list := make([]*answers.Entry, len(entries))
	for i, entry := range entries {
		n, s := entry.Node, entry.Service
		list[i] = &answers.Entry{
			Node: n.Node, NodeAddress: n.Address, Datacenter: n.Datacenter,
			Kind: s.Kind, ID: s.ID, Address: s.Address, Port: s.Port, Tags: s.Tags, Meta: s.Meta,
			Native: s.Connect != nil && s.Connect.Native,
		}
		if s.Proxy != nil {
			list[i].ProxyFor = s.Proxy.DestinationServiceID
		}
		var checks api.HealthChecks
		for _, check := range entry.Checks {
			checks = append(checks, &api.HealthCheck{CheckID: check.CheckID, Status: check.Status})
		}
		list[i].Passing = checks.AggregatedStatus() == api.HealthPassing
	}
	return list
}

func unhealthyOf(entries []*toldEntry) []Unhealthy {
	var list []Unhealthy
	for i, entry := range shortened(entries) {
		if entry.Passing {
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
