package main

import (
	"encoding/json"
	"net/http"
	"time"

	"sluice/mongo-agent/heartbeat"
	"sluice/mongo-agent/role"
	"sluice/mongo-agent/vitals"
)

// report is what /role shows.
type report struct {
	roleReport
	Profile string `json:"profile"`
	// Source is the member that the own one replicates from.
	Source string `json:"sync_source,omitempty"`
	// Voter says that the own member counts for a majority.
	Voter    bool            `json:"voter"`
	Majority *majorityReport `json:"majority,omitempty"`
	Lease    leaseReport     `json:"lease"`
	Peers    []peerReport    `json:"peers"`
	// Primaries are the members that say they are primary, by node: more than one
	// is an alarm.
	Primaries []string     `json:"primaries"`
	Alarm     string       `json:"alarm,omitempty"`
	Elections []attempt    `json:"elections"`
	Mongod    vitalsReport `json:"mongod"`
}

// majorityReport is the newest operation that a majority is known to have.
type majorityReport struct {
	heartbeat.MajorityPoint
	// Told is how long ago mongod said so.
	Told millis `json:"told_ms"`
}

type leaseReport struct {
	Valid bool   `json:"valid"`
	Left  millis `json:"left_ms"`
}

// peerReport is what this agent knows of another.
type peerReport struct {
	Node   string `json:"node"`
	Member string `json:"member,omitempty"`
	Lost   bool   `json:"lost"`
	Reason string `json:"reason,omitempty"`
	// Heard is how long ago it answered last; absent if it never did.
	Heard  *millis     `json:"heard_ms,omitempty"`
	Role   role.State  `json:"role"`
	Frozen bool        `json:"frozen,omitempty"`
	Term   int64       `json:"term"`
	OpTime role.OpTime `json:"optime"`
	Source string      `json:"sync_source,omitempty"`
	// Majority is what it said last of the newest operation that a majority has.
	Majority heartbeat.MajorityPoint `json:"majority,omitzero"`
}

type vitalsReport struct {
	PID    int    `json:"pid"`
	State  string `json:"state"`
	Frozen bool   `json:"frozen"`
	Reason string `json:"reason,omitempty"`
}

func (a *agent) report() report {
	view, _ := a.circle.View()
	now, left := time.Now(), a.lease.left()
	r := report{
		roleReport: a.board.report(), Profile: a.Profile, Source: a.self.load().Source,
		Voter:     a.electable.Load(),
		Lease:     leaseReport{Valid: left > 0, Left: millis(max(left, 0))},
		Peers:     []peerReport{},
		Primaries: a.primaries(view),
		Elections: a.record.all(),
	}
	if majority, told := a.self.majority(); !told.IsZero() {
		r.Majority = &majorityReport{majority, millis(now.Sub(told))}
	}
	for _, p := range view.Peers {
		r.Peers = append(r.Peers, reportOf(p, now))
	}
	if len(r.Primaries) > 1 {
		r.Alarm = "more than one member says that it is primary; the one with the highest term is right"
	}
	e := a.board.processEvent()
	r.Mongod = vitalsReport{PID: e.PID, State: e.State.String(), Frozen: e.State == vitals.Stopped, Reason: e.Reason}
	return r
}

func reportOf(p heartbeat.Peer, now time.Time) peerReport {
	r := peerReport{Node: p.Node, Lost: p.Lost, Reason: p.Reason}
	if !p.Known {
		return r
	}
	heard := millis(now.Sub(p.Answered))
	r.Heard, r.Member, r.Role, r.Frozen = &heard, p.Status.Member, p.Status.Role, p.Status.Frozen
	r.Term, r.OpTime, r.Source = p.Status.Term, p.Status.OpTime, p.Status.Source
	r.Majority = p.Status.Majority
	return r
}

// primaries returns the nodes whose members say that they are primary, as far as
// their agents answer.
func (a *agent) primaries(view heartbeat.View) []string {
	nodes := []string{}
	if s, _ := a.board.Snapshot(); s.State == role.Primary {
		nodes = append(nodes, a.Node)
	}
	for _, p := range view.Peers {
		if p.Known && !p.Lost && p.Status.Role == role.Primary {
			nodes = append(nodes, p.Node)
		}
	}
	return nodes
}

func (a *agent) serveRole(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, a.report())
}

// answer writes one JSON document.
func answer(w http.ResponseWriter, status int, document any) {
	body, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		http.Error(w, "encode the answer: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
