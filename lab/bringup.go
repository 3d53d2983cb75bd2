package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/consul"
	"sluice/datacenters"
	"sluice/intentions"
	"sluice/lab/consulconfig"
	"sluice/lab/process"
)

// step is one stage of the way up, with its own deadline.
type step struct {
	name    string
	timeout time.Duration
	run     func(context.Context) error
	// hint is what to try when the step fails.
	hint string
}

// blame ties an error to the process whose log explains it.
type blame struct {
	node    *node
	process string
	err     error
}

func (b *blame) Error() string { return b.node.node.Name + "/" + b.process + ": " + b.err.Error() }
func (b *blame) Unwrap() error { return b.err }

// tailLines is how much of a log a failure shows.
const tailLines = 12

// firstSteps bring up the primary datacenter.
func (s *Supervisor) firstSteps() []step {
	dc, _ := s.topology.Primary()
	return []step{
		{"keys and certificates", 10 * time.Second, s.makeSecrets, "check that the state folder can be written to"},
		{"Consul server", 60 * time.Second, s.startPrimary, "see `sluice logs consul-1/consul`; an old state may not fit: `sluice down --purge`"},
		{"access control", 30 * time.Second, func(ctx context.Context) error { return s.writeAccessControl(ctx, dc) }, "an old state may not fit: `sluice down --purge`"},
		{"intentions", 20 * time.Second, s.applyIntentions, "the files are in the folder that --intentions names"},
		{"agents and mongod", 60 * time.Second, func(ctx context.Context) error { return s.startAgents(ctx, dc) }, "see `sluice logs NODE/consul` and `sluice logs NODE/mongod`"},
		{"services", 60 * time.Second, func(ctx context.Context) error { return s.startServices(ctx, dc) }, "see `sluice logs NODE/PROCESS`; programs are built by `make build`"},
		{"replica set", 90 * time.Second, s.awaitReplicaSet, "see `sluice logs mongo-1/mongo-agent`"},
		{"a request across every allowed edge", 60 * time.Second, s.awaitEdges, "see `sluice logs gateway-1/gateway` and `sluice logs web-1/web`"},
	}
}

// bringUp takes the steps in order and writes down how each went. A failure ends
// the lab: half a lab teaches the wrong thing.
func (s *Supervisor) bringUp(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.options.Timeout, fmt.Errorf("the whole took longer than %s (--timeout)", s.options.Timeout))
	defer cancel()
	began := time.Now()
	s.changing.Lock()
	defer s.changing.Unlock()
	phases, ok := s.takeAll(ctx, s.firstSteps(), s.journal.add)
	for _, name := range s.options.Second {
		if dc, known := s.topology.Datacenter(name); ok && known {
			var further []Phase
			further, ok = s.takeAll(ctx, s.furtherSteps(dc), s.journal.add)
			phases = append(phases, further...)
		}
	}
	if !ok {
		return
	}
	summary := s.summary(phases, time.Since(began))
	s.log.Info("the lab is up", "seconds", summary.Seconds)
	s.journal.add(Event{State: LabReady, Summary: &summary})
}

// takeAll takes steps in order and tells each. It reports whether all succeeded.
func (s *Supervisor) takeAll(ctx context.Context, steps []step, tell func(Event)) ([]Phase, bool) {
	var phases []Phase
	for _, step := range steps {
		tell(Event{Step: step.name, State: StepBegan})
		start := time.Now()
		if err := s.take(ctx, step); err != nil {
			s.log.Error("the lab did not come up", "step", step.name, "err", err)
			tell(Event{Step: step.name, State: StepFailed, Failure: s.failure(step, err)})
			return phases, false
		}
		seconds := time.Since(start).Seconds()
		phases = append(phases, Phase{Name: step.name, Seconds: seconds})
		tell(Event{Step: step.name, State: StepEnded, Seconds: seconds})
	}
	return phases, true
}

func (s *Supervisor) take(ctx context.Context, step step) error {
	ctx, cancel := context.WithTimeoutCause(ctx, step.timeout, fmt.Errorf("not within %s", step.timeout))
	defer cancel()
	return step.run(ctx)
}

func (s *Supervisor) failure(step step, err error) *StepFailure {
	failure := &StepFailure{Step: step.name, Cause: err.Error(), Hint: step.hint}
	var blamed *blame
	if errors.As(err, &blamed) {
		failure.Process = blamed.node.node.Name + "/" + blamed.process
		if p := blamed.node.process(blamed.process); p != nil {
			failure.Tail = p.Tail(tailLines)
		}
	}
	return failure
}

func (s *Supervisor) makeSecrets(context.Context) error {
	var err error
	if s.secrets, err = loadSecrets(s.layout, s.topology); err != nil {
		return err
	}
	if err := errors.Join(s.faults.clear(), keepProfile(s.layout, s.options.Profile)); err != nil {
		return err
	}
	dc, _ := s.topology.Primary()
	return s.prepareNodes(dc)
}

// prepareNodes writes what the nodes of a datacenter need before anything runs there.
func (s *Supervisor) prepareNodes(dc datacenters.Datacenter) error {
	if err := s.makeCertificates(time.Now(), s.in(dc.Name)); err != nil {
		return err
	}
	for _, n := range s.in(dc.Name) {
		if err := n.dataDirs(s.layout); err != nil {
			return err
		}
		if err := s.writeAgentConfig(n); err != nil {
			return err
		}
	}
	return nil
}

// dnsPort is 53 where the node's loopback is its own, 8600 where it is not.
func (s *Supervisor) dnsPort() int {
	if s.engine.Segmented() {
		return 53
	}
	return 8600
}

func (s *Supervisor) writeAgentConfig(n *node) error {
	primary, _ := s.topology.Primary()
	agent := consulconfig.Agent{
		Node: n.node.Name, Datacenter: n.datacenter.Name, PrimaryDatacenter: primary.Name,
		Server: n.node.Server, Address: n.address, Loopback: n.loopback,
		HTTPSocket: n.socket, DNSPort: s.dnsPort(), DataDir: s.layout.Data(n.node.Name, processConsul),
		Gossip: s.secrets.Gossip, AgentToken: s.secrets.Tokens[consulconfig.AgentToken(n.node.Name)],
		ManagementToken: s.secrets.Tokens[managementToken], ReplicationToken: s.secrets.Tokens[replicationToken],
		CAFile: s.caFile(), CertFile: s.certFile(n.node.Name), KeyFile: s.keyFile(n.node.Name),
	}
	if n.node.Server && !n.datacenter.Primary {
		for _, server := range s.servers(primary.Name) {
			agent.JoinWAN = append(agent.JoinWAN, server.address)
		}
	}
	for _, other := range s.in(n.datacenter.Name) {
		if other.node.Server {
			agent.Servers++
		}
		// A client looks for servers. A server that was killed looks for anybody: it
		// would otherwise wait until the others look for it, 20 s and more.
		if other != n && (other.node.Server || n.node.Server) {
			agent.Join = append(agent.Join, other.address)
		}
	}
	config, err := agent.Config()
	if err != nil {
		return err
	}
	return writeSecret(s.layout.AgentConfig(n.node.Name), config)
}

// startPrimary starts the servers of the primary datacenter and opens Consul there.
func (s *Supervisor) startPrimary(ctx context.Context) error {
	dc, _ := s.topology.Primary()
	if err := s.startServers(ctx, dc); err != nil {
		return err
	}
	server := s.servers(dc.Name)[0]
	admin, err := s.openConsul(server)
	if err != nil {
		return err
	}
	s.admin.Store(admin)
	return s.await(ctx, server, processConsul, "Consul has a leader", admin.AwaitLeader)
}

// startServers starts the servers of a datacenter, and mongod beside them because
// it needs nothing of Consul and is the slowest to open its files.
func (s *Supervisor) startServers(ctx context.Context, dc datacenters.Datacenter) error {
	for _, n := range s.withIn(dc.Name, datacenters.Mongo) {
		if err := n.start(ctx, s.planner.mongod(n.place)); err != nil {
			return err
		}
	}
	for _, n := range s.servers(dc.Name) {
		if err := n.start(ctx, s.planner.consul(n.place)); err != nil {
			return err
		}
	}
	return nil
}

// openConsul opens Consul at a server, as somebody who may do everything.
func (s *Supervisor) openConsul(server *node) (*consul.Client, error) {
	return consul.Open(consul.Config{
		Address: server.consulAddress(), TokenFile: s.layout.TokenFile(managementToken),
		Logger: s.log, DialContext: server.dialConsul,
	})
}

// await waits for a condition that depends on one process, and gives up at once
// when that process has ended.
func (s *Supervisor) await(ctx context.Context, n *node, name, what string, condition func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alive := func(ctx context.Context) error {
		if p := n.process(name); p != nil && !p.State().Running {
			cancel(fmt.Errorf("the process ended: %s", howEnded(p)))
		}
		return condition(ctx)
	}
	if err := waitFor(ctx, what, alive); err != nil {
		return &blame{node: n, process: name, err: err}
	}
	return nil
}

// howEnded says how a process that has just ended did so.
func howEnded(p *process.Process) string { return describeExit(lastState(p)) }

// lastState waits until all is known of a process that has just ended: its signal or
// exit code and its last words come a moment after its end.
func lastState(p *process.Process) process.State {
	select {
	case <-p.Done():
	case <-time.After(2 * time.Second):
	}
	return p.State()
}

func describeExit(state process.State) string {
	if state.Signal != "" {
		return "signal " + state.Signal
	}
	return fmt.Sprintf("exit code %d", state.ExitCode)
}

// writeAccessControl writes the tokens of a datacenter's agents and processes, and
// with the primary one those of people. All are written in the primary.
func (s *Supervisor) writeAccessControl(ctx context.Context, dc datacenters.Datacenter) error {
	tokens := consulconfig.Tokens(dc)
	if dc.Primary {
		tokens = append(tokens,
			consulconfig.Token{Name: operatorToken, Description: "sluice command line", Rules: consulconfig.OperatorRules},
			consulconfig.Token{Name: breakGlassToken, Description: "denials of one datacenter by itself", Rules: consulconfig.BreakGlassRules},
			consulconfig.Token{Name: uiToken, Description: "people who look at Consul's pages", Rules: consulconfig.UIRules})
	} else {
		tokens = append(tokens,
			consulconfig.Token{Name: replicationToken, Description: "servers that copy from the primary datacenter", Rules: consulconfig.ReplicationRules})
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, token := range tokens {
		group.Go(func() error {
			return s.admin.Load().PutToken(ctx, consul.Token{
				Name: token.Name, Description: token.Description, Secret: s.secrets.Tokens[token.Name],
				NodeIdentity: token.NodeIdentity, Datacenter: dc.Name, Rules: token.Rules,
			})
		})
	}
	return group.Wait()
}

// applyIntentions gives a new Consul the intentions of the files. A Consul that
// has intentions keeps them: somebody may have denied an edge for a reason, and a
// crash must not open it again. What differs is said, and is for `apply` to undo.
func (s *Supervisor) applyIntentions(ctx context.Context) error {
	files, err := intentions.Load(s.options.IntentionsDir)
	if err != nil {
		return err
	}
	admin := s.admin.Load()
	live, err := admin.ListIntentions(ctx)
	if err != nil {
		return err
	}
	if len(live) == 0 {
		return admin.ReplaceIntentions(ctx, files)
	}
	if plan := intentions.Plan(files, live); plan.HasDrift() {
		s.journal.add(Event{State: LabNotice, Notice: "Consul keeps the intentions that it held, which differ from the files (`sluice intentions apply` brings the files in): " + plan.Summary()})
	}
	return nil
}

// startAgents starts the agents of all other nodes of a datacenter at once.
func (s *Supervisor) startAgents(ctx context.Context, dc datacenters.Datacenter) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range s.in(dc.Name) {
		if n.node.Server {
			continue
		}
		group.Go(func() error {
			if err := n.start(ctx, s.planner.consul(n.place)); err != nil {
				return err
			}
			return s.await(ctx, n, processConsul, "the agent of "+n.node.Name+" has joined", s.agentJoined(n))
		})
	}
	for _, n := range s.withIn(dc.Name, datacenters.Mongo) {
		group.Go(func() error {
			return s.await(ctx, n, processMongod, "mongod accepts connections", func(ctx context.Context) error {
				conn, err := n.machine.DialContext(ctx, "tcp", n.own().String())
				if err == nil {
					err = conn.Close()
				}
				return err
			})
		})
	}
	return group.Wait()
}

// agentJoined holds when the node's agent can ask the servers.
func (s *Supervisor) agentJoined(n *node) func(context.Context) error {
	client := &http.Client{
		Timeout:   requestTimeout,
		Transport: &http.Transport{DialContext: n.dialConsul, DisableKeepAlives: true},
	}
	token := s.secrets.Tokens[consulconfig.AgentToken(n.node.Name)]
	return func(ctx context.Context) error {
		return getOK(ctx, client, "http://consul/v1/catalog/nodes", http.Header{"X-Consul-Token": {token}})
	}
}

func (s *Supervisor) startServices(ctx context.Context, dc datacenters.Datacenter) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range s.in(dc.Name) {
		for _, spec := range s.planner.services(n.place) {
			if _, err := os.Stat(spec.Path); err != nil {
				return fmt.Errorf("start %s: %w", spec.Name, err)
			}
			group.Go(func() error { return n.start(ctx, spec) })
		}
	}
	return group.Wait()
}
