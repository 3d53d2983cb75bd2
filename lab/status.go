package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"sluice/datacenters"
	"sluice/intentions"
	"sluice/lab/engine"
	"sluice/mesh"
)

// Status is all that `sluice status` shows, and its JSON form.
type Status struct {
	State  string `json:"state"`
	Engine string `json:"engine"`
	// Uptime is in seconds; 0 where it is not known.
	Uptime  float64 `json:"uptime_seconds"`
	Summary Summary `json:"summary"`
	// Segmented is false where nodes can reach each other around the mesh.
	Segmented bool `json:"segmented"`
	// Profile is that of the replica set, fast or stock; Faults are those that hold.
	Profile string        `json:"profile"`
	Faults  []FaultRecord `json:"faults"`
	Limits  []string      `json:"limits,omitempty"`
	// Unsegmented are the edges that mTLS does not guard here.
	Unsegmented []string     `json:"unsegmented_edges,omitempty"`
	Nodes       []NodeStatus `json:"nodes"`
	// Datacenters are those that run, in whose eyes the replica set may be read-only.
	Datacenters []DatacenterStatus `json:"datacenters"`
	// PIDNamespace says where the process IDs count: "lab" (a PID namespace of its
	// own), "host", or "container": then they are not known.
	PIDNamespace string       `json:"pid_namespace"`
	Edges        []EdgeStatus `json:"edges"`
	// EdgesError is why Edges is empty although there are edges.
	EdgesError string `json:"edges_error,omitempty"`
}

// DatacenterStatus is one datacenter of the lab.
type DatacenterStatus struct {
	Name    string `json:"name"`
	Primary bool   `json:"primary"`
	// Cut is set when the datacenter is parted from the others; CutDirection says which
	// way: both, in or out.
	Cut          bool   `json:"cut"`
	CutDirection string `json:"cut_direction,omitempty"`
	// ReadOnly says why nothing can be written there; empty while it can.
	ReadOnly string `json:"read_only,omitempty"`
	// Denials are the datacenter's own, on top of the intentions, as its processes
	// enforce them.
	Denials []intentions.Denial `json:"break_glass,omitempty"`
}

// NodeStatus is one node with its processes.
type NodeStatus struct {
	Name       string `json:"name"`
	Datacenter string `json:"datacenter"`
	Address    string `json:"address"`
	// Cut is set when frames of either direction are dropped; CutDirection says
	// which: both, in or out.
	Cut          bool            `json:"cut"`
	CutDirection string          `json:"cut_direction,omitempty"`
	Processes    []ProcessStatus `json:"processes"`
}

// ProcessStatus is one process with what it says of itself.
type ProcessStatus struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
	// State is running, stopped (SIGSTOP) or ended, with how.
	State    string  `json:"state"`
	Restarts int     `json:"restarts"`
	MemoryMB float64 `json:"memory_mb"`
	// Healthy is nil where the process has no health endpoint.
	Healthy *bool  `json:"healthy,omitempty"`
	Health  string `json:"health,omitempty"`
	// Role is the replica set role of a mongo-agent's mongod.
	Role string       `json:"role,omitempty"`
	Mesh *mesh.Report `json:"mesh,omitempty"`
}

// EdgeStatus is one edge of the mesh: what is decided about it, by what, and how
// many connections are open on it now.
type EdgeStatus struct {
	intentions.Decision
	Reason string `json:"reason"`
	Open   int    `json:"open_connections"`
}

// statusTimeout bounds what is asked of one process: a frozen process must not
// freeze the command that would show it.
const statusTimeout = 1500 * time.Millisecond

// status looks at every process at once.
func (s *Supervisor) status(ctx context.Context) Status {
	status := Status{
		State: "starting", Engine: string(s.engine.Kind()), Uptime: time.Since(s.options.Started).Seconds(),
		Segmented: s.engine.Segmented(), Limits: s.engine.Limits(),
		Profile: s.options.Profile, Faults: append([]FaultRecord{}, s.faults.list()...),
	}
	if event, ok := s.journal.last(); ok {
		switch event.State {
		case LabReady:
			status.State, status.Summary = "up", *event.Summary
		case StepFailed:
			status.State = "failed: " + event.Failure.Step
		case StepBegan, StepEnded, LabNotice:
		}
	}
	status.PIDNamespace = "host"
	if s.engine.Kind() == engine.Netns {
		status.PIDNamespace = "lab"
	}
	if !status.Segmented {
		status.Unsegmented = []string{"web -> mongo-primary", "web -> mongo-secondary", "mongo-repl -> mongo-repl"}
	}
	for _, dc := range s.running() {
		cut := s.cutOf(dc.Name)
		status.Datacenters = append(status.Datacenters, DatacenterStatus{
			Name: dc.Name, Primary: dc.Primary, Cut: cut != engine.NoDirection, CutDirection: string(cut),
		})
	}
	nodes := s.all()
	status.Nodes = make([]NodeStatus, len(nodes))
	var wait sync.WaitGroup
	for i, n := range nodes {
		wait.Go(func() { status.Nodes[i] = n.status(ctx) })
	}
	if len(s.with(datacenters.Mongo)) > 0 && status.State == "up" {
		wait.Go(func() { status.tellSides(s.mongoStatus(ctx).Sides) })
	}
	wait.Wait()
	status.tellDenials()
	status.Edges = []EdgeStatus{}
	if edges, err := s.edges(ctx, status.Nodes); err != nil {
		s.log.Warn("cannot judge the edges", "err", err)
		status.EdgesError = readable(err)
	} else {
		status.Edges = edges
	}
	return status
}

// tellDenials gathers what each datacenter denies by itself from its processes.
func (s *Status) tellDenials() {
	for i := range s.Datacenters {
		dc := &s.Datacenters[i]
		for _, n := range s.Nodes {
			for _, p := range n.Processes {
				if n.Datacenter != dc.Name || p.Mesh == nil {
					continue
				}
				for _, policy := range p.Mesh.Policies {
					dc.add(policy.Denials)
				}
			}
		}
	}
}

func (d *DatacenterStatus) add(denials []intentions.Denial) {
	for _, denial := range denials {
		known := slices.ContainsFunc(d.Denials, func(other intentions.Denial) bool { return other.Edge() == denial.Edge() })
		if !known {
			d.Denials = append(d.Denials, denial)
		}
	}
}

// tellSides says of each datacenter whether its members see the set as read-only.
func (s *Status) tellSides(sides []MongoSide) {
	for _, side := range sides {
		for i := range s.Datacenters {
			if s.Datacenters[i].Name == side.Datacenter {
				s.Datacenters[i].ReadOnly = side.ReadOnly
			}
		}
	}
}

func readable(err error) string {
	if silent := Unanswered(err); silent != nil {
		return silent.Error()
	}
	return err.Error()
}

func (n *node) status(ctx context.Context) NodeStatus {
	status := NodeStatus{
		Name: n.node.Name, Datacenter: n.datacenter.Name, Address: n.address.String(),
	}
	status.CutDirection = string(n.machine.IsCut())
	status.Cut = status.CutDirection != ""
	names := n.names()
	status.Processes = make([]ProcessStatus, len(names))
	var wait sync.WaitGroup
	for i, name := range names {
		wait.Go(func() { status.Processes[i] = n.processStatus(ctx, name) })
	}
	wait.Wait()
	return status
}

func (n *node) processStatus(ctx context.Context, name string) ProcessStatus {
	p := n.process(name)
	state := p.State()
	status := ProcessStatus{Name: name, PID: p.PID(), Restarts: state.Restarts, State: n.stateOf(name)}
	if memory, err := p.Memory(); err == nil {
		status.MemoryMB = float64(memory) / 1e6
	}
	if state.Running && !state.Stopped && hasOps(name) {
		ctx, cancel := context.WithTimeout(ctx, statusTimeout)
		defer cancel()
		n.askProcess(ctx, n.httpClient(), name, &status)
	}
	return status
}

// stateRunning is the state of a process that runs.
const stateRunning = "running"

// stateOf says how a process is: running, stopped (SIGSTOP) or ended, with how.
func (n *node) stateOf(name string) string {
	p := n.process(name)
	if p == nil {
		return "not started"
	}
	switch state := p.State(); {
	case state.Stopped:
		return "stopped"
	case state.Running:
		return stateRunning
	default:
		return "ended: " + describeExit(state)
	}
}

// hasOps says which processes are ours and answer about themselves.
func hasOps(name string) bool {
	return name == processWeb || name == processGateway || name == processMongoAgent
}

func (n *node) askProcess(ctx context.Context, client *http.Client, name string, status *ProcessStatus) {
	base := "http://" + n.ops(name)
	err := getOK(ctx, client, base+"/healthz", nil)
	healthy := err == nil
	status.Healthy = &healthy
	if err != nil {
		status.Health = err.Error()
	}
	var report mesh.Report
	if getJSON(ctx, client, base+"/mesh", &report) == nil {
		status.Mesh = &report
	}
	if name == processMongoAgent {
		var role roleReport
		if getJSON(ctx, client, base+"/role", &role) == nil {
			status.Role = role.Role
		}
	}
}

// roleReport is what mongo-agent says of its mongod, as far as the lab reads it.
type roleReport struct {
	Role string `json:"role"`
}

// edges are the edges that the topology can have, judged by the intentions that
// Consul holds now.
func (s *Supervisor) edges(ctx context.Context, nodes []NodeStatus) ([]EdgeStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	admin := s.admin.Load()
	if admin == nil {
		return nil, errors.New("the access control of Consul is not set up yet")
	}
	entries, err := admin.ListIntentions(ctx)
	if err != nil {
		return nil, err
	}
	return judgeEdges(intentions.NewSet(intentions.Flatten(entries), intentions.Deny), nodes), nil
}

// judgeEdges decides every edge, and counts its open connections.
func judgeEdges(set intentions.Set, nodes []NodeStatus) []EdgeStatus {
	open := map[string]int{}
	for _, n := range nodes {
		for _, p := range n.Processes {
			if p.Mesh == nil {
				continue
			}
			for _, c := range p.Mesh.Connections {
				if c.Inbound {
					open[c.Source.Service()+" -> "+c.Destination.Service()]++
				}
			}
		}
	}
	edges := []EdgeStatus{}
	for _, source := range ServiceNames() {
		for _, destination := range ServiceNames() {
			decision := set.Decide(source, destination)
			name := source + " -> " + destination
			if !decision.Allowed && decision.Rule == nil && open[name] == 0 {
				continue
			}
			edges = append(edges, EdgeStatus{Decision: decision, Reason: decision.String(), Open: open[name]})
		}
	}
	return edges
}

// ServiceNames are the names that the lab's processes have in Consul.
func ServiceNames() []string {
	return []string{"gateway", "web", "mongo-primary", "mongo-secondary", "mongo-repl"}
}

// Summary is what `up` ends with.
type Summary struct {
	Seconds float64 `json:"seconds"`
	Phases  []Phase `json:"phases"`
	// MemoryMB is the proportional set size of every process of the lab together.
	MemoryMB float64         `json:"memory_mb"`
	Memory   []ProcessMemory `json:"memory"`
	URLs     []URL           `json:"urls"`
	UIToken  string          `json:"ui_token_file"`
	// AdminPassword is the file with the password of the blog's administrator;
	// NewAdmin says that this lab has made it, so that nobody can know it yet.
	AdminPassword string `json:"admin_password_file"`
	NewAdmin      bool   `json:"new_admin"`
}

// Phase is one step of the way up.
type Phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// ProcessMemory is the proportional set size of all processes of one name.
type ProcessMemory struct {
	Name  string  `json:"name"`
	Count int     `json:"count"`
	MB    float64 `json:"mb"`
}

// URL is one page that people can open.
type URL struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

func (s *Supervisor) summary(phases []Phase, took time.Duration) Summary {
	summary := Summary{Seconds: took.Seconds(), Phases: phases, UIToken: s.layout.TokenFile(uiToken), AdminPassword: s.layout.AdminPasswordFile(), NewAdmin: s.secrets.NewAdmin}
	for _, name := range []string{processConsul, processMongod, processMongoAgent, processWeb, processGateway} {
		entry := ProcessMemory{Name: name}
		for _, n := range s.all() {
			if p := n.process(name); p != nil {
				if memory, err := p.Memory(); err == nil {
					entry.Count++
					entry.MB += float64(memory) / 1e6
				}
			}
		}
		summary.Memory = append(summary.Memory, entry)
		summary.MemoryMB += entry.MB
	}
	for _, host := range s.options.Hosts {
		if !s.runs(host.Datacenter) {
			continue
		}
		path := map[string]string{"gateway": "/web", "admin": "/", "consul": "/ui/"}[host.Name]
		title := map[string]string{"gateway": "blog", "admin": "gateway admin", "consul": "Consul UI"}[host.Name]
		if primary, _ := s.topology.Primary(); host.Datacenter != primary.Name {
			title += " " + host.Datacenter
		}
		summary.URLs = append(summary.URLs, URL{Name: title, URL: fmt.Sprintf("http://%s%s", host.Address, path)})
	}
	return summary
}
