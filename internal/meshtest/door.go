package meshtest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"sluice/mesh"
)

// Door is a TCP service behind a mesh listener that opens and shuts at one
// address, as a member of a replica set does when its role changes.
type Door struct {
	world   *World
	service string
	// Address is where the door is, whether it is open or not.
	Address string
	target  string

	mu    sync.Mutex
	stop  context.CancelFunc
	table *mesh.Table
	done  sync.WaitGroup
	close func()
}

// Door returns a door that is shut. target is what is behind it.
func (w *World) Door(service, target string) *Door {
	w.tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.tb.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	d := &Door{world: w, service: service, Address: listener.Addr().String(), target: target}
	w.tb.Cleanup(d.Cut)
	return d
}

// Instance describes the door with the given metadata.
func (d *Door) Instance(node string, meta map[string]string) mesh.Instance {
	i := d.world.Instance(d.service, node, d.Address)
	i.Meta = meta
	return i
}

// Open starts to accept.
func (d *Door) Open(tb testing.TB) {
	tb.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stop != nil {
		return
	}
	table := mesh.NewTable(time.Now)
	listener, err := mesh.Listen(d.Address, mesh.ListenConfig{
		Credentials:  d.world.Credentials(d.service),
		Authorizer:   mesh.NewAuthorizer(mesh.AuthorizerConfig{Service: d.service, Policy: d.world.Policy}),
		Table:        table,
		DrainTimeout: -1,
	})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	d.stop, d.table, d.close = stop, table, func() { _ = listener.Close() }
	d.done.Go(func() { _ = listener.Run(ctx) })
	d.done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			d.done.Go(func() { d.carry(ctx, conn) })
		}
	})
}

func (d *Door) carry(ctx context.Context, conn net.Conn) {
	backend, err := net.DialTimeout("tcp", d.target, time.Second)
	if err != nil {
		conn.(*mesh.Conn).Cut("nothing behind the door")
		return
	}
	_ = mesh.Splice(ctx, conn, backend)
}

// Cut shuts the door, resets every connection that came through it and waits
// until nothing of it is left.
func (d *Door) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stop == nil {
		return
	}
	d.close()
	d.stop()
	d.table.CutWhere("the door was shut", func(mesh.ConnectionInfo) bool { return true })
	d.done.Wait()
	d.stop = nil
}

// Connections returns how many connections have come through the door and live.
func (d *Door) Connections() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stop == nil {
		return 0
	}
	return len(d.table.Connections())
}
