package proxyproto

import (
	"errors"
	"net"
)

// Conn is a connection whose header has been read. Its addresses are those that
// the header names, if it names any.
type Conn struct {
	net.Conn
	header Header
}

// Header returns what was said.
func (c *Conn) Header() Header { return c.header }

// NetConn returns the connection beneath, of which nothing but the header has
// been read: to splice in the kernel takes the socket itself.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// RemoteAddr returns the client's address.
func (c *Conn) RemoteAddr() net.Addr {
	if c.header.Client.IsValid() {
		return net.TCPAddrFromAddrPort(c.header.Client)
	}
	return c.Conn.RemoteAddr()
}

// LocalAddr returns the address that the client connected to.
func (c *Conn) LocalAddr() net.Addr {
	if c.header.Server.IsValid() {
		return net.TCPAddrFromAddrPort(c.header.Server)
	}
	return c.Conn.LocalAddr()
}

// CloseWrite tells the peer that nothing more will come.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SetLinger sets what happens to unsent bytes at the close; 0 resets.
func (c *Conn) SetLinger(seconds int) error {
	if linger, ok := c.Conn.(interface{ SetLinger(int) error }); ok {
		return linger.SetLinger(seconds)
	}
	return errors.ErrUnsupported
}
