package fakemongod

import (
	"context"
	"errors"
	"net"

	"go.mongodb.org/mongo-driver/v2/bson"

	"sluice/internal/fakemongod/wire"
)

// Request is one command that somebody sent.
type Request struct {
	// Command is its name, Database its database.
	Command, Database string
	// Body is the whole command; Sequences are the documents beside it.
	Body      bson.Raw
	Sequences []wire.Sequence
	// Exhaust says that the sender takes several answers.
	Exhaust bool
	// Authenticated says that the sender has logged in.
	Authenticated bool

	conn *conn
}

// Handler answers a command. ctx ends with the connection. Besides an answer it
// can return ErrDefault, ErrHangUp or an *Error; any other error becomes the
// text of an internal error.
type Handler func(ctx context.Context, r Request) (bson.D, error)

var (
	// ErrDefault, from a Handler, has the fake answer as it would by itself.
	ErrDefault = errors.New("as usual")
	// ErrHangUp, from a Handler, ends the connection without an answer.
	ErrHangUp = errors.New("hang up")
)

// accept takes connections until the process ends.
func (s *Server) accept(p *process) {
	defer p.work.Done()
	for {
		accepted, err := p.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		ctx, cancel := context.WithCancel(p.ctx)
		s.stats.Accepted++
		c := &conn{server: s, conn: accepted, number: int32(s.stats.Accepted), cancel: cancel}
		s.mu.Unlock()
		p.work.Add(1)
		go func() {
			defer p.work.Done()
			c.serve(ctx)
		}()
	}
}

// conn is one connection.
type conn struct {
	server *Server
	conn   net.Conn
	number int32
	cancel context.CancelFunc
	// next is the request id of the next answer.
	next int32
	auth conversation
}

// serve answers until either side ends the connection. Reading is a goroutine of
// its own, so that a sender who leaves is noticed while a command waits.
func (c *conn) serve(ctx context.Context) {
	c.server.count(func(s *Stats) { s.Connections++ })
	defer c.server.count(func(s *Stats) { s.Connections-- })
	frames, done := make(chan wire.Frame), make(chan struct{})
	go func() {
		defer close(done)
		defer c.cancel()
		c.read(ctx, frames)
	}()
	stop := context.AfterFunc(ctx, c.abort)
	defer func() { stop(); c.abort(); c.cancel(); <-done }()
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-frames:
			if err := c.answer(ctx, f); err != nil {
				return
			}
		}
	}
}

// abort resets the connection: what was killed says no goodbye.
func (c *conn) abort() {
	if tcp, ok := c.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.conn.Close()
}

func (c *conn) read(ctx context.Context, frames chan<- wire.Frame) {
	for {
		f, err := wire.ReadFrame(c.conn, wire.MaxMessage)
		if err != nil || c.server.gate(ctx) != nil {
			return
		}
		select {
		case frames <- f:
		case <-ctx.Done():
			return
		}
	}
}

// answer answers one message; an error ends the connection.
func (c *conn) answer(ctx context.Context, f wire.Frame) error {
	if f.OpCode == wire.OpQuery {
		return c.answerQuery(ctx, f)
	}
	m, err := wire.ParseMsg(f)
	if err != nil {
		return err
	}
	request := Request{Body: m.Body, Sequences: m.Sequences, Exhaust: m.Flags&wire.ExhaustAllowed != 0, conn: c}
	if db, ok := m.Body.Lookup("$db").StringValueOK(); ok {
		request.Database = db
	}
	respondTo := f.RequestID
	for {
		reply, again, err := c.run(ctx, request)
		if err != nil || m.Flags&wire.MoreToCome != 0 {
			return err
		}
		flags := m.Flags & wire.ChecksumPresent
		if again != nil {
			flags |= wire.MoreToCome
		}
		respondTo, err = c.write(ctx, respondTo, wire.Msg{Flags: flags, Body: reply})
		if err != nil || again == nil {
			return err
		}
		request.Body = again
	}
}

func (c *conn) write(ctx context.Context, to int32, m wire.Msg) (id int32, err error) {
	if err := c.server.gate(ctx); err != nil {
		return 0, err
	}
	c.next++
	_, err = c.conn.Write(wire.AppendMsg(nil, wire.Header{RequestID: c.next, ResponseTo: to}, m))
	return c.next, err
}

// answerQuery answers a command in an OP_QUERY; mongod takes hello alone.
func (c *conn) answerQuery(ctx context.Context, f wire.Frame) error {
	q, err := wire.ParseQuery(f)
	if err != nil {
		return err
	}
	reply, _, err := c.run(ctx, Request{Body: q.Document, Database: "admin", conn: c})
	if err != nil {
		return err
	}
	if err := c.server.gate(ctx); err != nil {
		return err
	}
	c.next++
	const awaitCapable = 8
	_, err = c.conn.Write(wire.AppendReply(nil, wire.Header{RequestID: c.next, ResponseTo: f.RequestID},
		wire.Reply{Flags: awaitCapable, Documents: []bson.Raw{reply}}))
	return err
}

// run runs one command. again is the command to run next without being asked, if
// the sender takes several answers.
func (c *conn) run(ctx context.Context, r Request) (reply, again bson.Raw, err error) {
	first, err := r.Body.IndexErr(0)
	if err != nil {
		return nil, nil, err
	}
	r.Command, r.Authenticated = first.Key(), c.auth.done
	s := c.server
	s.mu.Lock()
	s.stats.Commands[r.Command]++
	if r.Exhaust {
		s.stats.Exhaust++
	}
	handler := s.handlers[r.Command]
	s.announce()
	s.mu.Unlock()

	answer, err := bson.D(nil), ErrDefault
	if handler != nil {
		answer, err = handler(ctx, r)
	}
	if errors.Is(err, ErrDefault) {
		answer, err = s.execute(ctx, r)
	}
	if ctx.Err() != nil || errors.Is(err, ErrHangUp) {
		return nil, nil, ErrHangUp
	}
	if err != nil {
		answer = s.failure(err)
	}
	raw, marshalErr := bson.Marshal(answer)
	if marshalErr != nil {
		return nil, nil, marshalErr
	}
	if err == nil && r.Exhaust && (r.Command == "hello") {
		again = nextHello(r.Body, raw)
	}
	return raw, again, nil
}
