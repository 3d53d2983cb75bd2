package datacenters

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclparse"
)

// maxFile is the size in bytes above which a file is not a topology but a
// mistake. It also bounds how deep the parser can recurse.
const maxFile = 64 << 10

// marks remembers where each attribute of a block was written, by the
// attribute's name, so that a message about a value points at its line.
type marks map[string]Position

// at returns the attribute's position, else that of the block.
func (m marks) at(attribute string, block Position) Position {
	if p, ok := m[attribute]; ok {
		return p
	}
	return block
}

// The schema of a file. Every attribute is optional to the decoder: a missing
// one is reported by this package, together with everything else that is wrong.
type (
	fileSchema struct {
		Datacenters []datacenterSchema `hcl:"datacenter,block"`
	}
	datacenterSchema struct {
		Name            string       `hcl:"name,label"`
		At              hcl.Range    `hcl:",def_range"`
		Primary         bool         `hcl:"primary,optional"`
		PrimaryRange    hcl.Range    `hcl:"primary,attr_range"`
		Subnet          string       `hcl:"subnet,optional"`
		SubnetRange     hcl.Range    `hcl:"subnet,attr_range"`
		ReplicaSet      string       `hcl:"replica_set,optional"`
		ReplicaSetRange hcl.Range    `hcl:"replica_set,attr_range"`
		Ports           *portSchema  `hcl:"host_ports,block"`
		Nodes           []nodeSchema `hcl:"node,block"`
	}
	portSchema struct {
		At           hcl.Range `hcl:",def_range"`
		Gateway      int       `hcl:"gateway,optional"`
		GatewayRange hcl.Range `hcl:"gateway,attr_range"`
		Admin        int       `hcl:"admin,optional"`
		AdminRange   hcl.Range `hcl:"admin,attr_range"`
		Consul       int       `hcl:"consul,optional"`
		ConsulRange  hcl.Range `hcl:"consul,attr_range"`
	}
	nodeSchema struct {
		Name          string    `hcl:"name,label"`
		At            hcl.Range `hcl:",def_range"`
		Address       string    `hcl:"address,optional"`
		AddressRange  hcl.Range `hcl:"address,attr_range"`
		Server        bool      `hcl:"server,optional"`
		Services      []string  `hcl:"services,optional"`
		ServicesRange hcl.Range `hcl:"services,attr_range"`
		Member        string    `hcl:"member,optional"`
		MemberRange   hcl.Range `hcl:"member,attr_range"`
	}
)

// Load reads the topology files at paths, as they are, and validates them as one
// topology. The error is Problems when the content is wrong: everything that was
// found, each with its file and line.
func Load(paths ...string) (Topology, error) {
	if len(paths) == 0 {
		return Topology{}, fmt.Errorf("load topology: no file given")
	}
	var topology Topology
	var problems Problems
	for _, path := range paths {
		source, err := read(path)
		if err != nil {
			return Topology{}, fmt.Errorf("load topology: %w", err)
		}
		found, wrong := parse(path, source)
		topology.Datacenters = append(topology.Datacenters, found...)
		problems = append(problems, wrong...)
	}
	problems = append(problems, topology.check()...)
	if err := problems.err(); err != nil {
		return Topology{}, err
	}
	return topology, nil
}

func read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	source, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(source) > maxFile {
		return nil, fmt.Errorf("read %s: larger than %d bytes, not a topology file", path, maxFile)
	}
	return source, nil
}

// parse reads one file. What it returns beside problems is as much as could be
// read, so that the checks can go on.
func parse(name string, source []byte) ([]Datacenter, Problems) {
	file, diagnostics := hclparse.NewParser().ParseHCL(source, name)
	if diagnostics.HasErrors() {
		return nil, fromDiagnostics(diagnostics)
	}
	var schema fileSchema
	problems := fromDiagnostics(gohcl.DecodeBody(file.Body, nil, &schema))
	if len(schema.Datacenters) == 0 && len(problems) == 0 {
		problems = append(problems, Problem{
			Position: Position{File: name, Line: 1},
			What:     "the file holds no datacenter",
			Fix:      `write a block: datacenter "dc1" { ... }`,
		})
	}
	datacenters := make([]Datacenter, len(schema.Datacenters))
	for i, s := range schema.Datacenters {
		dc, wrong := s.datacenter()
		datacenters[i] = dc
		problems = append(problems, wrong...)
	}
	return datacenters, problems
}

func (s datacenterSchema) datacenter() (Datacenter, Problems) {
	at := position(s.At)
	dc := Datacenter{
		Name: s.Name, Primary: s.Primary, ReplicaSet: s.ReplicaSet, Position: at,
	}
	spans := []span{{"primary", s.PrimaryRange}, {"subnet", s.SubnetRange}, {"replica_set", s.ReplicaSetRange}}
	if p := s.Ports; p != nil {
		dc.Ports = HostPorts{Gateway: p.Gateway, Admin: p.Admin, Consul: p.Consul}
		spans = append(spans, span{"host_ports", p.At},
			span{"gateway", p.GatewayRange}, span{"admin", p.AdminRange}, span{"consul", p.ConsulRange})
	}
	dc.marks = mark(spans...)
	var problems Problems
	if s.Subnet != "" {
		subnet, err := netip.ParsePrefix(s.Subnet)
		if err != nil {
			problems = append(problems, Problem{
				dc.marks.at("subnet", at), fmt.Sprintf("subnet %q is not a network", s.Subnet), "write it as 198.18.1.0/24",
			})
		}
		dc.Subnet = subnet
	}
	for _, n := range s.Nodes {
		node, wrong := n.node(s.Name)
		dc.Nodes = append(dc.Nodes, node)
		problems = append(problems, wrong...)
	}
	return dc, problems
}

func (s nodeSchema) node(datacenter string) (Node, Problems) {
	at := position(s.At)
	node := Node{
		Name: s.Name, Datacenter: datacenter, Server: s.Server, Services: s.Services, Position: at,
		marks: mark(span{"address", s.AddressRange}, span{"services", s.ServicesRange}, span{"member", s.MemberRange}),
	}
	var problems Problems
	if s.Address != "" {
		address, err := netip.ParseAddr(s.Address)
		if err != nil {
			problems = append(problems, Problem{
				node.marks.at("address", at), fmt.Sprintf("address %q is not an IP address", s.Address), "write it as 198.18.1.11",
			})
		}
		node.Address = address
	}
	if s.Member != "" {
		member, err := netip.ParseAddrPort(s.Member)
		if err != nil {
			problems = append(problems, Problem{
				node.marks.at("member", at), fmt.Sprintf("member %q is not an address and port", s.Member), "write it as 127.0.10.1:27017",
			})
		}
		node.Member = member
	}
	return node, problems
}

// span is an attribute and where it was written; an empty range means that it
// was not.
type span struct {
	attribute string
	written   hcl.Range
}

func mark(spans ...span) marks {
	m := marks{}
	for _, s := range spans {
		if s.written.Filename != "" {
			m[s.attribute] = position(s.written)
		}
	}
	return m
}

func position(r hcl.Range) Position { return Position{File: r.Filename, Line: r.Start.Line} }

func fromDiagnostics(diagnostics hcl.Diagnostics) Problems {
	var problems Problems
	for _, d := range diagnostics {
		if d.Severity != hcl.DiagError {
			continue
		}
		problem := Problem{What: lowerFirst(d.Summary), Fix: oneLine(d.Detail)}
		if d.Subject != nil {
			problem.Position = position(*d.Subject)
		}
		problems = append(problems, problem)
	}
	return problems
}

func lowerFirst(text string) string {
	if text == "" {
		return text
	}
	return strings.ToLower(text[:1]) + text[1:]
}

func oneLine(text string) string {
	return strings.TrimSuffix(strings.Join(strings.Fields(text), " "), ".")
}
