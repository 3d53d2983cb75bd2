package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"sluice/lab/hostport"
)

// door is one of the host's ports into the lab. Its port is held from the lab's
// start to its end, and refuses connections while its datacenter does not run.
type door struct {
	HostPort
	socket *os.File
	mu     sync.Mutex
	close  context.CancelFunc
	served chan struct{}
}

// open begins to carry connections, until shut or the end of the lab.
func (d *door) open(s *Supervisor) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.close != nil {
		return nil
	}
	listener, err := hostport.Serve(d.socket)
	if err != nil {
		return fmt.Errorf("open %s: %w", d.Address, err)
	}
	var ctx context.Context
	ctx, d.close = context.WithCancel(s.life)
	served := make(chan struct{})
	d.served = served
	go func() {
		defer close(served)
		dial := func(ctx context.Context) (net.Conn, error) { return s.dialDoor(ctx, d.HostPort) }
		if err := hostport.Forward(ctx, listener, dial, s.log); err != nil {
			s.log.Error("a port of the host is closed", "address", d.Address, "err", err)
		}
	}()
	return nil
}

// shut ends what open began and waits for it. The port stays held.
func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.close == nil {
		return
	}
	hostport.Refuse(d.socket)
	d.close()
	<-d.served
	d.close = nil
}

// openDoors opens the host's ports of a datacenter.
func (s *Supervisor) openDoors(dc string) error {
	var failed []error
	for _, d := range s.doors {
		if d.Datacenter == dc {
			failed = append(failed, d.open(s))
		}
	}
	return errors.Join(failed...)
}

// shutDoors shuts the host's ports of a datacenter; of all, if dc is empty.
func (s *Supervisor) shutDoors(dc string) {
	for _, d := range s.doors {
		if dc == "" || d.Datacenter == dc {
			d.shut()
		}
	}
}

// dialDoor connects a client of one of the host's ports to its place in the lab.
func (s *Supervisor) dialDoor(ctx context.Context, host HostPort) (net.Conn, error) {
	switch host.Name {
	case "gateway", "admin":
		port := map[string]uint16{"gateway": gatewayPort, "admin": gatewayAdminPort}[host.Name]
		gateways := s.withIn(host.Datacenter, "gateway")
		if len(gateways) == 0 {
			return nil, errors.New("no node runs a gateway")
		}
		return gateways[0].machine.DialContext(ctx, "tcp", netip.AddrPortFrom(gateways[0].loopback, port).String())
	case "consul":
		servers := s.servers(host.Datacenter)
		if len(servers) == 0 {
			return nil, errors.New("no node runs a Consul server")
		}
		return servers[0].dialConsul(ctx, "tcp", "")
	default:
		return nil, fmt.Errorf("unknown door %q", host.Name)
	}
}
