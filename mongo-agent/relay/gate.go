package relay

import (
	"errors"
	"net"
)

var errFenced = errors.New("mongod's answer is held back: it may be primary no more")

// gated is a connection to mongod whose answers get through only while the own
// member may answer. A process that did not run for a while learns late that it
// must cut; what it reads after that goes nowhere.
type gated struct {
	net.Conn
	allowed func() bool
}

// Read reads an answer of mongod.
func (g *gated) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if n > 0 && !g.allowed() {
		return 0, errFenced
	}
	return n, err
}

// CloseWrite passes a half-close on to mongod.
func (g *gated) CloseWrite() error {
	if half, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SetLinger lets the connection be reset.
func (g *gated) SetLinger(seconds int) error {
	if c, ok := g.Conn.(interface{ SetLinger(int) error }); ok {
		return c.SetLinger(seconds)
	}
	return errors.ErrUnsupported
}
