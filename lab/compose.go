package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"sluice/consul"
	"sluice/datacenters"
	"sluice/lab/consulconfig"
	"sluice/lab/engine"
)

// Where things are in the containers of a lab.
const (
	// composeState is the state folder. A node's containers see the node's own share
	// of it there, what prepares the lab sees the whole.
	composeState = "/sluice"
	// composeShares is where what prepares the lab sees every node's share.
	composeShares = "/nodes"
	// composeConfig is where the image has the topology and the intentions.
	composeConfig = "/etc/sluice"
	// composeOperator is the share of the command line.
	composeOperator = "operator"
)

// ComposeSetup prepares a lab whose processes Docker starts, from inside its
// containers. Each method is one stage, ends when the stage is complete, and can be
// repeated.
type ComposeSetup struct{ supervisor *Supervisor }

// NewComposeSetup reads the topology that the image holds.
func NewComposeSetup(log *slog.Logger) (*ComposeSetup, error) {
	s, err := composeSupervisor(DefaultTopology(composeConfig), log)
	if err != nil {
		return nil, err
	}
	return &ComposeSetup{supervisor: s}, nil
}

// composeSupervisor knows every node of the topology and starts nothing.
func composeSupervisor(topology []string, log *slog.Logger) (*Supervisor, error) {
	s, err := NewSupervisor(Options{
		State: composeState, Topology: topology, IntentionsDir: filepath.Join(composeConfig, "intentions"),
		Engine: engine.Compose, Profile: ProfileFast, Started: time.Now(),
		Programs: Programs{Consul: "consul", Mongod: "mongod", Web: "/bin/web", MongoAgent: "/bin/mongo-agent", Gateway: "/bin/gateway"},
	}, log)
	if err != nil {
		return nil, err
	}
	s.engine = engine.OpenCompose()
	for _, dc := range s.ordered() {
		if err := s.openDatacenter(dc); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Secrets makes what is not there yet, certificates and configurations anew, and
// gives each node its share.
func (c *ComposeSetup) Secrets() error {
	s := c.supervisor
	if err := s.layout.Prepare(); err != nil {
		return err
	}
	var err error
	if s.secrets, err = loadSecrets(s.layout, s.topology); err != nil {
		return err
	}
	for _, dc := range s.ordered() {
		if err := s.prepareNodes(dc); err != nil {
			return err
		}
	}
	for _, n := range s.all() {
		if err := share(s.layout, filepath.Join(composeShares, n.node.Name), s.shareOf(n)); err != nil {
			return fmt.Errorf("give %s its share: %w", n.node.Name, err)
		}
	}
	return c.shareOperator()
}

// shareOperator gives the command line the operator's token, and tells it where
// Consul is.
func (c *ComposeSetup) shareOperator() error {
	s := c.supervisor
	primary, _ := s.topology.Primary()
	options := s.options
	options.Hosts = []HostPort{{Name: "consul", Datacenter: primary.Name, Address: fmt.Sprintf("127.0.0.1:%d", consulconfig.HTTPPort)}}
	if err := options.save(s.layout); err != nil {
		return err
	}
	files := []string{s.layout.OptionsFile(), s.layout.TokenFile(operatorToken), s.layout.TokenFile(uiToken), s.layout.AdminPasswordFile()}
	if err := share(s.layout, filepath.Join(composeShares, composeOperator), files); err != nil {
		return fmt.Errorf("give the command line its share: %w", err)
	}
	return nil
}

// shareOf are the files and empty folders that a node's processes need: what a
// stolen node can give away.
func (s *Supervisor) shareOf(n *node) []string {
	files := []string{
		s.caFile(), s.certFile(n.node.Name), s.keyFile(n.node.Name),
		s.layout.AgentConfig(n.node.Name), s.layout.Data(n.node.Name, processConsul),
		s.layout.TokenFile(consulconfig.AgentToken(n.node.Name)),
	}
	for _, service := range n.node.Services {
		files = append(files, s.layout.TokenFile(consulconfig.ServiceToken(service, n.node.Name)))
		switch service {
		case datacenters.Web:
			files = append(files, s.layout.AppPasswordFile(), s.layout.AdminPasswordFile())
		case datacenters.Mongo:
			files = append(files, s.layout.KeyFile(), s.layout.AppPasswordFile(), s.layout.Data(n.node.Name, processMongod))
		}
	}
	return files
}

// share copies files to the same places below another root. Folders are made, and
// left as they are if they exist.
func share(layout Layout, root string, files []string) error {
	for _, path := range files {
		below, err := filepath.Rel(layout.Root(), path)
		if err != nil || !filepath.IsLocal(below) {
			return fmt.Errorf("%s is not below %s", path, layout.Root())
		}
		target := filepath.Join(root, below)
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if info.IsDir() {
			if err := os.MkdirAll(target, 0o700); err != nil {
				return err
			}
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := writeSecret(target, content); err != nil {
			return err
		}
	}
	return nil
}

// Access waits for the primary datacenter's leader, and writes the tokens of a
// datacenter there; with the primary's, also the intentions. It runs on the
// primary's server node.
func (c *ComposeSetup) Access(ctx context.Context, datacenter string) error {
	s := c.supervisor
	dc, known := s.topology.Datacenter(datacenter)
	if !known {
		return fmt.Errorf("no datacenter %q", datacenter)
	}
	var err error
	if s.secrets, err = loadSecrets(s.layout, s.topology); err != nil {
		return err
	}
	primary, _ := s.topology.Primary()
	admin, err := c.awaitLeader(ctx, primary)
	if err != nil {
		return err
	}
	defer admin.Close()
	s.admin.Store(admin)
	if err := s.writeAccessControl(ctx, dc); err != nil {
		return err
	}
	if !dc.Primary {
		return nil
	}
	return s.applyIntentions(ctx)
}

// awaitLeader opens Consul on a datacenter's first server, where it runs.
func (c *ComposeSetup) awaitLeader(ctx context.Context, dc datacenters.Datacenter) (*consul.Client, error) {
	client, err := c.supervisor.openConsul(c.supervisor.servers(dc.Name)[0])
	if err != nil {
		return nil, err
	}
	if err := waitFor(ctx, "Consul has a leader in "+dc.Name, client.AwaitLeader); err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

// Federated waits until a datacenter has the primary's tokens and signs
// certificates. It runs on that datacenter's server node.
func (c *ComposeSetup) Federated(ctx context.Context, datacenter string) error {
	dc, known := c.supervisor.topology.Datacenter(datacenter)
	if !known || dc.Primary {
		return fmt.Errorf("%q is no datacenter that is federated with the primary one", datacenter)
	}
	client, err := c.awaitLeader(ctx, dc)
	if err != nil {
		return err
	}
	defer client.Close()
	primary, _ := c.supervisor.topology.Primary()
	err = waitFor(ctx, "tokens are copied to "+dc.Name, func(ctx context.Context) error { return client.AwaitReplication(ctx, primary.Name) })
	if err != nil {
		return err
	}
	return waitFor(ctx, dc.Name+" signs certificates", client.AwaitSigning)
}

// Grow makes the members of every datacenter those of the replica set while the node that
// it runs on has the primary. It ends when the set is complete: while another member is
// primary the work is for that one's node, and it may come back.
func (c *ComposeSetup) Grow(ctx context.Context, nodeName string) error {
	s := c.supervisor
	n, err := s.find(nodeName)
	if err != nil {
		return err
	}
	members := s.setMembers(s.with(datacenters.Mongo))
	ops := s.agentOps(n)
	return waitFor(ctx, "the replica set has its members", func(ctx context.Context) error {
		report, err := ops.report(ctx)
		if err != nil {
			return err
		}
		if report.Role != rolePrimary {
			if grown(report, members) {
				return nil
			}
			return fmt.Errorf("the primary is %q, and the set has not all members yet", report.Primary)
		}
		pending, err := ops.reshape(ctx, members)
		if err == nil && pending != "" {
			err = errors.New(pending)
		}
		return err
	})
}

// ComposeNodes are the names below which volumes are mounted while the lab is
// prepared: one per node of the topology files, and the command line's.
func ComposeNodes(topology []string) ([]string, error) {
	loaded, err := datacenters.Load(topology...)
	if err != nil {
		return nil, err
	}
	names := []string{composeOperator}
	for _, dc := range loaded.Datacenters {
		for _, node := range dc.Nodes {
			names = append(names, node.Name)
		}
	}
	return names, nil
}
