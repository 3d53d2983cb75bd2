package proxy

import (
	"context"
	"net/http"
	"net/netip"
	"strings"

	"sluice/gateway/route"
)

// explainStream is Explain for a TCP connection: address is where it would come in,
// ":port" or "ip:port", or the server name that it would ask for.
func (p *Proxy) explainStream(ctx context.Context, q Question, address string) Explained {
	if !q.Client.IsValid() {
		q.Client = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	state := p.state.Load()
	matched, ok := state.table.LookupName(strings.ToLower(address))
	if strings.Contains(address, ":") {
		matched, ok = state.table.LookupPort(address)
	}
	e := Explained{
		Method: "TCP", Host: address, Client: q.Client.String(), Instances: []InstanceState{},
		Lookup: route.Explanation{Name: address, Hosts: []route.HostStep{}},
	}
	if !ok {
		e.Status, e.Verdict = http.StatusNotFound, "No TCP route takes it, so the connection is reset."
		e.Ignored = ignoredTags(state.table.Problems(), nil)
		return e
	}
	x := &exchange{ask: ask{method: "TCP", host: address, peer: q.Client, client: q.Client}, state: state, plan: planOf(matched)}
	x.begin("", p.now())
	p.explainPlan(ctx, x, &e)
	e.Ignored = ignoredTags(state.table.Problems(), x.plan)
	if err := x.plan.admits(q.Client); err != nil {
		e.Status, e.Verdict = http.StatusForbidden, "The connection is reset: "+err.Error()+"."
		return e
	}
	e.judge()
	return e
}
