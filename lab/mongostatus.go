package lab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"sort"
	"strings"
	"sync"

	"sluice/mesh"
)

// MongoStatus is what `sluice mongo status` shows, and its JSON form.
type MongoStatus struct {
	Set     string `json:"set"`
	Profile string `json:"profile"`
	// Primary is the node whose agent says that its member is primary; empty
	// while nobody does.
	Primary string `json:"primary"`
	// Term is the highest election term that any agent has heard of.
	Term int64 `json:"term"`
	// Alarm says what must never be; empty while all is well.
	Alarm   string        `json:"alarm,omitempty"`
	Members []MongoMember `json:"members"`
	// Sides is the set as each datacenter sees it.
	Sides []MongoSide `json:"sides"`
	// Election is the newest in which an agent took part; nil when there was none.
	Election *ElectionEvent `json:"last_election,omitempty"`
	// Webs are the doors through which the webs reach the set.
	Webs []MongoDoor `json:"webs"`
}

// MongoMember is one member of the set, by its own agent where that answers.
type MongoMember struct {
	Node       string `json:"node"`
	Datacenter string `json:"datacenter"`
	// Member is its name in the set.
	Member string `json:"member"`
	// Mongod and Agent are the states of the two processes: running, stopped or
	// ended, with how.
	Mongod string `json:"mongod"`
	Agent  string `json:"agent"`
	// AgentError is why the agent did not answer; Report is nil then.
	AgentError string       `json:"agent_error,omitempty"`
	Report     *AgentReport `json:"report,omitempty"`
	// Role is what the agent says, or "unknown".
	Role string `json:"role"`
	// OpTime is the newest operation that the member is known to have, by its own
	// agent or by what another one has heard.
	OpTime OpTime `json:"optime"`
	// Lag is how far it is behind the primary; nil while that is not known.
	Lag *MongoLag `json:"lag,omitempty"`
	// Source is the node that it copies from; empty for a primary.
	Source string `json:"sync_source,omitempty"`
}

// MongoLag is how far a member is behind.
type MongoLag struct {
	// MS is in milliseconds, as far as the operations' timestamps tell: they are
	// whole seconds, so it is 0 or a multiple of 1,000.
	MS int64 `json:"ms"`
	// Ops is how many operations; when Least is set there may be more, since the
	// timestamps do not say how many fell into an earlier second.
	Ops   int64 `json:"ops"`
	Least bool  `json:"at_least,omitempty"`
}

// MongoDoor is one listener of a web that carries to the set.
type MongoDoor struct {
	Node string `json:"node"`
	mesh.UpstreamReport
	// To is the node of the instance in use.
	To    string `json:"to,omitempty"`
	Error string `json:"ask_error,omitempty"`
}

// mongoStatus asks every agent and every web at once.
func (s *Supervisor) mongoStatus(ctx context.Context) MongoStatus {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	nodes, webs := s.with("mongo"), s.with("web")
	members := make([]MongoMember, len(nodes))
	doors := make([][]MongoDoor, len(webs))
	var wait sync.WaitGroup
	for i, n := range nodes {
		wait.Go(func() { members[i] = s.mongoMember(ctx, n) })
	}
	for i, n := range webs {
		wait.Go(func() { doors[i] = n.mongoDoors(ctx) })
	}
	wait.Wait()
	status := judgeSet(members)
	status.Profile = s.options.Profile
	status.Webs = []MongoDoor{}
	for _, door := range slices.Concat(doors...) {
		door.To = s.nodeAt(door.Leader)
		status.Webs = append(status.Webs, door)
	}
	return status
}

// nodeAt is the node that has the address of a HOST:PORT, or HOST:PORT itself.
func (s *Supervisor) nodeAt(address string) string {
	host, _, _ := net.SplitHostPort(address)
	for _, n := range s.all() {
		if n.address.String() == host {
			return n.node.Name
		}
	}
	return address
}

func (s *Supervisor) mongoMember(ctx context.Context, n *node) MongoMember {
	member := MongoMember{
		Node: n.node.Name, Datacenter: n.datacenter.Name, Member: n.own().String(), Role: "unknown",
		Mongod: n.stateOf(processMongod), Agent: n.stateOf(processMongoAgent),
	}
	report, err := s.agentOps(n).report(ctx)
	if err != nil {
		member.AgentError = "does not answer: " + err.Error()
		if member.Agent != stateRunning {
			member.AgentError = "it is " + member.Agent
		}
		return member
	}
	member.Report = &report
	return member
}

// mongoDoors are the listeners of a web, or one entry that says why they are not known.
func (n *node) mongoDoors(ctx context.Context) []MongoDoor {
	var report mesh.Report
	if err := getJSON(ctx, n.httpClient(), "http://"+n.ops(processWeb)+"/mesh", &report); err != nil {
		return []MongoDoor{{Node: n.node.Name, Error: err.Error()}}
	}
	var doors []MongoDoor
	for _, upstream := range report.Upstreams {
		doors = append(doors, MongoDoor{Node: n.node.Name, UpstreamReport: upstream})
	}
	return doors
}

// judgeSet puts together what each agent says. It asks nobody.
func judgeSet(members []MongoMember) MongoStatus {
	status := MongoStatus{Members: members}
	var claim []string
	names := map[string]string{}
	for i := range members {
		m := &members[i]
		names[m.Member] = m.Node
		if m.Report == nil {
			continue
		}
		m.Role = m.Report.Role
		status.Term = max(status.Term, m.Report.Term)
		if m.Report.Set != "" {
			status.Set = m.Report.Set
		}
		if m.Role == rolePrimary {
			claim = append(claim, fmt.Sprintf("%s (term %d)", m.Node, m.Report.Term))
		}
		for _, event := range m.Report.Elections {
			if status.Election == nil || event.At.After(status.Election.At) {
				status.Election = &event
			}
		}
	}
	status.Primary = newestPrimary(members)
	status.Sides = sidesOf(members)
	if len(claim) > 1 {
		status.Alarm = "more than one member says that it is primary: " + strings.Join(claim, ", ")
	}
	for i := range members {
		members[i].OpTime = newestOpTime(members, members[i])
		members[i].Source = sourceOf(members, members[i], names)
	}
	for i := range members {
		if members[i].Role != rolePrimary {
			members[i].Lag = lagOf(members, status.Primary, members[i])
		}
	}
	sort.SliceStable(members, func(i, j int) bool { return members[i].Node < members[j].Node })
	return status
}

// newestPrimary is the node of the primary with the highest term.
func newestPrimary(members []MongoMember) string {
	node, term := "", int64(-1)
	for _, m := range members {
		if m.Role == rolePrimary && m.Report.Term > term {
			node, term = m.Node, m.Report.Term
		}
	}
	return node
}

// newestOpTime is the newest that anybody knows of a member: a peer may have
// heard it last.
func newestOpTime(members []MongoMember, m MongoMember) OpTime {
	var newest OpTime
	if m.Report != nil {
		newest = m.Report.OpTime
	}
	for _, other := range members {
		if other.Report == nil {
			continue
		}
		for _, peer := range other.Report.Peers {
			if peer.Node == m.Node && newest.before(peer.OpTime) {
				newest = peer.OpTime
			}
		}
	}
	return newest
}

// sourceOf is the node that a member copies from, by its own agent or by the peer
// that heard it last.
func sourceOf(members []MongoMember, m MongoMember, names map[string]string) string {
	if m.Role == rolePrimary {
		return ""
	}
	address := ""
	if m.Report != nil {
		address = m.Report.SyncSource
	}
	heard := math.Inf(1)
	for _, other := range members {
		if other.Report == nil || m.Report != nil && address != "" {
			continue
		}
		for _, peer := range other.Report.Peers {
			if peer.Node == m.Node && peer.SyncSource != "" && peer.HeardMS != nil && *peer.HeardMS < heard {
				address, heard = peer.SyncSource, *peer.HeardMS
			}
		}
	}
	if node, ok := names[address]; ok {
		return node
	}
	return address
}

func lagOf(members []MongoMember, primary string, m MongoMember) *MongoLag {
	if m.OpTime == (OpTime{}) {
		return nil
	}
	for _, p := range members {
		if p.Node == primary && p.OpTime != (OpTime{}) {
			lag := p.OpTime.ahead(m.OpTime)
			return &lag
		}
	}
	return nil
}

func (t OpTime) before(other OpTime) bool {
	return t.Term < other.Term || t.Term == other.Term && t.Timestamp < other.Timestamp
}

// ahead is how far t is ahead of other.
func (t OpTime) ahead(other OpTime) MongoLag {
	if !other.before(t) {
		return MongoLag{}
	}
	seconds := int64(t.Timestamp>>32) - int64(other.Timestamp>>32)
	ops := int64(uint32(t.Timestamp))
	if seconds == 0 {
		return MongoLag{Ops: ops - int64(uint32(other.Timestamp))}
	}
	return MongoLag{MS: seconds * 1000, Ops: ops, Least: true}
}

// The roles that an agent tells.
const (
	rolePrimary   = "primary"
	roleSecondary = "secondary"
)

// healthySet says what a set lacks to be whole; nil is that it is.
func healthySet(status MongoStatus) error {
	if status.Alarm != "" {
		return errors.New(status.Alarm)
	}
	if status.Primary == "" {
		return errors.New("there is no primary")
	}
	for _, m := range status.Members {
		switch {
		case m.Report == nil:
			return fmt.Errorf("the agent of %s: %s", m.Node, m.AgentError)
		case m.Role != rolePrimary && m.Role != roleSecondary:
			return fmt.Errorf("%s is %s", m.Node, m.Role)
		case m.Role == rolePrimary && m.Report.Fence != "":
			return fmt.Errorf("%s is fenced: %s", m.Node, m.Report.Fence)
		}
		for _, peer := range m.Report.Peers {
			if peer.Lost {
				return fmt.Errorf("%s has lost %s: %s", m.Node, peer.Node, peer.Reason)
			}
		}
	}
	return nil
}
