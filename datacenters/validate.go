package datacenters

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// maxName is the longest name of a node or a datacenter: both are DNS labels.
const maxName = 63

// Validate checks the topology as a whole and returns Problems: everything that
// is wrong, not just the first. It checks that
//
//   - names of datacenters and nodes are DNS labels and unique,
//   - there is exactly one primary datacenter, and a server in each,
//   - subnets are IPv4, do not overlap, and hold their nodes' addresses, none of
//     which is the network's, the broadcast or the router's,
//   - services are known, and a node has a member address if and only if it runs
//     mongo; member addresses are unique loopback addresses, not 127.0.0.1,
//   - one replica set holds all members,
//   - host ports are in range and distinct.
func (t Topology) Validate() error { return t.check().err() }

func (t Topology) check() Problems {
	var c checker
	c.datacenters(t.Datacenters)
	for _, dc := range t.Datacenters {
		c.datacenter(dc)
		for _, node := range dc.Nodes {
			c.node(dc, node)
		}
	}
	c.unique(t)
	return c.problems
}

// checker collects problems.
type checker struct {
	problems Problems
}

func (c *checker) add(at Position, fix, format string, args ...any) {
	c.problems = append(c.problems, Problem{Position: at, What: fmt.Sprintf(format, args...), Fix: fix})
}

// datacenters checks what holds between datacenters.
func (c *checker) datacenters(all []Datacenter) {
	var primaries []Datacenter
	for i, dc := range all {
		if dc.Primary {
			primaries = append(primaries, dc)
		}
		for _, other := range all[:i] {
			if dc.Subnet.IsValid() && other.Subnet.IsValid() && dc.Subnet.Overlaps(other.Subnet) {
				c.add(dc.marks.at("subnet", dc.Position), "give each datacenter a subnet of its own",
					"subnet %s of %s overlaps %s of %s", dc.Subnet, dc.Name, other.Subnet, other.Name)
			}
			if dc.ReplicaSet != "" && other.ReplicaSet != "" && dc.ReplicaSet != other.ReplicaSet {
				c.add(dc.marks.at("replica_set", dc.Position), "use one name: a single replica set spans the datacenters",
					"replica set %q of %s differs from %q of %s", dc.ReplicaSet, dc.Name, other.ReplicaSet, other.Name)
			}
		}
	}
	if len(primaries) == 0 && len(all) > 0 {
		c.add(all[0].Position, "set primary = true in one datacenter, and load its file too", "no datacenter is the primary")
	}
	for i, dc := range primaries {
		if i > 0 {
			c.add(dc.marks.at("primary", dc.Position), "set primary = true in one datacenter only",
				"datacenter %s is a second primary, beside %s", dc.Name, primaries[0].Name)
		}
	}
}

// datacenter checks what one datacenter says of itself.
func (c *checker) datacenter(dc Datacenter) {
	c.name("datacenter", dc.Name, dc.Position)
	if _, written := dc.marks["subnet"]; !dc.Subnet.IsValid() && !written {
		c.add(dc.Position, `add subnet = "198.18.1.0/24"`, "datacenter %s has no subnet", dc.Name)
	}
	if dc.Subnet.IsValid() {
		c.subnet(dc)
	}
	c.ports(dc)
	if len(dc.Servers()) == 0 {
		c.add(dc.Position, "set server = true on one of its nodes", "datacenter %s has no Consul server", dc.Name)
	}
	if dc.ReplicaSet == "" && slices.ContainsFunc(dc.Nodes, func(n Node) bool { return n.Runs(Mongo) }) {
		c.add(dc.marks.at("replica_set", dc.Position), `add replica_set = "consuldemo"`,
			"datacenter %s runs mongo but names no replica set", dc.Name)
	}
}

func (c *checker) subnet(dc Datacenter) {
	at := dc.marks.at("subnet", dc.Position)
	switch {
	case !dc.Subnet.Addr().Is4():
		c.add(at, "write it as 198.18.1.0/24", "subnet %s is not IPv4", dc.Subnet)
	case dc.Subnet != dc.Subnet.Masked():
		c.add(at, fmt.Sprintf("write %s", dc.Subnet.Masked()), "subnet %s has host bits set", dc.Subnet)
	case dc.Subnet.Bits() > 29 || dc.Subnet.Bits() < 8:
		c.add(at, "use /8 to /29", "subnet %s is of no useful size", dc.Subnet)
	case dc.Subnet.Addr().IsLoopback() || dc.Subnet.Overlaps(netip.MustParsePrefix("127.0.0.0/8")):
		c.add(at, "use 198.18.0.0/15, which is set aside for labs", "subnet %s is loopback", dc.Subnet)
	}
}

func (c *checker) ports(dc Datacenter) {
	if _, written := dc.marks["host_ports"]; !written && dc.Ports == (HostPorts{}) {
		c.add(dc.Position, "add host_ports { gateway = 9999, admin = 9998, consul = 8500 }, one per line",
			"datacenter %s has no host ports", dc.Name)
		return
	}
	for _, port := range dc.Ports.named() {
		if port.number < 1 || port.number > 65535 {
			c.add(dc.marks.at(port.name, dc.marks.at("host_ports", dc.Position)), "use a number from 1 to 65535",
				"host port %s = %d is out of range", port.name, port.number)
		}
	}
}

// node checks what one node says of itself.
func (c *checker) node(dc Datacenter, n Node) {
	c.name("node", n.Name, n.Position)
	at := n.marks.at("address", n.Position)
	_, written := n.marks["address"]
	switch {
	case !n.Address.IsValid() && !written:
		c.add(n.Position, fmt.Sprintf("add an address in %s", dc.Subnet), "node %s has no address", n.Name)
	case !n.Address.IsValid() || !dc.Subnet.IsValid() || !dc.Subnet.Addr().Is4():
		// What is missing here has been reported where it was read.
	case !dc.Subnet.Contains(n.Address):
		c.add(at, "choose an address inside the subnet", "address %s of %s is not in %s", n.Address, n.Name, dc.Subnet)
	case n.Address == dc.Subnet.Masked().Addr():
		c.add(at, "choose another address", "address %s of %s is the network's own", n.Address, n.Name)
	case n.Address == broadcast(dc.Subnet):
		c.add(at, "choose another address", "address %s of %s is the broadcast address", n.Address, n.Name)
	case n.Address == dc.Router():
		c.add(at, "choose another address", "address %s of %s belongs to the router", n.Address, n.Name)
	}
	c.services(n)
	c.member(n)
}

func (c *checker) services(n Node) {
	at := n.marks.at("services", n.Position)
	for i, service := range n.Services {
		if !slices.Contains(known(), service) {
			c.add(at, "use one of "+strings.Join(known(), ", "), "node %s runs an unknown service %q", n.Name, service)
		}
		if slices.Contains(n.Services[:i], service) {
			c.add(at, "name it once", "node %s names the service %q twice", n.Name, service)
		}
	}
}

func (c *checker) member(n Node) {
	at := n.marks.at("member", n.Position)
	_, written := n.marks["member"]
	switch {
	case n.Runs(Mongo) && !n.Member.IsValid() && !written:
		c.add(n.Position, `add member = "127.0.10.1:27017", with an address of its own`,
			"node %s runs mongo but has no member address", n.Name)
	case !n.Member.IsValid():
	case !n.Runs(Mongo):
		c.add(at, `add "mongo" to its services, or remove the member`, "node %s has a member address but runs no mongo", n.Name)
	case !n.Member.Addr().Is4() || !n.Member.Addr().IsLoopback():
		c.add(at, "use an address such as 127.0.10.1", "member %s of %s is not in 127.0.0.0/8", n.Member, n.Name)
	case n.Member.Addr() == netip.AddrFrom4([4]byte{127, 0, 0, 1}):
		c.add(at, "use an address such as 127.0.10.1, which every node can tell from its own 127.0.0.1",
			"member %s of %s is 127.0.0.1", n.Member, n.Name)
	case n.Member.Port() == 0:
		c.add(at, "add the port, for example :27017", "member %s of %s has port 0", n.Member, n.Name)
	}
}

func (c *checker) name(kind, name string, at Position) {
	if !isLabel(name) {
		c.add(at, "use lower-case letters, digits and inner hyphens, at most 63", "%s name %q is not a DNS label", kind, name)
	}
}

// unique checks everything of which there may be only one in a topology.
func (c *checker) unique(t Topology) {
	names, nodes := first{}, first{}
	addresses, members, ports := first{}, first{}, first{}
	for _, dc := range t.Datacenters {
		c.once(names, "datacenter name", dc.Name, dc.Name, dc.Position)
		for _, port := range dc.Ports.named() {
			if port.number != 0 {
				c.once(ports, "host port", fmt.Sprint(port.number), dc.Name+"/"+port.name, dc.marks.at(port.name, dc.Position))
			}
		}
		for _, n := range dc.Nodes {
			c.once(nodes, "node name", n.Name, n.Name, n.Position)
			if n.Address.IsValid() {
				c.once(addresses, "address", n.Address.String(), n.Name, n.marks.at("address", n.Position))
			}
			if n.Member.IsValid() {
				c.once(members, "member", n.Member.String(), n.Name, n.marks.at("member", n.Position))
			}
		}
	}
}

// first maps a value to who used it first, and where.
type first map[string]struct {
	owner string
	at    Position
}

func (c *checker) once(seen first, kind, value, owner string, at Position) {
	if before, used := seen[value]; used {
		where := ""
		if before.at != (Position{}) {
			where = " at " + before.at.String()
		}
		c.add(at, "choose another", "%s %s of %s is used by %s%s", kind, value, owner, before.owner, where)
		return
	}
	seen[value] = struct {
		owner string
		at    Position
	}{owner, at}
}

type namedPort struct {
	name   string
	number int
}

func (p HostPorts) named() []namedPort {
	return []namedPort{{"gateway", p.Gateway}, {"admin", p.Admin}, {"consul", p.Consul}}
}

func known() []string { return []string{Gateway, Web, Mongo} }

// broadcast returns the last address of an IPv4 prefix.
func broadcast(p netip.Prefix) netip.Addr {
	address := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		address[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(address)
}

func isLabel(name string) bool {
	if name == "" || len(name) > maxName || name[0] == '-' || name[len(name)-1] == '-' {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
