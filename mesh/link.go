package mesh

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// greetingLimit bounds what is kept of a client's message, answerLimit of an
	// instance's, in bytes.
	greetingLimit = 16 << 10
	answerLimit   = copyBufferSize
	// greetingWait is how long a client may take to say its first message before
	// it is carried unseen.
	greetingWait = time.Second
)

var errNotLeading = errors.New("the instance says that it does not lead")

// link is one local connection of an Upstream that follows a leader.
type link struct {
	led   *led
	local net.Conn
	since time.Time
	proto *Protocol

	// said is the greeting, as long as it may have to be said again; ahead is
	// what the client has said beyond it.
	said, ahead []byte
	// turn is what the client has said since it was last answered.
	turn []byte
	// answer is what the instance has said and the client has not heard.
	answer []byte
	// watches is the Judgement of Protocol.Watches so far.
	watches atomic.Int32
	// asked is when the client spoke without an answer since, in ns, or 0.
	asked atomic.Int64
	// leaving is set when the client has ended the connection, or we have.
	leaving atomic.Bool

	// Guarded by led.mu:
	place  place
	remote *Conn
	// held means that the client waits and must not notice what happens to
	// remote.
	held bool
	// doomed means that remote has ended and local is to be reset.
	doomed bool

	finish   sync.Once
	finished chan struct{}
}

// end resets the client's side, once.
func (l *link) end() {
	l.finish.Do(func() {
		l.leaving.Store(true)
		reset(l.local)
		close(l.finished)
	})
}

// sentinel reports whether the connection carries no work as far as is known.
func (l *link) sentinel() bool { return l.proto != nil && Judgement(l.watches.Load()) != No }

// greet reads the client's greeting, where there is one. An error means that the
// client has left.
func (l *link) greet() error {
	if l.proto == nil {
		return nil
	}
	if err := l.local.SetReadDeadline(time.Now().Add(greetingWait)); err != nil {
		return err
	}
	var buffer [4 << 10]byte
	for {
		n, err := l.local.Read(buffer[:])
		l.said = append(l.said, buffer[:n]...)
		var timeout net.Error
		if err != nil && !(errors.As(err, &timeout) && timeout.Timeout()) {
			return err
		}
		switch judged := l.proto.Greeting(l.said); {
		case judged == Yes:
			l.judge(l.said)
			return l.local.SetReadDeadline(time.Time{})
		case judged == No, err != nil, len(l.said) > greetingLimit:
			l.watches.Store(int32(No))
			l.ahead, l.said = l.said, nil
			return l.local.SetReadDeadline(time.Time{})
		}
	}
}

// judge looks at one message of the client.
func (l *link) judge(said []byte) {
	if Judgement(l.watches.Load()) == Incomplete {
		l.watches.Store(int32(l.proto.Watches(said)))
	}
}

// guard ends ctx when the client leaves while it waits. stop ends the guard;
// what the client has said meanwhile is kept.
func (l *link) guard(ctx context.Context) (guarded context.Context, stop func()) {
	if l.proto == nil || len(l.said) == 0 {
		return ctx, func() {}
	}
	guarded, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var one [1]byte
		n, err := l.local.Read(one[:])
		l.ahead = append(l.ahead, one[:n]...)
		if err != nil && !isTimeout(err) {
			cancel(io.EOF)
		}
	}()
	return guarded, func() {
		_ = l.local.SetReadDeadline(time.Unix(1, 0))
		<-done
		_ = l.local.SetReadDeadline(time.Time{})
		cancel(nil)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// introduce says the greeting to conn and waits for an answer by which the
// instance leads, until ctx ends.
func (l *link) introduce(ctx context.Context, conn *Conn) (epoch int64, err error) {
	if len(l.said) == 0 {
		return 0, nil
	}
	stop := context.AfterFunc(ctx, func() { conn.Cut("no answer in time") })
	defer stop()
	l.asked.Store(time.Now().UnixNano())
	if _, err := conn.Write(l.said); err != nil {
		return 0, err
	}
	answer, got, err := listen(conn, l.proto)
	if err != nil {
		return 0, err
	}
	if answer.Leads != Yes {
		return 0, errNotLeading
	}
	l.answer = got
	return answer.Epoch, nil
}

// listen reads one whole answer.
func listen(conn *Conn, proto *Protocol) (Answer, []byte, error) {
	var got []byte
	buffer := make([]byte, 4<<10)
	for {
		n, err := conn.Read(buffer)
		got = append(got, buffer[:n]...)
		if answer := proto.Answer(got); answer.Size > 0 {
			return answer, got, nil
		}
		if err != nil {
			return Answer{}, nil, err
		}
		if len(got) > answerLimit {
			return Answer{}, nil, errNotLeading
		}
	}
}

// clientEnd is the client's side of a link.
type clientEnd struct{ *link }

func (c clientEnd) Read(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		c.heard(p[:n])
		return n, nil
	}
	n, err := c.local.Read(p)
	c.heard(p[:n])
	if err != nil {
		c.leaving.Store(true)
	}
	return n, err
}

// heard looks at what the client says.
func (c clientEnd) heard(p []byte) {
	if len(p) == 0 {
		return
	}
	answered := c.asked.CompareAndSwap(0, time.Now().UnixNano())
	if c.proto == nil || Judgement(c.watches.Load()) != Incomplete {
		return
	}
	if answered {
		c.turn = c.turn[:0]
	}
	if c.turn = append(c.turn, p...); len(c.turn) > greetingLimit {
		c.watches.Store(int32(No))
		return
	}
	c.judge(c.turn)
}

func (c clientEnd) Write(p []byte) (int, error) {
	n, err := c.local.Write(p)
	if err != nil {
		c.leaving.Store(true)
	}
	return n, err
}

func (c clientEnd) CloseWrite() error { return closeWrite(c.local) }

func (c clientEnd) Close() error {
	c.leaving.Store(true)
	return c.local.Close()
}

// Reset is the reset of a splice.
func (c clientEnd) Reset() { c.end() }

// LocalAddr and the rest make it a net.Conn.
func (c clientEnd) LocalAddr() net.Addr               { return c.local.LocalAddr() }
func (c clientEnd) RemoteAddr() net.Addr              { return c.local.RemoteAddr() }
func (c clientEnd) SetDeadline(t time.Time) error     { return c.local.SetDeadline(t) }
func (c clientEnd) SetReadDeadline(t time.Time) error { return c.local.SetReadDeadline(t) }
func (c clientEnd) SetWriteDeadline(t time.Time) error {
	return c.local.SetWriteDeadline(t)
}

// leaderEnd is the instance's side of a link. Its failures come back only when
// it is the client's turn to notice.
type leaderEnd struct {
	*Conn
	link *link
	// partial is the beginning of a message to a client that only watches.
	partial []byte
}

func (e *leaderEnd) Read(p []byte) (int, error) {
	for {
		if n := e.deliver(p); n > 0 {
			return n, nil
		}
		n, err := e.Conn.Read(p)
		if n > 0 {
			e.link.asked.Store(0)
			if Judgement(e.link.watches.Load()) != Yes || e.link.proto == nil {
				return n, nil
			}
			err = e.screen(p[:n])
		}
		switch {
		case err == nil:
		case err == io.EOF && e.link.proto == nil:
			return 0, err // half-close
		default:
			return 0, e.link.lost(err)
		}
	}
}

// deliver hands on what has been looked at.
func (e *leaderEnd) deliver(p []byte) int {
	n := copy(p, e.link.answer)
	if e.link.answer = e.link.answer[n:]; n > 0 {
		e.link.asked.Store(0)
	}
	return n
}

// screen takes what the instance says to a client that only watches. Whole
// messages are delivered, unless one says that the instance does not lead.
func (e *leaderEnd) screen(said []byte) error {
	e.partial = append(e.partial, said...)
	for len(e.partial) > 0 {
		answer := e.link.proto.Answer(e.partial)
		switch {
		case answer.Leads == No:
			return errNotLeading
		case answer.Size <= 0 && len(e.partial) <= answerLimit:
			return nil
		case answer.Size <= 0:
			answer.Size = len(e.partial)
		case answer.Epoch > 0:
			e.link.led.learn(e.link.place.address, answer.Epoch, "the instance says so")
		}
		e.link.answer = append(e.link.answer, e.partial[:answer.Size]...)
		e.partial = e.partial[answer.Size:]
	}
	return nil
}

func (e *leaderEnd) Write(p []byte) (int, error) {
	n, err := e.Conn.Write(p)
	if err != nil {
		err = e.link.lost(err)
	}
	return n, err
}

// Reset is the reset of a splice.
func (e *leaderEnd) Reset() { e.abort("the other side was reset") }
