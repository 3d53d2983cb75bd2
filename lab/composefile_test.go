package lab_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"sluice/datacenters"
	"sluice/lab"
)

// composeFile is what these tests read of docker-compose.yml.
type composeFile struct {
	Services map[string]composeContainer `yaml:"services"`
	Networks map[string]struct {
		IPAM struct {
			Config []struct{ Subnet string }
		}
	}
}

// composeContainer is one service of the file.
type composeContainer struct {
	Image       string
	User        string
	Command     []string
	Environment []string
	Ports       []string
	Profiles    []string
	Volumes     []string
	MemLimit    string   `yaml:"mem_limit"`
	NetworkMode string   `yaml:"network_mode"`
	CapDrop     []string `yaml:"cap_drop"`
	Networks    map[string]struct {
		Address string `yaml:"ipv4_address"`
	}
}

func readCompose(t *testing.T) ([]byte, composeFile) {
	t.Helper()
	content, err := os.ReadFile("../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file composeFile
	if err := yaml.Unmarshal(content, &file); err != nil {
		t.Fatal(err)
	}
	return content, file
}

func topologyOfTheProject(t *testing.T) datacenters.Topology {
	t.Helper()
	topology, err := datacenters.Load(lab.DefaultTopology("..")...)
	if err != nil {
		t.Fatal(err)
	}
	return topology
}

func TestDockerComposeIsWhatTheDatacenterFilesMake(t *testing.T) {
	want, err := lab.ComposeFile(lab.DefaultTopology(".."))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := readCompose(t); !bytes.Equal(got, want) {
		t.Error("docker-compose.yml is not what the datacenter files and the program make; run: bin/sluice compose file > docker-compose.yml")
	}
}

// The template could leave things out; this reads the file as Docker does.
func TestDockerComposeHasTheNamesAddressesPortsAndServicesOfTheDatacenters(t *testing.T) {
	_, file := readCompose(t)
	for _, dc := range topologyOfTheProject(t).Datacenters {
		if config := file.Networks[dc.Name].IPAM.Config; len(config) != 1 || config[0].Subnet != dc.Subnet.String() {
			t.Errorf("network %s is %v, want %s", dc.Name, config, dc.Subnet)
		}
		var ports []string
		for _, node := range dc.Nodes {
			agent, ok := file.Services[node.Name]
			if !ok || agent.Networks[dc.Name].Address != node.Address.String() {
				t.Errorf("node %s has address %q, want %s", node.Name, agent.Networks[dc.Name].Address, node.Address)
			}
			if inPrimary := len(agent.Profiles) == 0; inPrimary != dc.Primary {
				t.Errorf("node %s has profiles %v", node.Name, agent.Profiles)
			}
			ports = append(ports, agent.Ports...)
			for _, process := range processesOf(node) {
				if service := file.Services[node.Name+"-"+process]; service.NetworkMode != "service:"+node.Name {
					t.Errorf("%s on %s does not share the node's network: %q", process, node.Name, service.NetworkMode)
				}
			}
			if node.Member.IsValid() && !slices.Contains(file.Services[node.Name+"-mongod"].Command, node.Member.Addr().String()) {
				t.Errorf("mongod on %s does not listen on %s", node.Name, node.Member.Addr())
			}
		}
		want := []string{
			fmt.Sprintf("127.0.0.1:%d:8500", dc.Ports.Consul), fmt.Sprintf("127.0.0.1:%d:9999", dc.Ports.Gateway), fmt.Sprintf("127.0.0.1:%d:9998", dc.Ports.Admin),
		}
		slices.Sort(ports)
		slices.Sort(want)
		if !slices.Equal(ports, want) {
			t.Errorf("%s is reached at %v, want %v", dc.Name, ports, want)
		}
	}
}

func processesOf(node datacenters.Node) []string {
	var processes []string
	for _, service := range node.Services {
		if service == datacenters.Mongo {
			processes = append(processes, "mongod", "mongo-agent")
			continue
		}
		processes = append(processes, service)
	}
	return processes
}

func TestEveryContainerIsBoundedAndHasNoPrivilegeAndNoSecretInItsEnvironment(t *testing.T) {
	_, file := readCompose(t)
	for name, service := range file.Services {
		if service.User != "65532:65532" || !slices.Equal(service.CapDrop, []string{"ALL"}) || service.MemLimit == "" {
			t.Errorf("%s runs as %q, drops %v and may use %q of memory", name, service.User, service.CapDrop, service.MemLimit)
		}
		if repository, tag, _ := strings.Cut(service.Image, ":"); tag == "" || tag == "latest" {
			t.Errorf("%s runs an image of %s without a pinned tag", name, repository)
		}
		for _, entry := range service.Environment {
			if !strings.HasPrefix(entry, "GO") {
				t.Errorf("%s has %s in its environment", name, entry)
			}
		}
	}
}

// Whoever takes over a node has what lies in its volume.
func TestANodeSeesItsOwnVolumeAndNothingElse(t *testing.T) {
	_, file := readCompose(t)
	for _, dc := range topologyOfTheProject(t).Datacenters {
		for _, node := range dc.Nodes {
			for _, name := range append(processesOf(node), "") {
				container := strings.TrimSuffix(node.Name+"-"+name, "-")
				if volumes := file.Services[container].Volumes; !slices.Equal(volumes, []string{node.Name + ":/sluice"}) {
					t.Errorf("%s mounts %v", container, volumes)
				}
			}
		}
	}
}

func TestAnotherDatacenterFileMakesAnotherDockerCompose(t *testing.T) {
	dir := t.TempDir()
	content, err := os.ReadFile("../datacenters/dc1.hcl")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "dc1.hcl")
	if err := os.WriteFile(path, bytes.Replace(content, []byte(`"198.18.1.12"`), []byte(`"198.18.1.13"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	made, err := lab.ComposeFile([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(made, []byte("ipv4_address: 198.18.1.13")) || bytes.Contains(made, []byte("198.18.1.12")) {
		t.Error("an address that changed in the datacenter file did not change in docker-compose.yml")
	}
}
