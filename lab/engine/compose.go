package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"sync"
)

// Compose names the engine whose nodes are containers.
const Compose Kind = "compose"

// errDocker is why a container's process can do little to its node.
var errDocker = errors.New("nodes are containers, which Docker starts, stops and connects")

// composeEngine describes machines that Docker makes. It lives in a process of one
// of the nodes, and reaches that one alone.
type composeEngine struct {
	mu          sync.Mutex
	datacenters map[string]bool
}

// OpenCompose returns the engine whose nodes are containers. It makes nothing: it
// says where a node is, and dials from the container of the calling process.
func OpenCompose() Engine { return &composeEngine{datacenters: map[string]bool{}} }

func (e *composeEngine) Kind() Kind       { return Compose }
func (e *composeEngine) Segmented() bool  { return true }
func (e *composeEngine) Limits() []string { return nil }
func (e *composeEngine) Close() error     { return nil }

func (e *composeEngine) AddDatacenter(name string, _ netip.Prefix) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.datacenters[name] = true
	return nil
}

func (e *composeEngine) RemoveDatacenter(name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.datacenters, name)
	return nil
}

func (e *composeEngine) AddNode(datacenter string, spec NodeSpec) (Node, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.datacenters[datacenter] {
		return nil, fmt.Errorf("add node %s: no datacenter %q", spec.Name, datacenter)
	}
	return composeNode{name: spec.Name, address: spec.Address.Addr()}, nil
}

// composeNode is a container and those that share its network namespace.
type composeNode struct {
	name    string
	address netip.Addr
}

func (n composeNode) Name() string         { return n.name }
func (n composeNode) Address() netip.Addr  { return n.address }
func (n composeNode) Loopback() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }
func (n composeNode) IsCut() Direction     { return NoDirection }

func (n composeNode) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(ctx, network, address)
}

func (n composeNode) Start(*exec.Cmd) error                { return errDocker }
func (n composeNode) Cut(context.Context, Direction) error { return errDocker }
func (n composeNode) Heal(context.Context) error           { return errDocker }

func (n composeNode) Capture(context.Context, io.Writer) error { return errDocker }
