package mesh

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"sluice/identity"
	"sluice/intentions"
)

// Conn is a connection whose peer has been verified and authorized. It is a
// net.Conn; reads and writes of other goroutines end at once when it is cut.
//
// A connection lives no longer than the certificate that its peer presented: it
// is cut when that leaf expires. A renewed leaf counts for new connections only,
// because TLS 1.3 has no renegotiation.
type Conn struct {
	tls   *tls.Conn
	raw   net.Conn
	table *Table
	owner any
	// released is called once, when the connection has left the table.
	released func()

	id          uint64
	inbound     bool
	edge        Edge
	since       time.Time
	peer, local *x509.Certificate
	// unconfirmed marks an outbound connection whose peer did not say whether
	// it accepts us: its first Read may bring the refusal.
	unconfirmed bool

	decision atomic.Pointer[intentions.Decision]
	in, out  atomic.Uint64
	reason   atomic.Pointer[string]
	closed   atomic.Bool
	// expiry is nil until the clock of the peer's leaf has been started.
	expiry atomic.Pointer[time.Timer]
}

// keepAlive is how a vanished peer is noticed on a connection on which nothing
// moves: after 10 + 3 x 5 seconds. TCP_USER_TIMEOUT is left alone on purpose: it
// would also end connections whose reader merely takes its time.
func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}
}

// register puts c into its table and starts the clock of the peer's leaf. From
// here on the connection is found by every cut.
func (c *Conn) register(now time.Time) {
	c.since = now
	c.expiry.Store(time.AfterFunc(c.peer.NotAfter.Sub(now), func() { c.Cut("the peer's leaf has expired") }))
	c.table.add(c)
	if c.closed.Load() {
		// The clock was faster: what it removed was not there yet.
		c.table.remove(c)
	}
}

// Read reads application bytes. After a cut its error says why.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.tls.Read(p)
	if n > 0 {
		c.in.Add(uint64(n))
	}
	if err != nil && err != io.EOF {
		err = c.explain(err)
	}
	return n, err
}

// Write writes application bytes. After a cut its error says why.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.tls.Write(p)
	if n > 0 {
		c.out.Add(uint64(n))
	}
	if err != nil {
		err = c.explain(err)
	}
	return n, err
}

func (c *Conn) explain(err error) error {
	if reason := c.reason.Load(); reason != nil {
		return fmt.Errorf("mesh: connection cut: %s: %w", *reason, net.ErrClosed)
	}
	if c.unconfirmed && c.in.Load() == 0 && isRemoteAlert(err, alertBadCertificate) {
		return &DeniedError{Decision: c.Decision(), By: ByDestination}
	}
	return err
}

// Close says goodbye to the peer (close_notify) and closes the connection. It
// waits at most five seconds for a peer that does not take the goodbye; a cut
// ends that wait.
func (c *Conn) Close() error {
	if !c.closed.CompareAndSwap(false, true) {
		return net.ErrClosed
	}
	err := c.tls.Close()
	c.release()
	return err
}

// CloseWrite tells the peer that nothing more will come. Reading goes on.
func (c *Conn) CloseWrite() error { return c.tls.CloseWrite() }

// CloseRead discards whatever else the peer sends. Writing goes on.
func (c *Conn) CloseRead() error {
	if half, ok := c.raw.(interface{ CloseRead() error }); ok {
		return half.CloseRead()
	}
	return errors.ErrUnsupported
}

// Cut resets the connection at once: nothing is flushed, nobody is waited for.
// Reads and writes fail with reason from then on.
func (c *Conn) Cut(reason string) { c.cut(reason) }

// cut is Cut; it reports whether the connection was still open.
func (c *Conn) cut(reason string) bool {
	open := c.abort(reason)
	if open {
		c.table.count.cut.Add(1)
	}
	return open
}

// abort is cut for an end that the peer or the other half of a splice has
// caused, which is not counted as a cut.
func (c *Conn) abort(reason string) bool {
	c.reason.CompareAndSwap(nil, &reason)
	open := c.closed.CompareAndSwap(false, true)
	// Also when it is closed already: Close may be waiting for a peer that does
	// not read its goodbye.
	reset(c.raw)
	if open {
		c.release()
	}
	return open
}

// withdraw takes c out of its table without ending it: it is not to be used, but
// its peer must still be told why. The caller closes it.
func (c *Conn) withdraw() {
	if c.closed.CompareAndSwap(false, true) {
		c.release()
	}
}

func (c *Conn) release() {
	if expiry := c.expiry.Load(); expiry != nil {
		expiry.Stop()
	}
	c.table.remove(c)
	if c.released != nil {
		c.released()
	}
}

// reset closes a connection so that the peer gets a reset instead of an end.
func reset(conn net.Conn) {
	switch c := conn.(type) {
	case *Conn:
		c.abort("the other side was reset")
		return
	case interface{ Reset() }:
		c.Reset()
		return
	}
	if tcp, ok := conn.(interface{ SetLinger(int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// LocalAddr returns the own address.
func (c *Conn) LocalAddr() net.Addr { return c.raw.LocalAddr() }

// RemoteAddr returns the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// SetDeadline sets both deadlines. As with every TLS connection, one that missed
// a write deadline is of no more use.
func (c *Conn) SetDeadline(t time.Time) error { return c.tls.SetDeadline(t) }

// SetReadDeadline sets the deadline of Read.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.tls.SetReadDeadline(t) }

// SetWriteDeadline sets the deadline of Write.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.tls.SetWriteDeadline(t) }

// SyscallConn gives the TCP connection below, to look whether anything has come
// on it. What is read from it or written to it breaks the connection.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	raw, ok := c.raw.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return raw.SyscallConn()
}

// Peer returns the identity at the other end.
func (c *Conn) Peer() identity.ID {
	if c.inbound {
		return c.edge.Source
	}
	return c.edge.Destination
}

// PeerCertificate returns the leaf that the peer presented.
func (c *Conn) PeerCertificate() *x509.Certificate { return c.peer }

// LocalCertificate returns the leaf that this side presented.
func (c *Conn) LocalCertificate() *x509.Certificate { return c.local }

// Edge returns who calls whom.
func (c *Conn) Edge() Edge { return c.edge }

// Decision returns the newest verdict on the connection. On an outbound
// connection without a policy of the source it names the edge and no rule.
func (c *Conn) Decision() intentions.Decision {
	if d := c.decision.Load(); d != nil {
		return *d
	}
	return intentions.Decision{Source: c.edge.Source.Service(), Destination: c.edge.Destination.Service()}
}

// Info describes the connection at this moment.
func (c *Conn) Info() ConnectionInfo {
	return ConnectionInfo{
		ID: c.id, Edge: c.edge, Inbound: c.inbound, Remote: c.raw.RemoteAddr().String(), Since: c.since,
		PeerSerial: serial(c.peer), LocalSerial: serial(c.local), PeerNotAfter: c.peer.NotAfter,
		BytesIn: c.in.Load(), BytesOut: c.out.Load(),
	}
}

func serial(certificate *x509.Certificate) string {
	if certificate == nil || certificate.SerialNumber == nil {
		return ""
	}
	return certificate.SerialNumber.Text(16)
}

type connKey struct{}

// ConnContext makes the connection available to handlers through
// ConnFromContext. It has the form of http.Server.ConnContext.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if conn, ok := c.(*Conn); ok {
		return context.WithValue(ctx, connKey{}, conn)
	}
	return ctx
}

// ConnFromContext returns the connection that ConnContext stored, or nil.
func ConnFromContext(ctx context.Context) *Conn {
	conn, _ := ctx.Value(connKey{}).(*Conn)
	return conn
}
