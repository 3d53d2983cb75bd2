package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/intentions"
	"sluice/mesh"
)

// toldEvery is how often a wait that takes long says in the log what it waits for.
const toldEvery = 2 * time.Second

// page is what web answers to a program, as far as readiness reads it.
type page struct {
	Instance  string `json:"instance"`
	IsPrimary bool   `json:"is_primary"`
	// Hosts are the members that the replica set has.
	Hosts     []string `json:"hosts"`
	Secondary struct {
		IsSecondary bool   `json:"is_secondary"`
		Error       string `json:"error"`
	} `json:"secondary"`
}

// awaitReplicaSet holds when one member is primary and all others are secondary,
// as each member's own agent says at the same look.
func (s *Supervisor) awaitReplicaSet(ctx context.Context) error {
	members := s.with("mongo")
	if len(members) == 0 {
		return nil
	}
	// The last member that was not ready is the one whose log explains a failure.
	late := members[0]
	err := s.waitAlive(ctx, "the replica set has a primary and its secondaries", func(ctx context.Context) error {
		primaries := 0
		for _, n := range members {
			late = n
			var role roleReport
			if err := getJSON(ctx, n.httpClient(), "http://"+n.ops(processMongoAgent)+"/role", &role); err != nil {
				return err
			}
			switch role.Role {
			case "primary":
				primaries++
			case "secondary":
			default:
				return fmt.Errorf("%s is %s", n.node.Name, role.Role)
			}
		}
		if primaries != 1 {
			return fmt.Errorf("%d members say that they are primary", primaries)
		}
		return nil
	})
	return blameUnless(err, late, processMongoAgent)
}

// waitAlive is waitFor for a condition that needs every process of the lab. It
// gives up as soon as one has ended: nothing would start that again.
func (s *Supervisor) waitAlive(ctx context.Context, what string, condition func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	told := time.Now()
	return waitFor(ctx, what, func(ctx context.Context) error {
		for _, n := range s.all() {
			for _, name := range n.names() {
				if p := n.process(name); !p.State().Running {
					cancel(&blame{node: n, process: name, err: fmt.Errorf("the process ended: %s", howEnded(p))})
				}
			}
		}
		err := condition(ctx)
		if err != nil && ctx.Err() == nil && time.Since(told) > toldEvery {
			s.log.Info("still waiting until "+what, "err", err)
			told = time.Now()
		}
		return err
	})
}

// blameUnless ties an error to a process, unless it is tied to one already.
func blameUnless(err error, n *node, process string) error {
	var blamed *blame
	if err == nil || errors.As(err, &blamed) {
		return err
	}
	return &blame{node: n, process: process, err: err}
}

// probe shows that one edge works by something real that crosses it.
type probe struct {
	source, destination string
	// process is the one whose log explains why the edge does not work; it runs on
	// every node with the service of the topology.
	service, process string
	run              func(context.Context) error
}

func (s *Supervisor) probes() []probe {
	return []probe{
		{"gateway", "web", "gateway", processGateway, s.probeWeb},
		{"web", "mongo-primary", "web", processWeb, s.probePrimary},
		{"web", "mongo-secondary", "web", processWeb, s.probeSecondary},
		{"mongo-repl", "mongo-repl", "mongo", processMongoAgent, s.probeReplication},
	}
}

// awaitEdges sends something real across every edge that the intentions allow.
// An edge that they deny is not waited for: the lab then shows a denied edge,
// which may be just what somebody wants to see.
func (s *Supervisor) awaitEdges(ctx context.Context) error {
	entries, err := s.admin.Load().ListIntentions(ctx)
	if err != nil {
		return err
	}
	set := intentions.NewSet(intentions.Flatten(entries), intentions.Deny)
	group, ctx := errgroup.WithContext(ctx)
	for _, probe := range s.probes() {
		if !set.Decide(probe.source, probe.destination).Allowed {
			s.log.Info("edge is denied, not probed", "source", probe.source, "destination", probe.destination)
			continue
		}
		if probe.source != "gateway" && probe.source != "mongo-repl" && !set.Decide("gateway", probe.source).Allowed {
			// Nothing can be sent into this edge from outside.
			continue
		}
		group.Go(func() error {
			err := s.waitAlive(ctx, probe.source+" -> "+probe.destination+" carries a request", probe.run)
			if nodes := s.with(probe.service); len(nodes) > 0 {
				return blameUnless(err, nodes[0], probe.process)
			}
			return err
		})
	}
	return group.Wait()
}

// pages asks for the page through each gateway until every web of the datacenter
// has answered once.
func (s *Supervisor) pages(ctx context.Context) ([]page, error) {
	var pages []page
	for _, gateway := range s.with("gateway") {
		url := "http://" + netip.AddrPortFrom(gateway.loopback, gatewayPort).String() + "/web"
		want := map[string]bool{}
		for _, n := range s.with("web") {
			if n.datacenter.Name == gateway.datacenter.Name {
				want["web-"+n.node.Name] = true
			}
		}
		for range 4 * len(want) {
			p, err := getPage(ctx, gateway, url)
			if err != nil {
				return nil, err
			}
			pages = append(pages, p)
			delete(want, p.Instance)
			if len(want) == 0 {
				break
			}
		}
		if len(want) > 0 {
			return nil, fmt.Errorf("not every web has answered yet: %d missing", len(want))
		}
	}
	return pages, nil
}

// getPage returns what a web answered. A web that cannot reach one database says
// so by its status, and still tells about the other.
func getPage(ctx context.Context, gateway *node, url string) (page, error) {
	content, err := get(ctx, gateway.httpClient(), url, http.Header{"Accept": {"application/json"}})
	var p page
	if json.Unmarshal(content, &p) == nil && p.Instance != "" {
		return p, nil
	}
	if err == nil {
		err = errors.New("the answer is not web's page")
	}
	return page{}, err
}

func (s *Supervisor) probeWeb(ctx context.Context) error {
	_, err := s.pages(ctx)
	return err
}

func (s *Supervisor) probePrimary(ctx context.Context) error {
	pages, err := s.pages(ctx)
	for _, p := range pages {
		if !p.IsPrimary {
			return fmt.Errorf("%s is not connected to a primary", p.Instance)
		}
		if want := len(s.with("mongo")); len(p.Hosts) != want {
			return fmt.Errorf("%s sees %d members of the replica set, want %d", p.Instance, len(p.Hosts), want)
		}
	}
	return err
}

func (s *Supervisor) probeSecondary(ctx context.Context) error {
	pages, err := s.pages(ctx)
	for _, p := range pages {
		if !p.Secondary.IsSecondary {
			return fmt.Errorf("%s is not connected to a secondary: %s", p.Instance, p.Secondary.Error)
		}
	}
	return err
}

// probeReplication holds when every member's agent carries a connection from
// each other member. In an engine whose nodes share one loopback, replication
// does not go through the agents, and there is nothing to see.
func (s *Supervisor) probeReplication(ctx context.Context) error {
	if !s.engine.Segmented() {
		return nil
	}
	members := s.with("mongo")
	for _, n := range members {
		var report mesh.Report
		if err := getJSON(ctx, n.httpClient(), "http://"+n.ops(processMongoAgent)+"/mesh", &report); err != nil {
			return err
		}
		missing := map[string]string{}
		for _, other := range members {
			if other != n {
				missing[other.address.String()] = other.node.Name
			}
		}
		for _, c := range report.Connections {
			if host, _, err := net.SplitHostPort(c.Remote); err == nil && c.Inbound && c.Destination.Service() == "mongo-repl" {
				delete(missing, host)
			}
		}
		for _, other := range missing {
			return fmt.Errorf("%s has no replication connection from %s", n.node.Name, other)
		}
	}
	return nil
}
