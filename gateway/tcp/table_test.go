package tcp

import (
	"context"
	"net"
	"testing"
	"time"
)

// sluggish is a connection that takes its time to be cut.
type sluggish struct {
	net.Conn
	cutting, proceed chan struct{}
}

func (s sluggish) Cut(string) { close(s.cutting); <-s.proceed }

func TestTheTableAnswersWhileAConnectionIsReset(t *testing.T) {
	table := NewTable(nil)
	client, _ := net.Pipe()
	c := table.add(context.Background(), client)
	c.end(ErrCut)
	upstream := sluggish{cutting: make(chan struct{}), proceed: make(chan struct{})}
	joined := make(chan error)
	go func() { joined <- c.join(upstream) }()
	<-upstream.cutting
	answered := make(chan []Info, 1)
	go func() { answered <- table.Connections() }()
	select {
	case <-answered:
	case <-time.After(5 * time.Second):
		t.Error("the table waits for the reset of one connection")
	}
	close(upstream.proceed)
	if err := <-joined; err == nil {
		t.Error("what was cut is joined")
	}
}
