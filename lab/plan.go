package lab

import (
	"net/netip"
	"os"
	"strconv"
	"strings"

	"sluice/datacenters"
	"sluice/lab/consulconfig"
	"sluice/lab/process"
)

// Ports of the processes' own endpoints on their node's loopback.
const (
	webOpsPort       = 8001
	mongoOpsPort     = 27021
	gatewayPort      = 9999
	gatewayAdminPort = 9998
)

// detectorNice is what a mongo-agent gets of busy processors. It tells a dead node
// from a living one by the time that an answer takes: waiting for a processor must
// not look like death. All cluster managers ask for this (Corosync runs in real
// time); seven Consul agents and three mongods on two processors make it needed.
const detectorNice = -10

// Names of the processes on a node.
const (
	processConsul     = "consul"
	processMongod     = "mongod"
	processMongoAgent = "mongo-agent"
	processWeb        = "web"
	processGateway    = "gateway"
	processSalvager   = "mongod-salvage"
)

// salvagerOffset is added to a member's port for the mongod that only reads its log.
const salvagerOffset = 100

// Programs are the paths of what the lab starts.
type Programs struct {
	Consul     string `json:"consul"`
	Mongod     string `json:"mongod"`
	Web        string `json:"web"`
	MongoAgent string `json:"mongo_agent"`
	Gateway    string `json:"gateway"`
}

// place is where one node's processes find things, in the engine's terms.
type place struct {
	datacenter datacenters.Datacenter
	node       datacenters.Node
	address    netip.Addr
	loopback   netip.Addr
	// members are the replica set's addresses as every node sees them, those of
	// datacenters that do not run included.
	members []member
	// failover are the datacenters in which a service is looked for after the own one.
	failover []string
	// flat says that all nodes share one loopback, so mongod members reach each
	// other without the mesh.
	flat bool
	// socket is the agent's HTTP API where nodes share one loopback: a file that
	// only the user can open, because a warm agent hands its services' keys to
	// whoever reaches it. Empty where the node's loopback is its own.
	socket string
}

// member is one member of the replica set.
type member struct {
	node       string
	datacenter string
	address    netip.AddrPort
}

// consulAddress is the HTTP API of the node's agent, as consul.Open takes it.
func (p place) consulAddress() string {
	if p.socket != "" {
		return "unix://" + p.socket
	}
	return netip.AddrPortFrom(p.loopback, consulconfig.HTTPPort).String()
}

// ops is where a process serves its health, metrics and mesh report.
func (p place) ops(process string) string {
	port := map[string]uint16{
		processWeb: webOpsPort, processMongoAgent: mongoOpsPort, processGateway: gatewayAdminPort,
	}[process]
	return netip.AddrPortFrom(p.loopback, port).String()
}

// own returns the node's own member address.
func (p place) own() netip.AddrPort {
	for _, m := range p.members {
		if m.node == p.node.Name {
			return m.address
		}
	}
	return netip.AddrPort{}
}

// planner turns places into processes. It only decides; it starts nothing.
type planner struct {
	layout   Layout
	programs Programs
	// profile is what the mongo-agents are told; empty leaves it to them.
	profile string
}

// consul is the node's Consul agent.
func (pl planner) consul(p place) process.Spec {
	return pl.spec(p, processConsul, pl.programs.Consul,
		"agent", "-config-file", pl.layout.AgentConfig(p.node.Name))
}

// services are the processes that need the agent, by the node's services.
func (pl planner) services(p place) []process.Spec {
	var specs []process.Spec
	for _, service := range p.node.Services {
		switch service {
		case "web":
			specs = append(specs, pl.web(p))
		case "mongo":
			specs = append(specs, pl.mongoAgent(p))
		case "gateway":
			// In a lab everybody may see the inside.
			specs = append(specs, pl.spec(p, processGateway, pl.programs.Gateway, append(pl.common(p, "gateway"),
				"-explain-errors", "-response-headers", "dc,instance")...))
		}
	}
	return specs
}

func (pl planner) web(p place) process.Spec {
	return pl.spec(p, processWeb, pl.programs.Web, append(pl.common(p, "web"),
		"-mongo-user", "web",
		"-mongo-password-file", pl.layout.AppPasswordFile(),
		"-admin-password-file", pl.layout.AdminPasswordFile(),
	)...)
}

func (pl planner) mongoAgent(p place) process.Spec {
	args := append(pl.common(p, "mongo"),
		"-mongod", p.own().String(),
		"-replica-set", p.datacenter.ReplicaSet,
		"-key-file", pl.layout.KeyFile(),
		"-app-user", "web",
		"-app-password-file", pl.layout.AppPasswordFile(),
	)
	for _, m := range p.members {
		args = append(args, "-member", m.node+"="+m.address.String()+"/"+m.datacenter)
	}
	if pl.profile != "" {
		args = append(args, "-profile", pl.profile)
	}
	if p.flat {
		args = append(args, "-flat")
	}
	spec := pl.spec(p, processMongoAgent, pl.programs.MongoAgent, args...)
	spec.Nice = detectorNice
	return spec
}

// mongod binds its member address alone: nobody outside its own node reaches it.
// The localhost exception is off because behind a relay every remote peer looks
// local; zlib is off because this version's decompression leaks memory
// (CVE-2025-14847); the journal is small because a lab writes little.
func (pl planner) mongod(p place) process.Spec {
	own := p.own()
	return pl.spec(p, processMongod, pl.programs.Mongod,
		"--replSet", p.datacenter.ReplicaSet,
		"--bind_ip", own.Addr().String(),
		"--port", strconv.Itoa(int(own.Port())),
		"--dbpath", pl.layout.Data(p.node.Name, processMongod),
		"--keyFile", pl.layout.KeyFile(),
		"--nounixsocket",
		"--networkMessageCompressors", "snappy",
		"--setParameter", "enableLocalhostAuthBypass=0",
		"--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100",
		"--setParameter", "diagnosticDataCollectionEnabled=false",
		"--wiredTigerCacheSizeGB", "0.25",
		"--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=8MB)",
		"--oplogSize", "64",
	)
}

// salvager is the node's mongod on its own: no member of a set, on another port, so
// that its log can be read and nothing changes it.
func (pl planner) salvager(p place) (process.Spec, netip.AddrPort) {
	own := p.own()
	address := netip.AddrPortFrom(own.Addr(), own.Port()+salvagerOffset)
	return pl.spec(p, processSalvager, pl.programs.Mongod,
		"--bind_ip", address.Addr().String(),
		"--port", strconv.Itoa(int(address.Port())),
		"--dbpath", pl.layout.Data(p.node.Name, processMongod),
		"--keyFile", pl.layout.KeyFile(),
		"--nounixsocket",
		"--setParameter", "enableLocalhostAuthBypass=0",
		"--setParameter", "diagnosticDataCollectionEnabled=false",
		"--wiredTigerCacheSizeGB", "0.25",
	), address
}

func (pl planner) common(p place, service string) []string {
	args := []string{
		"-node", p.node.Name,
		"-datacenter", p.datacenter.Name,
		"-address", p.address.String(),
		"-loopback", p.loopback.String(),
		"-consul", p.consulAddress(),
		"-token-file", pl.layout.TokenFile(consulconfig.ServiceToken(service, p.node.Name)),
		"-log-format", "json",
		"-break-glass", consulconfig.BreakGlassKey,
	}
	if len(p.failover) > 0 {
		args = append(args, "-failover-datacenters", strings.Join(p.failover, ","))
	}
	return args
}

func (pl planner) spec(p place, name, path string, args ...string) process.Spec {
	return process.Spec{
		Name:    p.node.Name + "/" + name,
		Path:    path,
		Args:    args,
		Env:     environment(name),
		Dir:     pl.layout.Root(),
		LogFile: pl.layout.Log(p.node.Name, name),
	}
}

// environment is all that a process inherits: nothing of the user's own
// variables, so that a lab does the same on every machine. Seven agents share
// one machine here, so each collects its garbage twice as often as by default.
func environment(name string) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LANG=C.UTF-8"}
	if name != processMongod && name != processSalvager {
		env = append(env, "GOGC=50", "GOMAXPROCS=2")
	}
	return env
}
