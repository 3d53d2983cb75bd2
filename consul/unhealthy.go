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
// pass. It asks Consul now: it is for people who want to know why.
func (c *Client) Unhealthy(ctx context.Context, service string) ([]Unhealthy, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	entries, _, err := c.brief.Health().Connect(service, "", false, query(ctx))
	if err != nil {
		return nil, explain("read the health of "+service, `service "`+service+`" { policy = "read" } and node_prefix "" { policy = "read" }`, err)
	}
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
	return list, nil
}
