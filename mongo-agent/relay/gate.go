package relay

import (
	"context"
	"errors"
	"net"
)

var errFenced = errors.New("mongod's answer is held back: it may be primary no more")

// gated is a connection to mongod whose answers get through only while the own
// member may answer. A process that did not run for a while learns late that it
// must cut; what it reads after that goes nowhere. While there is a hold, both
// requests and answers wait.
type gated struct {
	net.Conn
	ctx     context.Context // of the opening of the door
	hold    *hold
	allowed func() bool // nil allows everything
}

// Read reads an answer of mongod.
func (g *gated) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if n == 0 {
		return n, err
	}
	if ended := g.hold.wait(g.ctx); ended != nil {
		return 0, ended
	}
	if g.allowed != nil && !g.allowed() {
		return 0, errFenced
	}
	return n, err
}

// Write sends a request to mongod.
func (g *gated) Write(p []byte) (int, error) {
	if ended := g.hold.wait(g.ctx); ended != nil {
		return 0, ended
	}
	return g.Conn.Write(p)
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
