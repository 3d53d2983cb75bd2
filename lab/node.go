package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/lab/clock"
	"sluice/lab/disk"
	"sluice/lab/engine"
	"sluice/lab/process"
)

// stopGrace is how long a process has between SIGTERM and SIGKILL.
const stopGrace = 8 * time.Second

// node is one machine of the lab, with the processes that run on it.
type node struct {
	place
	machine engine.Node
	// disk is that of the node's mongod; nil on a node that runs none.
	disk *disk.Disk
	// clock is that of the node's mongod; nil on a node that runs none.
	clock *clock.Clock

	mu        sync.Mutex
	processes map[string]*process.Process
	order     []string
}

// start starts a process of the plan on the node.
func (n *node) start(ctx context.Context, spec process.Spec) error {
	_, name, _ := strings.Cut(spec.Name, "/")
	var starter process.Starter = n.machine
	if name == processMongod && n.disk != nil {
		starter = n.disk
	}
	started, err := process.Start(ctx, starter, spec)
	if err != nil {
		return fmt.Errorf("start %s: %w", spec.Name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.processes[name] = started
	n.order = append(n.order, name)
	return nil
}

// process returns a process by name, or nil.
func (n *node) process(name string) *process.Process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.processes[name]
}

// names returns the processes in the order in which they were started.
func (n *node) names() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.order)
}

// stop ends the node's processes, newest first, so that each can still reach
// what it depends on while it says goodbye.
func (n *node) stop(ctx context.Context) error {
	names := n.names()
	slices.Reverse(names)
	var failed []string
	for _, name := range names {
		p := n.process(name)
		if !p.State().Running {
			continue
		}
		if err := p.Stop(ctx, stopGrace); err != nil {
			failed = append(failed, fmt.Sprintf("%s/%s: %v", n.node.Name, name, err))
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("stop %s", strings.Join(failed, "; "))
	}
	return nil
}

// dialConsul reaches the HTTP API of the node's agent, from inside the node. It
// takes the place of a dialer; there is only one place to go.
func (n *node) dialConsul(ctx context.Context, _, _ string) (net.Conn, error) {
	if n.socket != "" {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", n.socket)
	}
	return n.machine.DialContext(ctx, "tcp", n.consulAddress())
}

// dataDirs makes the folders that the node's processes write to.
func (n *node) dataDirs(layout Layout) error {
	dirs := []string{
		layout.Data(n.node.Name, processConsul), layout.Data(n.node.Name, processMongod),
		filepath.Dir(layout.Log(n.node.Name, processConsul)),
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make the folders of %s: %w", n.node.Name, err)
		}
	}
	return nil
}
