package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"

	"sluice/lab/control"
)

// Labels that Compose puts on its containers.
const (
	composeProjectLabel = "com.docker.compose.project"
	composeServiceLabel = "com.docker.compose.service"
	composeNetworkLabel = "com.docker.compose.network"
)

// ComposeLab is a lab whose nodes are containers, as the host sees it. It acts by the
// docker command. Its methods may be called by several goroutines at once.
type ComposeLab struct {
	supervisor *Supervisor
	project    string
	// faults are in a file of the operator's volume: they end with the lab, and everybody
	// who acts on it reads the same.
	faults  faultBook
	clients composeClients
}

// OpenComposeLab finds the running lab: that of COMPOSE_PROJECT_NAME, or the only
// one.
func OpenComposeLab(ctx context.Context, topology []string) (*ComposeLab, error) {
	s, err := composeSupervisor(topology, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	project := os.Getenv("COMPOSE_PROJECT_NAME")
	if project == "" {
		out, err := docker(ctx, "ps", "--filter", "label="+composeServiceLabel+"="+composeOperator, "--format", `{{.Label "`+composeProjectLabel+`"}}`)
		if err != nil {
			return nil, err
		}
		projects := strings.Fields(string(out))
		switch len(projects) {
		case 0:
			return nil, fail(control.ExitUsage, "docker compose up -d", "no lab is running in containers")
		case 1:
			project = projects[0]
		default:
			return nil, fail(control.ExitUsage, "set COMPOSE_PROJECT_NAME", "several labs are running in containers: %s", strings.Join(projects, ", "))
		}
	}
	lab := &ComposeLab{supervisor: s, project: project}
	lab.faults.write = lab.writeFaults
	return lab, nil
}

// docker runs a docker command and returns its standard output.
func docker(ctx context.Context, args ...string) ([]byte, error) {
	return dockerWith(ctx, nil, args...)
}

// dockerWith is docker with a standard input.
func dockerWith(ctx context.Context, in []byte, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, "docker", args...)
	var out, said bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(in), &out, &said
	if err := command.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fail(control.ExitMissing, "install Docker", "docker is not on PATH")
		}
		return nil, fmt.Errorf("docker %s: %w: %s", args[0], err, strings.TrimSpace(said.String()))
	}
	return out.Bytes(), nil
}

// ComposeContainer is one container of a lab.
type ComposeContainer struct {
	// Node and Process are empty for containers that are no process of a node.
	Node      string `json:"node,omitempty"`
	Process   string `json:"process,omitempty"`
	Service   string `json:"service"`
	Container string `json:"container"`
	ID        string `json:"id"`
	// State and Status are Docker's: running, exited; for how long and how well.
	State  string `json:"state"`
	Status string `json:"status"`
}

// Containers lists the lab's containers, nodes in the order of the datacenters.
func (c *ComposeLab) Containers(ctx context.Context) ([]ComposeContainer, error) {
	out, err := docker(ctx, "ps", "-a", "--filter", "label="+composeProjectLabel+"="+c.project, "--format",
		`{"service":{{json (.Label "`+composeServiceLabel+`")}},"container":{{json .Names}},"id":{{json .ID}},"state":{{json .State}},"status":{{json .Status}}}`)
	if err != nil {
		return nil, err
	}
	byService := map[string]ComposeContainer{}
	for line := range bytes.Lines(out) {
		var container ComposeContainer
		if err := json.Unmarshal(line, &container); err != nil {
			return nil, fmt.Errorf("read what docker lists: %w", err)
		}
		byService[container.Service] = container
	}
	var listed []ComposeContainer
	for _, n := range c.supervisor.all() {
		for _, process := range c.supervisor.composeProcesses(n) {
			service := composeServiceName(n.node.Name, process)
			container, ok := byService[service]
			if !ok {
				continue
			}
			container.Node, container.Process = n.node.Name, process
			listed = append(listed, container)
		}
	}
	return listed, nil
}

// composeProcesses are a node's processes in the order of their start.
func (s *Supervisor) composeProcesses(n *node) []string {
	processes := []string{processConsul}
	for _, service := range s.composeServices(n) {
		processes = append(processes, service.Kind)
	}
	return processes
}

// composeServiceName is the service of docker-compose.yml that is a node's process.
func composeServiceName(node, process string) string {
	if process == processConsul {
		return node
	}
	return node + "-" + process
}

// container finds the container of a service.
func (c *ComposeLab) container(ctx context.Context, service string) (string, error) {
	out, err := docker(ctx, "ps", "-a", "-q", "--filter", "label="+composeProjectLabel+"="+c.project, "--filter", "label="+composeServiceLabel+"="+service)
	if err != nil {
		return "", err
	}
	ids := strings.Fields(string(out))
	if len(ids) == 0 {
		return "", fail(control.ExitUsage, "docker compose up -d", "%s has no container", service)
	}
	return ids[0], nil
}

// network finds a network by its name in docker-compose.yml.
func (c *ComposeLab) network(ctx context.Context, name string) (string, error) {
	out, err := docker(ctx, "network", "ls", "-q", "--filter", "label="+composeProjectLabel+"="+c.project, "--filter", "label="+composeNetworkLabel+"="+name)
	if err != nil {
		return "", err
	}
	ids := strings.Fields(string(out))
	if len(ids) == 0 {
		return "", fail(control.ExitUsage, "docker compose up -d", "there is no network %s", name)
	}
	return ids[0], nil
}

// operator runs a command of sluice as Sluice does, and returns its standard output.
func (c *ComposeLab) operator(ctx context.Context, in []byte, args ...string) ([]byte, error) {
	id, err := c.container(ctx, composeOperator)
	if err != nil {
		return nil, err
	}
	return dockerWith(ctx, in, append([]string{"exec", "-i", id, "/bin/sluice", "--state", composeState}, args...)...)
}

// Sluice runs a command of sluice beside the primary datacenter's Consul, as the
// operator, on the standard files of this process, and returns its exit code.
func (c *ComposeLab) Sluice(ctx context.Context, files [3]*os.File, args ...string) (int, error) {
	id, err := c.container(ctx, composeOperator)
	if err != nil {
		return 0, err
	}
	command := exec.CommandContext(ctx, "docker", append([]string{"exec", id, "/bin/sluice", "--state", composeState}, args...)...)
	command.Stdin, command.Stdout, command.Stderr = files[0], files[1], files[2]
	err = command.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return ended.ExitCode(), nil
	}
	return 0, err
}
