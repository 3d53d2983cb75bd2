// Package relay carries connections between the mesh and mongod, in both
// directions: a Door lets peers of the mesh through to the own mongod, a Peer
// lets the own mongod through to another member's Door.
//
// Neither looks into what it carries, and neither ever closes an idle
// connection: following the oplog is one that lives for ever.
package relay

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"sluice/mesh"
)

// backendTimeout bounds the connection to the own mongod. It is on the same
// machine: what takes longer is not going to happen.
const backendTimeout = time.Second

// DoorConfig says who is let through, and to where.
type DoorConfig struct {
	// Service is the identity that is presented.
	Service string
	// Address is where the door is, "host:port".
	Address string
	// Mongod is what is behind it, "host:port".
	Mongod string
	// Listen is how peers are verified and authorized. Its DrainTimeout is not
	// used: a door is cut, never drained.
	Listen mesh.ListenConfig
	// Allowed is asked for each piece of an answer of mongod whether it may go
	// out; nil lets everything out. It must be fast.
	Allowed func() bool
	Logger  *slog.Logger
}

// Door is a listener of the mesh in front of mongod that can be opened and cut
// again and again. Open, Hold, Cut and Close are for one goroutine.
type Door struct {
	cfg   DoorConfig
	group sync.WaitGroup
	hold  hold
	// stop ends what Open has started; nil while the door is shut.
	stop     context.CancelFunc
	listener *mesh.Listener
}

// NewDoor returns a door that is shut.
func NewDoor(cfg DoorConfig) *Door {
	cfg.Listen.DrainTimeout = -1
	return &Door{cfg: cfg}
}

// IsOpen reports whether the door is open.
func (d *Door) IsOpen() bool { return d.stop != nil }

// Open starts to accept. When it returns, a peer can connect.
func (d *Door) Open() error {
	if d.IsOpen() {
		return nil
	}
	listener, err := mesh.Listen(d.cfg.Address, d.cfg.Listen)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	d.stop, d.listener = stop, listener
	d.group.Go(func() {
		if err := listener.Run(ctx); err != nil {
			d.cfg.Logger.Error("door failed", "service", d.cfg.Service, "err", err)
		}
	})
	d.group.Go(func() { d.serve(ctx, listener) })
	return nil
}

// Hold keeps back everything that would pass the door, in both directions, until
// it is called with false, or the door is cut. Nobody notices but by waiting.
// When it returns, no request reaches mongod and no answer leaves it, but for
// those that are on their way to the kernel at that moment.
func (d *Door) Hold(on bool) { d.hold.set(on && d.IsOpen()) }

// Cut stops accepting and resets every connection that came through the door,
// and returns how many. It waits for nobody. When it returns, no peer hears from
// mongod any more; what a peer sent before may still reach it.
func (d *Door) Cut(reason string) int {
	if !d.IsOpen() {
		return 0
	}
	_ = d.listener.Close()
	d.stop()
	n := d.cfg.Listen.Table.CutWhere(reason, func(c mesh.ConnectionInfo) bool {
		return c.Inbound && c.Destination.Service() == d.cfg.Service
	})
	d.stop, d.listener = nil, nil
	d.hold.set(false) // what waited finds that its opening is over
	return n
}

// Close cuts and waits until everything that the door has started is gone.
func (d *Door) Close() {
	d.Cut("shutting down")
	d.group.Wait()
}

func (d *Door) serve(ctx context.Context, listener *mesh.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		d.group.Go(func() { d.forward(ctx, conn) })
	}
}

// forward carries one connection. A connection that was accepted in the moment
// of a cut gets no further than here: its context has ended.
func (d *Door) forward(ctx context.Context, conn net.Conn) {
	dialer := net.Dialer{Timeout: backendTimeout}
	backend, err := dialer.DialContext(ctx, "tcp", d.cfg.Mongod)
	if err != nil {
		reset(conn)
		if ctx.Err() == nil {
			d.cfg.Logger.Debug("mongod does not accept", "service", d.cfg.Service, "err", err)
		}
		return
	}
	_ = mesh.Splice(ctx, conn, &gated{backend, ctx, &d.hold, d.cfg.Allowed})
}

// reset closes a connection so that the other end notices at once.
func reset(conn net.Conn) {
	switch c := conn.(type) {
	case *mesh.Conn:
		c.Cut("mongod does not accept")
	case *net.TCPConn:
		_ = c.SetLinger(0)
		_ = c.Close()
	default:
		_ = c.Close()
	}
}
