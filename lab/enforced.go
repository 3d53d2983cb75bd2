package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"sluice/intentions"
	"sluice/lab/control"
	"sluice/lab/engine"
	"sluice/mesh"
)

// EnforcedRequest asks until when an edge is decided as wanted everywhere.
type EnforcedRequest struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Allowed     bool   `json:"allowed"`
	// Datacenter is where; empty is everywhere.
	Datacenter string `json:"datacenter,omitempty"`
}

// EnforcedResult says how long that took and who enforces it.
type EnforcedResult struct {
	Seconds float64 `json:"seconds"`
	// Processes are the node/process names that decide so now.
	Processes []string `json:"processes"`
	// Datacenters are the seconds after which every process of each decided so; one
	// that does not yet is not among them.
	Datacenters map[string]float64 `json:"datacenters"`
	// Pending are those that do not, or do not say so. It is empty when the edge is
	// decided as wanted everywhere.
	Pending []PendingProcess `json:"pending,omitempty"`
}

// PendingProcess is one that is not known to decide an edge as wanted.
type PendingProcess struct {
	// Process is node/process.
	Process string `json:"process"`
	Reason  string `json:"reason"`
	// Faulty means that waiting cannot help before the node is healed.
	Faulty bool `json:"faulty"`
}

// enforcedTimeout is how long a process has to take over an intention. It takes
// some milliseconds where nothing is broken.
const enforcedTimeout = 10 * time.Second

// handleEnforced waits until every process that serves the destination, and
// every one that dials as the source, decides the edge as wanted. After that the
// very next connection meets the new intention. It does not wait for those that a
// fault keeps from it.
func (s *Supervisor) handleEnforced(ctx context.Context, call *control.Call) error {
	var request EnforcedRequest
	if err := call.Decode(&request); err != nil {
		return err
	}
	result, err := s.awaitEnforced(ctx, request, s.whoEnforces)
	if err != nil {
		return err
	}
	return call.Result(result)
}

// awaitEnforced asks who enforces an edge until everybody does whom no fault keeps from it.
func (s *Supervisor) awaitEnforced(ctx context.Context, request EnforcedRequest, who func(context.Context, EnforcedRequest) EnforcedResult) (EnforcedResult, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, enforcedTimeout, fmt.Errorf("not within %s", enforcedTimeout))
	defer cancel()
	began := time.Now()
	var result EnforcedResult
	err := waitFor(ctx, request.Source+" -> "+request.Destination+" is decided everywhere", func(ctx context.Context) error {
		seen := who(ctx, request)
		if ctx.Err() != nil && result.Pending != nil {
			return ctx.Err()
		}
		result.Processes, result.Pending = seen.Processes, seen.Pending
		result.note(s.placesOf(seen), time.Since(began).Seconds())
		for _, pending := range seen.Pending {
			if !pending.Faulty {
				return errors.New(pending.Process + ": " + pending.Reason)
			}
		}
		return nil
	})
	if err != nil && len(result.Pending) == 0 {
		return result, fail(3, "sluice status", "%v", err)
	}
	result.Seconds = time.Since(began).Seconds()
	return result, nil
}

// placesOf reports for each datacenter that an answer speaks of whether every process
// of it decides as wanted.
func (s *Supervisor) placesOf(seen EnforcedResult) map[string]bool {
	places := map[string]bool{}
	for _, process := range seen.Processes {
		places[s.placeOf(process)] = true
	}
	for _, pending := range seen.Pending {
		places[s.placeOf(pending.Process)] = false
	}
	return places
}

// placeOf is the datacenter of a node/process.
func (s *Supervisor) placeOf(process string) string {
	node, _, _ := strings.Cut(process, "/")
	for _, n := range s.all() {
		if n.node.Name == node {
			return n.datacenter.Name
		}
	}
	return ""
}

// note keeps when each datacenter was complete first.
func (r *EnforcedResult) note(complete map[string]bool, seconds float64) {
	if r.Datacenters == nil {
		r.Datacenters = map[string]float64{}
	}
	for dc, all := range complete {
		if _, known := r.Datacenters[dc]; !all {
			delete(r.Datacenters, dc)
		} else if !known {
			r.Datacenters[dc] = seconds
		}
	}
}

// whoEnforces asks every process once.
func (s *Supervisor) whoEnforces(ctx context.Context, request EnforcedRequest) EnforcedResult {
	var result EnforcedResult
	nodes := s.all()
	if request.Datacenter != "" {
		nodes = s.in(request.Datacenter)
	}
	for _, n := range nodes {
		for _, name := range n.names() {
			state := n.process(name).State()
			if !hasOps(name) || !state.Running {
				continue
			}
			label := n.node.Name + "/" + name
			if state.Stopped {
				// It may hold the old intention still when it goes on.
				if concerns(name, request) {
					result.Pending = append(result.Pending, PendingProcess{Process: label, Reason: "stopped", Faulty: true})
				}
				continue
			}
			concerned, err := n.decides(ctx, n.httpClient(), name, request)
			switch fault := s.deafness(n, request.Datacenter != ""); {
			case err != nil && fault != "":
				result.Pending = append(result.Pending, PendingProcess{Process: label, Reason: fault, Faulty: true})
			case err != nil:
				result.Pending = append(result.Pending, PendingProcess{Process: label, Reason: err.Error()})
			case concerned:
				result.Processes = append(result.Processes, label)
			}
		}
	}
	return result
}

// deafness says which fault keeps news from the processes of the node; empty is
// none. News of the node's own datacenter is local.
func (s *Supervisor) deafness(n *node, local bool) string {
	if !local && !n.datacenter.Primary && s.partedFromPrimary(n.datacenter.Name) {
		return n.datacenter.Name + " is parted from the primary datacenter, whose intentions it copies; `sluice intentions deny --local " + n.datacenter.Name + "` denies there all the same"
	}
	return n.deafToAgent()
}

// partedFromPrimary reports whether a datacenter hears nothing of the primary one.
func (s *Supervisor) partedFromPrimary(dc string) bool {
	primary, _ := s.topology.Primary()
	return s.cutOf(dc) != engine.NoDirection || s.cutOf(primary.Name) != engine.NoDirection
}

// concerns reports whether a process serves the edge's destination or dials as
// its source, by the names that it has in Consul.
func concerns(process string, edge EnforcedRequest) bool {
	for _, name := range []string{edge.Source, edge.Destination} {
		if name == process || name == intentions.Wildcard || process == processMongoAgent && strings.HasPrefix(name, "mongo-") {
			return true
		}
	}
	return false
}

// decides reports whether the process has to do with the edge; an error means
// that it does not decide it as wanted yet.
func (n *node) decides(ctx context.Context, client *http.Client, name string, want EnforcedRequest) (bool, error) {
	var report mesh.Report
	if err := getJSON(ctx, client, "http://"+n.ops(name)+"/mesh", &report); err != nil {
		return false, err
	}
	concerned := false
	for _, policy := range report.Policies {
		side := want.Destination
		if policy.Side == mesh.SideSource {
			side = want.Source
		}
		if policy.Service != side && side != intentions.Wildcard {
			continue
		}
		concerned = true
		set := intentions.NewSet(policy.Rules, policy.Default).Under(intentions.OverlayOf(policy.Denials))
		if got := set.Decide(want.Source, want.Destination); !policy.Arrived || got.Allowed != want.Allowed {
			return true, fmt.Errorf("still %s", got)
		}
	}
	return concerned, nil
}
