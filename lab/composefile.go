package lab

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"text/template"

	"sluice/datacenters"
	"sluice/lab/consulconfig"
	"sluice/lab/process"
)

//go:embed compose.yml.tmpl
var composeTemplate string

// composeDatacenter is what the template shows of a datacenter.
type composeDatacenter struct {
	datacenters.Datacenter
	// Profile starts it; empty for the primary, which always starts.
	Profile string
	// PrimaryServer and Server are the nodes of the two datacenters' first servers.
	PrimaryServer, Server string
	Nodes                 []composeNode
	// Growers are the nodes from which the replica set grows into it.
	Growers []composeGrower
}

// composeGrower is a node from which the replica set can grow, and the containers that
// must be well before.
type composeGrower struct {
	Node  string
	After []string
}

// composeNode is what the template shows of a node.
type composeNode struct {
	Name    string
	Server  bool
	Profile string
	Agent   process.Spec
	// After are the containers that must have ended well before the agent starts.
	After    []string
	Networks []composeNetwork
	Token    string
	Doors    []composeDoor
	Services []composeService
	Routers  string
}

// composeNetwork is one of a node's two links. A node has an address in every
// datacenter's network: Docker lets no packet pass from one network to another.
type composeNetwork struct {
	Name    string
	Address netip.Addr
}

// composeDoor is a port of the host that leads to one of the node's loopback.
type composeDoor struct{ Host, Node int }

// composeService is a process that joins its node.
type composeService struct {
	Name, Kind, Image string
	Path              string
	Args, Env         []string
	// Health is the page that says whether the process is well; empty for none.
	Health string
	// SharesPIDs says that the process must see, or be seen by, another one of its node.
	SharesPIDs bool
	After      []string
}

// ComposeFile returns the docker-compose.yml of the topology files: the processes
// that the other engines start, with the same arguments.
func ComposeFile(topology []string) ([]byte, error) {
	s, err := composeSupervisor(topology, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	data := struct {
		Datacenters []composeDatacenter
		Volumes     []string
	}{Volumes: []string{composeOperator}}
	for _, dc := range s.ordered() {
		data.Datacenters = append(data.Datacenters, s.composeDatacenter(dc))
	}
	for _, n := range s.all() {
		data.Volumes = append(data.Volumes, n.node.Name)
	}
	parsed, err := template.New("docker-compose.yml").Funcs(template.FuncMap{"json": toJSON, "join": strings.Join}).Parse(composeTemplate)
	if err != nil {
		return nil, fmt.Errorf("read the template: %w", err)
	}
	var file bytes.Buffer
	if err := parsed.Execute(&file, data); err != nil {
		return nil, fmt.Errorf("write docker-compose.yml: %w", err)
	}
	return file.Bytes(), nil
}

// toJSON writes a value as YAML understands it too.
func toJSON(value any) (string, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return strings.TrimSpace(strings.ReplaceAll(text.String(), `","`, `", "`)), err
}

func (s *Supervisor) composeDatacenter(dc datacenters.Datacenter) composeDatacenter {
	primary, _ := s.topology.Primary()
	shown := composeDatacenter{
		Datacenter: dc, PrimaryServer: s.servers(primary.Name)[0].node.Name, Server: s.servers(dc.Name)[0].node.Name,
	}
	if !dc.Primary {
		shown.Profile = dc.Name
		shown.Growers = s.growers(dc)
	}
	for _, n := range s.in(dc.Name) {
		shown.Nodes = append(shown.Nodes, s.composeNode(n, shown))
	}
	return shown
}

func (s *Supervisor) composeNode(n *node, dc composeDatacenter) composeNode {
	shown := composeNode{
		Name: n.node.Name, Server: n.node.Server, Profile: dc.Profile, Agent: s.planner.consul(n.place),
		Token: s.layout.TokenFile(consulconfig.AgentToken(n.node.Name)), Networks: s.composeNetworks(n),
	}
	switch {
	case n.node.Server && dc.Primary:
		shown.After = []string{"secrets"}
	case n.node.Server || dc.Primary:
		shown.After = []string{"access-" + dc.Name}
	default:
		shown.After = []string{"federated-" + dc.Name}
	}
	if n.node.Name == dc.Server {
		shown.Doors = []composeDoor{{dc.Ports.Consul, consulconfig.HTTPPort}}
	}
	if n.node.Runs(datacenters.Gateway) {
		shown.Doors = []composeDoor{{dc.Ports.Gateway, gatewayPort}, {dc.Ports.Admin, gatewayAdminPort}}
	}
	var routers []string
	for _, other := range s.ordered() {
		routers = append(routers, other.Router().String())
	}
	shown.Routers = strings.Join(routers, ",")
	shown.Services = s.composeServices(n)
	return shown
}

// composeNetworks are the node's own address and, in every other datacenter's
// network, the address of the same number in the upper half.
func (s *Supervisor) composeNetworks(n *node) []composeNetwork {
	networks := []composeNetwork{{n.datacenter.Name, n.address}}
	for _, dc := range s.ordered() {
		if dc.Name != n.datacenter.Name {
			octets, own := dc.Subnet.Masked().Addr().As4(), n.address.As4()
			octets[3] = own[3] | 128
			networks = append(networks, composeNetwork{dc.Name, netip.AddrFrom4(octets)})
		}
	}
	return networks
}

// composeServices are the processes beside the node's agent.
func (s *Supervisor) composeServices(n *node) []composeService {
	var services []composeService
	add := func(spec process.Spec, image string) *composeService {
		_, kind, _ := strings.Cut(spec.Name, "/")
		services = append(services, composeService{
			Name: n.node.Name + "-" + kind, Kind: kind, Image: image, Path: spec.Path, Args: spec.Args, Env: composeEnvironment(spec.Env),
		})
		return &services[len(services)-1]
	}
	if n.node.Runs(datacenters.Mongo) {
		add(s.planner.mongod(n.place), "mongo").SharesPIDs = true
	}
	for _, spec := range s.planner.services(n.place) {
		service := add(spec, "sluice")
		service.Health = "http://" + n.ops(service.Kind) + "/healthz"
		if service.Kind == processMongoAgent {
			service.SharesPIDs, service.After = true, []string{n.node.Name + "-" + processMongod}
		}
	}
	return services
}

// composeEnvironment leaves the paths of this machine to the images.
func composeEnvironment(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(entry string) bool { return !strings.HasPrefix(entry, "GO") })
}
