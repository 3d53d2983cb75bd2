package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/consul"
	"sluice/datacenters"
	"sluice/lab/control"
	"sluice/lab/disk"
	"sluice/lab/engine"
	"sluice/lab/process"
)

// Options are what the launcher hands to the supervisor. They hold no secret:
// they are kept in the state folder for `status` and for the next `up`.
type Options struct {
	State string `json:"state"`
	// Topology are the files of every datacenter that the lab may have, Second the
	// names of those besides the primary one that the way up starts.
	Topology      []string    `json:"topology"`
	Second        []string    `json:"second_datacenters,omitempty"`
	IntentionsDir string      `json:"intentions_dir"`
	Engine        engine.Kind `json:"engine"`
	Unprivileged  bool        `json:"unprivileged"`
	// PortOffset is what was added to the host's ports.
	PortOffset int `json:"port_offset"`
	// Index is the second octet of the loopback engine's addresses.
	Index    int      `json:"index"`
	Programs Programs `json:"programs"`
	// Profile is how eager the replica set is: ProfileFast or ProfileStock.
	Profile string `json:"profile"`
	// Hosts are the host's addresses by name (gateway, admin, consul), in the
	// order in which their listeners are inherited.
	Hosts []HostPort `json:"hosts"`
	// Timeout bounds the way up.
	Timeout time.Duration `json:"timeout"`
	// PID is the supervisor as the host sees it, and Started when it began.
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
}

// HostPort is one of the host's doors into the lab.
type HostPort struct {
	Name       string `json:"name"`
	Datacenter string `json:"datacenter"`
	Address    string `json:"address"`
}

// Supervisor owns a running lab: the engine, the nodes and their processes. When
// its process ends, for whatever reason, the lab ends.
type Supervisor struct {
	options  Options
	layout   Layout
	topology datacenters.Topology
	planner  planner
	secrets  secrets
	log      *slog.Logger
	journal  *journal

	engine engine.Engine
	// fleet is what runs; it grows and shrinks with a second datacenter.
	fleet atomic.Pointer[fleet]
	// admin is nil until Consul has been started.
	admin atomic.Pointer[consul.Client]

	faults faultBook
	// doors are the host's ports, in the order of the options.
	doors []*door
	// changing is held while a datacenter is added or removed.
	changing sync.Mutex

	// life ends with the lab; what outlives a call from the control socket runs in it.
	life     context.Context
	stopOnce sync.Once
	stop     chan struct{}
}

// NewSupervisor prepares a supervisor. Nothing is started before Run.
func NewSupervisor(options Options, log *slog.Logger) (*Supervisor, error) {
	layout, err := NewLayout(options.State)
	if err != nil {
		return nil, err
	}
	topology, err := datacenters.Load(options.Topology...)
	if err != nil {
		return nil, err
	}
	return &Supervisor{
		options:  options,
		layout:   layout,
		topology: topology,
		planner:  planner{layout: layout, programs: options.Programs, profile: options.Profile},
		faults:   faultBook{path: layout.FaultsFile()},
		log:      log,
		journal:  newJournal(),
		stop:     make(chan struct{}),
	}, nil
}

// Run brings the lab up, serves the control socket and the host's ports, and
// returns when it has been told to stop or ctx ends, with everything ended.
func (s *Supervisor) Run(ctx context.Context, socket *net.UnixListener, sockets []*os.File) error {
	if len(sockets) != len(s.options.Hosts) {
		return fmt.Errorf("run the supervisor: %d sockets inherited, want %d", len(sockets), len(s.options.Hosts))
	}
	for i, host := range s.options.Hosts {
		s.doors = append(s.doors, &door{HostPort: host, socket: sockets[i]})
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := s.open(); err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	s.life = groupCtx
	if s.options.Engine == engine.Netns {
		group.Go(func() error { return ignoreCancel(process.Reap(groupCtx, s.log)) })
	}
	group.Go(func() error { return ignoreCancel(control.Serve(groupCtx, socket, s.handlers(), s.log)) })
	primary, _ := s.topology.Primary()
	if err := s.openDoors(primary.Name); err != nil {
		return err
	}
	defer s.shutDoors("")
	group.Go(func() error {
		s.bringUp(groupCtx)
		return nil
	})
	select {
	case <-s.stop:
	case <-groupCtx.Done():
	}
	err := s.tearDown(context.WithoutCancel(ctx))
	cancel()
	return errors.Join(err, group.Wait())
}

// Stop tells Run to end. It may be called more than once.
func (s *Supervisor) Stop() { s.stopOnce.Do(func() { close(s.stop) }) }

func ignoreCancel(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// open makes the machines of the primary datacenter; no process runs yet.
func (s *Supervisor) open() error {
	var err error
	switch s.options.Engine {
	case engine.Netns:
		s.engine, err = engine.OpenNetns(s.log)
	case engine.Loopback:
		s.engine, err = engine.OpenLoopback(s.options.Index)
	default:
		err = fmt.Errorf("unknown engine %q", s.options.Engine)
	}
	if err != nil {
		return fmt.Errorf("open the engine: %w", err)
	}
	primary, _ := s.topology.Primary()
	return s.openDatacenter(primary)
}

// agentSocket is where the node's agent serves its HTTP API if nodes share one
// loopback, else empty.
func (s *Supervisor) agentSocket(node string) string {
	if s.engine.Segmented() {
		return ""
	}
	return s.layout.AgentSocket(node)
}

// members are the replica set's addresses, in every datacenter that the topology
// knows, the primary one's first: a member that does not exist yet costs nothing.
// Where all labs of a machine share one loopback, the second octet keeps two labs
// apart.
func (s *Supervisor) members() []member {
	var members []member
	for _, dc := range s.ordered() {
		for _, spec := range dc.Nodes {
			if !spec.Member.IsValid() {
				continue
			}
			address := spec.Member
			if s.options.Engine == engine.Loopback {
				octets := address.Addr().As4()
				octets[1] = byte(s.options.Index)
				address = netip.AddrPortFrom(netip.AddrFrom4(octets), address.Port())
			}
			members = append(members, member{node: spec.Name, datacenter: dc.Name, address: address})
		}
	}
	return members
}

// tearDown ends every process, newest nodes first, within a bound; what is left
// after that dies with the supervisor.
func (s *Supervisor) tearDown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	failed := stopNodes(ctx, s.all())
	if s.engine != nil {
		failed = errors.Join(failed, s.engine.Close())
	}
	return failed
}

// stopNodes ends the processes of nodes, the Consul servers' last: everything else
// says goodbye to them.
func stopNodes(ctx context.Context, nodes []*node) error {
	var failed []error
	for _, wave := range waves(nodes) {
		var group errgroup.Group
		for _, n := range wave {
			group.Go(func() error {
				// A stalled disk would hold mongod back until it is killed.
				if n.disk == nil {
					return n.stop(ctx)
				}
				return errors.Join(n.disk.Set(disk.Healthy), n.stop(ctx), n.disk.Wait(ctx))
			})
		}
		failed = append(failed, group.Wait())
	}
	return errors.Join(failed...)
}

// waves puts the Consul servers of nodes last.
func waves(nodes []*node) [][]*node {
	var clients, servers []*node
	for _, n := range nodes {
		if n.node.Server {
			servers = append(servers, n)
		} else {
			clients = append(clients, n)
		}
	}
	return [][]*node{clients, servers}
}

// find returns a node by name, or an error that lists those that exist.
func (s *Supervisor) find(name string) (*node, error) {
	known := make([]string, 0, len(s.all()))
	for _, n := range s.all() {
		if n.node.Name == name {
			return n, nil
		}
		known = append(known, n.node.Name)
	}
	return nil, fail(control.ExitUsage, "nodes: "+joinWords(known), "no node %q", name)
}

// save writes the options down for later commands.
func (o Options) save(layout Layout) error {
	encoded, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the lab's options: %w", err)
	}
	return writeSecret(layout.OptionsFile(), encoded)
}

// loadOptions reads what save wrote; a missing file is os.ErrNotExist.
func loadOptions(layout Layout) (Options, error) {
	content, err := os.ReadFile(layout.OptionsFile())
	if err != nil {
		return Options{}, err
	}
	var options Options
	if err := json.Unmarshal(content, &options); err != nil {
		return Options{}, fmt.Errorf("read %s: %w; `sluice down --purge` starts anew", layout.OptionsFile(), err)
	}
	return options, nil
}
