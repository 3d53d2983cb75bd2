package proxy

import (
	"bytes"
	"net"
	"strconv"
	"time"

	"sluice/gateway/h1"
)

// passOn gives the connection to net/http, with the request whose head was read.
func (s *session) passOn() {
	var head bytes.Buffer
	r := &s.request
	head.Write(r.Method)
	head.WriteByte(' ')
	head.Write(r.Target)
	head.WriteString(" HTTP/1." + strconv.Itoa(r.Minor) + "\r\n")
	for _, f := range r.Fields {
		head.Write(f.Name)
		head.WriteString(": ")
		head.Write(f.Value)
		head.WriteString("\r\n")
	}
	head.WriteString("\r\n")
	_ = s.conn.SetReadDeadline(time.Time{})
	_ = s.conn.SetWriteDeadline(time.Time{})
	s.body.patience = 0
	s.own.cfg.Fallback(&passed{Conn: s.conn, head: head.Bytes(), rest: s.reader, panicked: s.p.Panicked})
}

// passed is a connection whose first request was read already.
type passed struct {
	net.Conn
	head []byte
	rest *h1.Reader
	// panicked is told of a panic in Read, which a goroutine of net/http may call.
	panicked func(failure any) error
}

// Read gives the request that was read, then what follows it.
func (c *passed) Read(p []byte) (n int, err error) {
	defer rescued(c.panicked, &err)
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	return c.rest.Read(p)
}

// NetConn returns the client's connection.
func (c *passed) NetConn() net.Conn { return c.Conn }

// CloseWrite tells the client that nothing more comes.
func (c *passed) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}
