package proxy

import (
	"net"
	"time"
)

// client is the connection of a client, whose deadlines move with its bytes.
type client struct {
	net.Conn
	// patience bounds the pause in a body; 0 while heads are awaited.
	patience     time.Duration
	write        time.Duration
	armed, wrote time.Time
}

// Read reads what the client sends.
func (c *client) Read(p []byte) (int, error) {
	if c.patience > 0 {
		if now := time.Now(); now.Sub(c.armed) > c.patience/4 {
			if err := c.SetReadDeadline(now.Add(c.patience)); err != nil {
				return 0, err
			}
			c.armed = now
		}
	}
	return c.Conn.Read(p)
}

// Write sends to the client.
func (c *client) Write(p []byte) (int, error) {
	if now := time.Now(); now.Sub(c.wrote) > c.write/4 {
		if err := c.SetWriteDeadline(now.Add(c.write)); err != nil {
			return 0, err
		}
		c.wrote = now
	}
	return c.Conn.Write(p)
}
