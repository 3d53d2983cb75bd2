package datacenters

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// good is the smallest topology that uses everything. Its line numbers are those
// that the tests below expect.
const good = `datacenter "dc1" {
  primary     = true
  subnet      = "198.18.1.0/24"
  replica_set = "consuldemo"
  host_ports {
    gateway = 9999
    admin   = 9998
    consul  = 8500
  }
  node "consul-1" {
    address = "198.18.1.2"
    server  = true
  }
  node "web-1" {
    address  = "198.18.1.11"
    services = ["web"]
  }
  node "mongo-1" {
    address  = "198.18.1.21"
    services = ["mongo"]
    member   = "127.0.10.1:27017"
  }
}
`

const second = `datacenter "dc2" {
  subnet = "198.18.2.0/24"
  host_ports {
    gateway = 9989
    admin   = 9988
    consul  = 8501
  }
  node "consul-2" {
    address = "198.18.2.2"
    server  = true
  }
}
`

func TestTheLabHasTheNodesThatTheDesignNames(t *testing.T) {
	topology, err := Load("dc1.hcl")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"consul-1": "198.18.1.2", "gateway-1": "198.18.1.31", "web-1": "198.18.1.11", "web-2": "198.18.1.12",
		"mongo-1": "198.18.1.21", "mongo-2": "198.18.1.22", "mongo-3": "198.18.1.23",
	}
	dc, ok := topology.Primary()
	if !ok || dc.Name != "dc1" || dc.Ports != (HostPorts{9999, 9998, 8500}) || dc.ReplicaSet != "consuldemo" {
		t.Errorf("primary datacenter is %+v", dc)
	}
	for _, node := range dc.Nodes {
		if got := node.Address.String(); got != want[node.Name] {
			t.Errorf("%s has address %s, want %q", node.Name, got, want[node.Name])
		}
		delete(want, node.Name)
	}
	if len(want) != 0 {
		t.Errorf("missing nodes: %v", want)
	}
	if got := dc.Router(); got != netip.MustParseAddr("198.18.1.1") {
		t.Errorf("router is %s", got)
	}
	if got := names(dc.Servers()); !slices.Equal(got, []string{"consul-1"}) {
		t.Errorf("servers are %v", got)
	}
	for i, node := range running(dc, Mongo) {
		want := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 10, byte(i + 1)}), 27017)
		if node.Member != want {
			t.Errorf("%s has member %s, want %s", node.Name, node.Member, want)
		}
	}
}

func TestTwoDatacentersLoadAsOneTopology(t *testing.T) {
	topology, err := Load("dc1.hcl", "dc2.hcl")
	if err != nil {
		t.Fatal(err)
	}
	dc1, _ := topology.Primary()
	if got := names(running(dc1, Web)); !slices.Equal(got, []string{"web-1", "web-2"}) {
		t.Errorf("nodes with web in dc1 are %v", got)
	}
	dc, ok := topology.Datacenter("dc2")
	if !ok || dc.Primary || len(running(dc, Mongo)) != 2 || len(running(dc, Gateway)) != 1 {
		t.Fatalf("dc2 is %+v, %v", dc, ok)
	}
	if got := names(running(dc, Web)); !slices.Equal(got, []string{"web-3"}) {
		t.Errorf("nodes with web in dc2 are %v", got)
	}
	i := slices.IndexFunc(dc.Nodes, func(n Node) bool { return n.Name == "mongo-4" })
	if i < 0 || dc.Nodes[i].Datacenter != "dc2" || dc.Nodes[i].Position.Line == 0 {
		t.Errorf("mongo-4 is number %d of %+v", i, dc.Nodes)
	}
	if _, ok := topology.Datacenter("dc9"); ok {
		t.Error("found a datacenter that does not exist")
	}
}

func TestEachFaultIsReportedWithFileLineAndFix(t *testing.T) {
	cases := []struct {
		name     string
		old, new string // replaced in good
		want     string // one line of the error
	}{
		{"syntax", `"web-1" {`, `"web-1" `, "one.hcl:14: invalid block definition; "},
		{"unknown attribute", `server  = true`, `servr = true`, "one.hcl:12: unsupported argument; An argument named \"servr\" is not expected here. Did you mean \"server\"?"},
		{"unknown block", `host_ports {`, `host_port {`, "one.hcl:5: unsupported block type; Blocks of type \"host_port\" are not expected here. Did you mean \"host_ports\"?"},
		{"wrong type", `gateway = 9999`, `gateway = "many"`, "one.hcl:6: unsuitable value type"},
		{"fraction of a port", `gateway = 9999`, `gateway = 99.5`, "one.hcl:6: unsuitable value type"},
		{"port out of range", `gateway = 9999`, `gateway = 65536`, "one.hcl:6: host port gateway = 65536 is out of range; use a number from 1 to 65535"},
		{"port zero", `admin   = 9998`, `admin   = 0`, "one.hcl:7: host port admin = 0 is out of range"},
		{"port missing", `    admin   = 9998`, ``, "one.hcl:5: host port admin = 0 is out of range"},
		{"port twice", `admin   = 9998`, `admin   = 9999`, "one.hcl:7: host port 9999 of dc1/admin is used by dc1/gateway at one.hcl:6"},
		{"no primary", `primary     = true`, ``, "one.hcl:1: no datacenter is the primary; set primary = true"},
		{"no subnet", `subnet      = "198.18.1.0/24"`, ``, "one.hcl:1: datacenter dc1 has no subnet"},
		{"subnet not a network", `198.18.1.0/24`, `198.18.1.0`, `one.hcl:3: subnet "198.18.1.0" is not a network`},
		{"subnet with host bits", `198.18.1.0/24`, `198.18.1.7/24`, "one.hcl:3: subnet 198.18.1.7/24 has host bits set; write 198.18.1.0/24"},
		{"subnet of IPv6", `198.18.1.0/24`, `fd00::/64`, "one.hcl:3: subnet fd00::/64 is not IPv4"},
		{"subnet too small", `198.18.1.0/24`, `198.18.1.0/31`, "one.hcl:3: subnet 198.18.1.0/31 is of no useful size"},
		{"subnet on loopback", `198.18.1.0/24`, `127.0.1.0/24`, "one.hcl:3: subnet 127.0.1.0/24 is loopback"},
		{"no server", `server  = true`, ``, "one.hcl:1: datacenter dc1 has no Consul server; set server = true"},
		{"no replica set", `replica_set = "consuldemo"`, ``, "one.hcl:1: datacenter dc1 runs mongo but names no replica set"},
		{"node without address", `    address  = "198.18.1.11"`, ``, "one.hcl:14: node web-1 has no address"},
		{"address not an address", `198.18.1.11`, `web.local`, `one.hcl:15: address "web.local" is not an IP address`},
		{"address outside", `198.18.1.11`, `198.18.2.11`, "one.hcl:15: address 198.18.2.11 of web-1 is not in 198.18.1.0/24"},
		{"address of the network", `198.18.1.11`, `198.18.1.0`, "one.hcl:15: address 198.18.1.0 of web-1 is the network's own"},
		{"address of the broadcast", `198.18.1.11`, `198.18.1.255`, "one.hcl:15: address 198.18.1.255 of web-1 is the broadcast address"},
		{"address of the router", `198.18.1.11`, `198.18.1.1`, "one.hcl:15: address 198.18.1.1 of web-1 belongs to the router"},
		{"address twice", `198.18.1.11`, `198.18.1.2`, "one.hcl:15: address 198.18.1.2 of web-1 is used by consul-1 at one.hcl:11"},
		{"node name twice", `"web-1"`, `"consul-1"`, "one.hcl:14: node name consul-1 of consul-1 is used by consul-1 at one.hcl:10"},
		{"node name not a label", `"web-1"`, `"web_1"`, `one.hcl:14: node name "web_1" is not a DNS label`},
		{"datacenter name not a label", `"dc1"`, `"DC1"`, `one.hcl:1: datacenter name "DC1" is not a DNS label`},
		{"unknown service", `["web"]`, `["wbe"]`, `one.hcl:16: node web-1 runs an unknown service "wbe"; use one of gateway, web, mongo`},
		{"service twice", `["web"]`, `["web", "web"]`, `one.hcl:16: node web-1 names the service "web" twice`},
		{"mongo without member", `    member   = "127.0.10.1:27017"`, ``, "one.hcl:18: node mongo-1 runs mongo but has no member address"},
		{"member without mongo", `["mongo"]`, `["web"]`, "one.hcl:21: node mongo-1 has a member address but runs no mongo"},
		{"member not an address", `127.0.10.1:27017`, `127.0.10.1`, `one.hcl:21: member "127.0.10.1" is not an address and port`},
		{"member not on loopback", `127.0.10.1:27017`, `198.18.1.21:27017`, "one.hcl:21: member 198.18.1.21:27017 of mongo-1 is not in 127.0.0.0/8"},
		{"member on 127.0.0.1", `127.0.10.1:27017`, `127.0.0.1:27017`, "one.hcl:21: member 127.0.0.1:27017 of mongo-1 is 127.0.0.1"},
		{"member with port zero", `127.0.10.1:27017`, `127.0.10.1:0`, "one.hcl:21: member 127.0.10.1:0 of mongo-1 has port 0"},
		{"no datacenter", good, "", "one.hcl:1: the file holds no datacenter"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			source := strings.Replace(good, c.old, c.new, 1)
			if source == good {
				t.Fatal("the case changes nothing")
			}
			problems := loadText(t, source)
			if !slices.ContainsFunc(problems, func(p Problem) bool { return strings.HasPrefix(p.String(), c.want) }) {
				t.Errorf("got:\n%s\nwant a line that starts with:\n%s", problems, c.want)
			}
			for _, p := range problems {
				if p.Position.Line == 0 || p.Fix == "" {
					t.Errorf("%s: has no line or no fix", p)
				}
			}
		})
	}
}

func TestFaultsBetweenDatacentersAreReportedAtTheSecondOne(t *testing.T) {
	cases := []struct {
		name     string
		old, new string // replaced in second
		want     string
	}{
		{"second primary", `subnet =`, "primary = true\n  subnet =", "two.hcl:2: datacenter dc2 is a second primary, beside dc1"},
		{"overlap", `198.18.2.0/24`, `198.18.0.0/16`, "two.hcl:2: subnet 198.18.0.0/16 of dc2 overlaps 198.18.1.0/24 of dc1"},
		{"datacenter name", `"dc2"`, `"dc1"`, "two.hcl:1: datacenter name dc1 of dc1 is used by dc1 at one.hcl:1"},
		{"node name", `"consul-2"`, `"consul-1"`, "two.hcl:8: node name consul-1 of consul-1 is used by consul-1 at one.hcl:10"},
		{"host port", `9989`, `9999`, "two.hcl:4: host port 9999 of dc2/gateway is used by dc1/gateway at one.hcl:6"},
		{"member", `server  = true`, "server  = true\n    services = [\"mongo\"]\n    member = \"127.0.10.1:27017\"", "two.hcl:12: member 127.0.10.1:27017 of consul-2 is used by mongo-1 at one.hcl:21"},
		{"replica set", `subnet =`, "replica_set = \"other\"\n  subnet =", `two.hcl:2: replica set "other" of dc2 differs from "consuldemo" of dc1`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			problems := loadText(t, good, strings.Replace(second, c.old, c.new, 1))
			if !slices.ContainsFunc(problems, func(p Problem) bool { return strings.HasPrefix(p.String(), c.want) }) {
				t.Errorf("got:\n%s\nwant a line that starts with:\n%s", problems, c.want)
			}
		})
	}
}

func TestAllFaultsAreReportedTogetherInTheOrderOfTheFile(t *testing.T) {
	source := strings.NewReplacer("198.18.1.11", "198.18.1.1", `["web"]`, `["wbe"]`, "9998", "0", "127.0.10.1:27017", "nonsense").Replace(good)
	problems := loadText(t, source)
	if len(problems) != 4 {
		t.Errorf("want 4 problems, got:\n%s", problems)
	}
	if !slices.IsSortedFunc(problems, func(a, b Problem) int { return a.Position.Line - b.Position.Line }) {
		t.Errorf("not in the order of the file:\n%s", problems)
	}
}

func TestAMissingOrHugeFileIsNotATopology(t *testing.T) {
	if _, err := Load(); err == nil {
		t.Error("loaded a topology from no file")
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.hcl")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	path := filepath.Join(t.TempDir(), "huge.hcl")
	if err := os.WriteFile(path, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("huge file: %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(second))
	f.Add([]byte(`datacenter "a" { subnet = "0.0.0.0/0" host_ports {} node "b" {} }`))
	f.Add([]byte(`datacenter "a" { node "b" { services = [null] member = "[::1]:1" } }`))
	f.Add([]byte(`datacenter "a" { host_ports { gateway = 1e99999 } }`))
	f.Fuzz(func(t *testing.T, source []byte) {
		if len(source) > maxFile {
			return
		}
		found, problems := parse("fuzz.hcl", source)
		topology := Topology{Datacenters: found}
		problems = append(problems, topology.check()...)
		if err := problems.err(); err == nil && len(found) == 0 {
			t.Error("nothing was read and nothing is wrong")
		}
	})
}

// loadText loads texts as one.hcl and two.hcl and returns what is wrong with them.
func loadText(t *testing.T, texts ...string) Problems {
	t.Helper()
	t.Chdir(t.TempDir())
	paths := []string{"one.hcl", "two.hcl"}[:len(texts)]
	for i, text := range texts {
		if err := os.WriteFile(paths[i], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Load(paths...)
	var problems Problems
	if !errors.As(err, &problems) {
		t.Fatalf("want Problems, got %v", err)
	}
	return problems
}

// running returns the datacenter's nodes that run service.
func running(dc Datacenter, service string) []Node {
	return slices.DeleteFunc(slices.Clone(dc.Nodes), func(n Node) bool { return !n.Runs(service) })
}

func names(nodes []Node) []string {
	var names []string
	for _, node := range nodes {
		names = append(names, node.Name)
	}
	return names
}
