package consul

import (
	"context"
	"strings"

	"github.com/hashicorp/consul/api"
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
	if err == nil && plain {
		var all []*api.ServiceEntry
		all, _, err = c.brief.Health().Service(service, "", false, query(ctx))
		meshed := namesOf(entries)
		for _, entry := range all {
			if outside(entry) && !meshed[[2]string{entry.Node.Node, entry.Service.ID}] {
				entries = append(entries, entry)
			}
		}
	}
	if err != nil {
		return nil, explain("read the health of "+service, `service "`+service+`" { policy = "read" } and node_prefix "" { policy = "read" }`, err)
	}
	return unhealthyOf(entries), nil
}

func unhealthyOf(entries []*api.ServiceEntry) []Unhealthy {
	var list []Unhealthy
	for _, entry := range entries {
		if entry.Node == nil || entry.Service == nil || entry.Checks.AggregatedStatus() == api.HealthPassing {
			continue
		}
		u := Unhealthy{ServiceID: entry.Service.ID, Node: entry.Node.Node, Address: addressOf(entry), Tags: entry.Service.Tags}
		for _, check := range entry.Checks {
			if check.Status != api.HealthPassing && (u.Check == "" || u.Status == api.HealthWarning) {
				u.Check, u.Status, u.Output = check.Name, check.Status, strings.TrimSpace(check.Output)
			}
		}
		list = append(list, u)
	}
	return list
}
