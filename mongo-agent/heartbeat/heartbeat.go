package heartbeat

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// looks is how many times per interval silence is looked for.
const looks = 4

// Config says whom to ask, and how often.
type Config struct {
	// Nodes are the nodes of the other agents.
	Nodes []string
	// Interval is the pause between two questions to one agent, and Limit the
	// silence after which it counts as lost.
	Interval, Limit time.Duration
	// Dial connects to a node's agent and makes sure who answers.
	Dial func(ctx context.Context, node string) (net.Conn, error)
	// Logger receives losses and returns; required.
	Logger *slog.Logger
	// Now tells the time; nil is time.Now.
	Now func() time.Time
}

// Circle is the circle of agents as one of them sees it. It is safe for
// concurrent use.
type Circle struct {
	cfg     Config
	process string

	mu      sync.Mutex
	book    *book
	own     Status
	changed chan struct{} // closed when the view has news
	said    chan struct{} // closed when own has news
}

// New returns a circle of which nothing is known yet.
func New(cfg Config) *Circle {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Circle{
		cfg: cfg, process: rand.Text(), book: newBook(cfg.Nodes, cfg.Limit, cfg.Now()),
		changed: make(chan struct{}), said: make(chan struct{}),
	}
}

// Say makes s the own status. If there is news in it, it goes out at once.
func (c *Circle) Say(s Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	news := !c.own.equal(s)
	s.Process, s.Number = c.process, c.own.Number+1
	c.own = s
	if news {
		close(c.said)
		c.said = make(chan struct{})
	}
}

// Restrict names the nodes of the members that the set has now, besides the own one.
// View leaves out all others, which are asked all the same: they may join.
func (c *Circle) Restrict(nodes []string) {
	c.note(func(b *book) bool { return b.restrict(nodes) })
}

// View returns what is known now, and a channel that is closed with the next
// news.
func (c *Circle) View() (View, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.book.view(), c.changed
}

// ViewAll is View with those that are no members.
func (c *Circle) ViewAll() (View, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return View{Peers: slices.Clone(c.book.peers)}, c.changed
}

func (c *Circle) status() (Status, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.own, c.said
}

// note applies an observation and wakes those who wait for news.
func (c *Circle) note(observe func(b *book) (news bool)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	news := observe(c.book)
	if news {
		close(c.changed)
		c.changed = make(chan struct{})
	}
	return news
}

// Run asks every agent until ctx ends.
func (c *Circle) Run(ctx context.Context) error {
	var group sync.WaitGroup
	for _, node := range c.cfg.Nodes {
		group.Go(func() { c.follow(ctx, node) })
	}
	pause := c.cfg.Interval / looks
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
			c.look(pause)
		}
	}
	group.Wait()
	return nil
}

func (c *Circle) look(pause time.Duration) {
	c.note(func(b *book) bool {
		before := slices.Clone(b.peers)
		news := b.tick(c.cfg.Now(), max(c.cfg.Limit/2, 4*pause))
		if news {
			for i, p := range b.peers {
				if p.Lost && !before[i].Lost {
					c.cfg.Logger.Warn("agent lost", "peer", p.Node, "reason", p.Reason)
				}
			}
		}
		return news
	})
}

// follow keeps a connection to one agent.
func (c *Circle) follow(ctx context.Context, node string) {
	pause := c.cfg.Interval / looks
	for ctx.Err() == nil {
		started := c.cfg.Now()
		err := c.ask(ctx, node)
		var ended *endedError
		switch {
		case ctx.Err() != nil:
			return
		case silent(err):
			// For the limit to judge.
		case errors.As(err, &ended):
			// The next dial tells whether it is gone.
			if c.cfg.Now().Sub(started) > c.cfg.Interval {
				continue
			}
		case nobody(err):
			c.lose(node, err)
		}
		// Every other failure is for the limit to judge: whoever refuses us may
		// still be confirmed by others.
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// nobody reports whether err says that no process listens there any more.
func nobody(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

func silent(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

func (c *Circle) lose(node string, err error) {
	if c.note(func(b *book) bool { return b.unreachable(node, err.Error(), c.cfg.Now()) }) {
		c.cfg.Logger.Warn("agent lost", "peer", node, "reason", err.Error())
	}
}

// endedError is the end of a connection that was established.
type endedError struct{ cause error }

func (e *endedError) Error() string { return "the connection ended: " + e.cause.Error() }
func (e *endedError) Unwrap() error { return e.cause }

// ask asks one agent over one connection until that fails.
func (c *Circle) ask(ctx context.Context, node string) error {
	dialling, cancel := context.WithTimeout(ctx, c.cfg.Limit)
	conn, err := c.cfg.Dial(dialling, node)
	cancel()
	if err != nil {
		return err
	}
	answers, failed := make(chan message), make(chan error, 1)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer conn.Close()
	asking, stop := context.WithCancel(ctx)
	defer stop()
	// All the time, so that its end is noticed between two questions, too.
	reading.Go(func() { failed <- read(asking, conn, answers) })
	ticker := time.NewTicker(c.cfg.Interval)
	defer ticker.Stop()
	for number := int64(1); ; number++ {
		status, said := c.status()
		sent := c.cfg.Now()
		answer, err := c.exchange(ctx, conn, message{Number: number, Status: status}, answers, failed)
		switch {
		case err != nil:
			return err
		case answer.Status.Node != node:
			return fmt.Errorf("the agent of %s answers as that of %q", node, answer.Status.Node)
		}
		c.heard(node, sent, answer.Status)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return &endedError{err}
		case <-said:
		case <-ticker.C:
		}
	}
}

// exchange sends a question and waits for its answer.
func (c *Circle) exchange(ctx context.Context, conn net.Conn, question message, answers <-chan message, failed <-chan error) (message, error) {
	line, err := question.encode()
	if err != nil {
		return message{}, err
	}
	_ = conn.SetWriteDeadline(time.Now().Add(c.cfg.Limit))
	if _, err := conn.Write(line); err != nil {
		return message{}, &endedError{err}
	}
	timer := time.NewTimer(c.cfg.Limit)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return message{}, ctx.Err()
	case <-timer.C:
		return message{}, context.DeadlineExceeded
	case err := <-failed:
		return message{}, &endedError{err}
	case answer := <-answers:
		if answer.Number != -question.Number {
			return message{}, &endedError{fmt.Errorf("answer %d to question %d", answer.Number, question.Number)}
		}
		return answer, nil
	}
}

// read passes on what arrives until the connection or ctx ends.
func read(ctx context.Context, conn net.Conn, answers chan<- message) error {
	reader := bufio.NewReaderSize(conn, MaxMessage)
	for {
		answer, err := receive(reader)
		if err != nil {
			return err
		}
		select {
		case answers <- answer:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *Circle) heard(node string, sent time.Time, s Status) {
	c.note(func(b *book) bool {
		if p := b.find(node); p != nil && p.Lost {
			c.cfg.Logger.Info("agent is back", "peer", node)
		}
		return b.answered(node, sent, c.cfg.Now(), s)
	})
}

func receive(reader *bufio.Reader) (message, error) {
	line, err := reader.ReadSlice('\n')
	if err != nil {
		return message{}, err
	}
	return decode(line)
}

// Serve answers one agent's questions until the connection or ctx ends, and
// closes the connection.
func (c *Circle) Serve(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	reader := bufio.NewReaderSize(conn, MaxMessage)
	for ctx.Err() == nil {
		// Who does not ask for so long has gone, or will dial again.
		_ = conn.SetDeadline(time.Now().Add(10 * c.cfg.Limit))
		question, err := receive(reader)
		if err != nil || question.Number < 0 {
			return
		}
		c.note(func(b *book) bool { return b.told(question.Status, c.cfg.Now()) })
		status, _ := c.status()
		line, err := message{Number: -question.Number, Status: status}.encode()
		if err != nil {
			c.cfg.Logger.Error("cannot answer a heartbeat", "err", err)
			return
		}
		if _, err := conn.Write(line); err != nil {
			return
		}
	}
}
