package rig

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sluice/mesh"
)

// Role is what a mongo-agent says of its member, as far as a rehearsal looks.
type Role struct {
	Role        string       `json:"role"`
	Term        int64        `json:"term"`
	Primary     string       `json:"primary"`
	Reason      string       `json:"reason"`
	Node        string       `json:"node"`
	Fence       string       `json:"fence"`
	Transitions []Transition `json:"transitions"`
	Peers       []Peer       `json:"peers"`
	Elections   []Election   `json:"elections"`
	Profile     string       `json:"profile"`
}

// Transition is one change of role; its steps are counted from Detected.
type Transition struct {
	From       string    `json:"from"`
	To         string    `json:"to"`
	Term       int64     `json:"term"`
	Reason     string    `json:"reason"`
	Detected   time.Time `json:"detected"`
	Cut        *float64  `json:"cut_ms"`
	Accepted   *float64  `json:"accepted_ms"`
	Registered *float64  `json:"registered_ms"`
}

// Peer is another member, as an agent sees it.
type Peer struct {
	Node   string `json:"node"`
	Lost   bool   `json:"lost"`
	Reason string `json:"reason"`
}

// Election is one time that an agent asked its member to stand.
type Election struct {
	At      time.Time `json:"at"`
	Why     string    `json:"why"`
	Subject string    `json:"subject"`
	Outcome string    `json:"outcome"`
	Helper  string    `json:"helper"`
	Decided float64   `json:"decided_ms"`
	Elected *float64  `json:"elected_ms"`
	Error   string    `json:"error"`
}

// Members are the nodes of the replica set, in order.
func Members() []string { return []string{"mongo-1", "mongo-2", "mongo-3"} }

// Roles asks every member's agent at once. One that does not answer is not among
// the result.
func (r *Rig) Roles(ctx context.Context) map[string]Role {
	var mu sync.Mutex
	var wait sync.WaitGroup
	roles := map[string]Role{}
	for _, node := range Members() {
		wait.Go(func() {
			var role Role
			if r.page(ctx, node, "http://127.0.0.1:27021/role", &role) == nil {
				mu.Lock()
				defer mu.Unlock()
				roles[node] = role
			}
		})
	}
	wait.Wait()
	return roles
}

// Switches asks web on a node what its upstream to mongo-primary went through.
func (r *Rig) Switches(ctx context.Context, node string) []mesh.Switch {
	var report mesh.Report
	if r.page(ctx, node, "http://127.0.0.1:8001/mesh", &report) != nil {
		return nil
	}
	for _, upstream := range report.Upstreams {
		if upstream.Service == "mongo-primary" {
			return upstream.Switches
		}
	}
	return nil
}

// Health is a judgement of the set.
type Health struct {
	Primary string
	// Others are the secondaries, in the order of their nodes.
	Others []string
}

// Judge says whether every member is in its place: one unfenced primary that all
// name, the others secondaries of the same term, and no peer lost.
func Judge(roles map[string]Role) (Health, error) {
	var h Health
	terms := map[int64]bool{}
	for _, node := range Members() {
		role, ok := roles[node]
		switch {
		case !ok:
			return h, fmt.Errorf("the agent of %s does not answer", node)
		case role.Fence != "":
			return h, fmt.Errorf("%s is fenced: %s", node, role.Fence)
		case role.Role == "primary" && h.Primary != "":
			return h, fmt.Errorf("%s and %s are primary", h.Primary, node)
		case role.Role == "primary":
			h.Primary = node
		case role.Role == "secondary":
			h.Others = append(h.Others, node)
		default:
			return h, fmt.Errorf("%s is %s: %s", node, role.Role, role.Reason)
		}
		terms[role.Term] = true
		for _, peer := range role.Peers {
			if peer.Lost {
				return h, fmt.Errorf("%s has lost %s: %s", node, peer.Node, peer.Reason)
			}
		}
	}
	if h.Primary == "" || len(terms) != 1 {
		return h, errors.New("the members do not agree on a primary")
	}
	return h, nil
}

// AwaitHealthy waits until the set is healthy. The error says what it lacks.
func (r *Rig) AwaitHealthy(ctx context.Context, within time.Duration) (Health, error) {
	return r.await(ctx, within, func(Health) error { return nil })
}

const pollEvery = 250 * time.Millisecond

// await polls until the set is healthy and the condition holds twice in a row, so
// that a set in the middle of a change is not taken for one that has settled.
func (r *Rig) await(ctx context.Context, within time.Duration, condition func(Health) error) (Health, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	previous := ""
	for {
		h, err := Judge(r.Roles(ctx))
		if err == nil {
			err = condition(h)
		}
		if err == nil && h.Primary == previous {
			return h, nil
		}
		previous = ""
		if err == nil {
			previous = h.Primary
		}
		if pause(ctx, pollEvery) != nil {
			if err == nil {
				err = errors.New("it changes all the time")
			}
			return h, fmt.Errorf("the set is not healthy within %s: %w", within, err)
		}
	}
}
