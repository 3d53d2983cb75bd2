package proofs_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/consul"
	"sluice/identity"
	"sluice/internal/labtest"
	"sluice/mesh"
)

// order is what a probe is to do inside its node. It holds paths of secrets, never
// secrets: it is on a command line.
type order struct {
	// Service and TokenFile are whom the probe is; none is nobody.
	Service   string `json:"service,omitempty"`
	TokenFile string `json:"token_file,omitempty"`
	// Streams are carried on until the probe's standard input ends.
	Streams []stream `json:"streams,omitempty"`
	// Attempts are made once each, in order.
	Attempts []attempt `json:"attempts,omitempty"`
	// Scan are addresses to connect to, all at once.
	Scan []string `json:"scan,omitempty"`
	// Leaves are asked of an agent.
	Leaves []leafQuestion `json:"leaves,omitempty"`
	// Document is looked for in the database.
	Document *documentQuestion `json:"document,omitempty"`
	// Sessions are connections with one TLS session cache.
	Sessions *sessions `json:"sessions,omitempty"`
	// Page is a page to wait for.
	Page *pageQuestion `json:"page,omitempty"`
	// Load are requests for one page, as many and as fast as they can be answered.
	Load *load `json:"load,omitempty"`
}

// stream is traffic on one edge.
type stream struct {
	Name string `json:"name"`
	// Client is "raw" (crypto/tls and the leaf), "mesh" (mesh.Dialer that does not
	// know the intentions) or "judged" (mesh.Dialer that does).
	Client string `json:"client"`
	// Open keeps one connection open and talks on it; otherwise each exchange is a
	// connection of its own.
	Open  bool          `json:"open,omitempty"`
	Pause time.Duration `json:"pause"`
	target
}

// target is a listener of the mesh. Without an Address instances are resolved.
type target struct {
	Address string `json:"address,omitempty"`
	Service string `json:"service"`
}

// The results of a try.
const (
	served  = "served"  // the application answered
	denied  = "denied"  // the mesh said no
	cut     = "cut"     // reset or ended without an answer
	refused = "refused" // nobody listens, or there is no instance
	timeout = "timeout"
	failed  = "failed"
	opened  = "opened" // a stream's connection carries its first exchange
)

// event is one thing that happened to a probe. Times are of the monotonic clock.
type event struct {
	Stream string        `json:"stream"`
	Result string        `json:"result"`
	Began  time.Duration `json:"began,omitempty"`
	Ended  time.Duration `json:"ended,omitempty"`
	// Last is when an open connection brought its last answer, Count how many it
	// brought, and Gap the longest time between two.
	Last   time.Duration `json:"last,omitempty"`
	Count  int           `json:"count,omitempty"`
	Gap    time.Duration `json:"gap,omitempty"`
	Detail string        `json:"detail,omitempty"`
}

// probe is the side inside the node.
type probe struct {
	order
	identity *consul.Identity
	resolver *consul.Resolver
	policy   *consul.Intentions

	mu  sync.Mutex
	out *json.Encoder
}

// runProbe does an order and returns the exit code. Its standard output is one
// event per line.
func runProbe(text string) int {
	p := &probe{out: json.NewEncoder(os.Stdout)}
	if err := json.Unmarshal([]byte(text), &p.order); err != nil {
		fmt.Fprintln(os.Stderr, "probe: read the order:", err)
		return 2
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := p.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		return 1
	}
	return 0
}

func (p *probe) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	defer func() { cancel(); _ = group.Wait() }()
	if p.Service != "" {
		client, err := consul.Open(consul.Config{Address: "127.0.0.1:8500", TokenFile: p.TokenFile, Datacenter: "dc1"})
		if err != nil {
			return err
		}
		p.identity = client.Identity(p.Service)
		p.policy = client.SourcePolicy(p.Service)
		services := map[string]bool{}
		var names []string
		for _, s := range p.Streams {
			if s.Address == "" && !services[s.target.Service] {
				services[s.target.Service] = true
				names = append(names, s.target.Service)
			}
		}
		p.resolver = client.Resolver(names...)
		group.Go(func() error { return p.identity.Run(ctx) })
		group.Go(func() error { return p.policy.Run(ctx) })
		group.Go(func() error { return p.resolver.Run(ctx) })
		waiting, done := context.WithTimeout(ctx, 20*time.Second)
		defer done()
		if err := p.identity.Wait(waiting); err != nil {
			return err
		}
	}
	p.say(event{Stream: "ready"})
	switch {
	case len(p.Streams) > 0:
		return p.carry(ctx)
	case len(p.Attempts) > 0:
		return p.attempts(ctx)
	case len(p.Scan) > 0:
		return p.scan(ctx)
	case len(p.Leaves) > 0:
		return p.leaves(ctx)
	case p.Document != nil:
		return p.document(ctx)
	case p.Sessions != nil:
		return p.sessions(ctx)
	case p.Page != nil:
		return p.page(ctx)
	case p.Load != nil:
		return p.load(ctx)
	}
	return errors.New("nothing to do")
}

func (p *probe) say(e event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.out.Encode(e)
}

// carry carries all streams until standard input ends.
func (p *probe) carry(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wait sync.WaitGroup
	for _, s := range p.Streams {
		dial, run, err := p.dialer(s)
		if err != nil {
			return err
		}
		wait.Go(func() { run(ctx) })
		wait.Go(func() {
			if s.Open {
				p.talk(ctx, s, dial)
			} else {
				p.knock(ctx, s, dial)
			}
		})
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	cancel()
	wait.Wait()
	return nil
}

// dialFunc connects and does nothing else.
type dialFunc func(ctx context.Context) (net.Conn, error)

// dialer returns how a stream connects, and what has to run meanwhile.
func (p *probe) dialer(s stream) (dialFunc, func(context.Context), error) {
	if s.Client == "raw" {
		return func(ctx context.Context) (net.Conn, error) { return p.dialRaw(ctx, s.Address, nil) }, func(context.Context) {}, nil
	}
	cfg := mesh.DialerConfig{Credentials: p.identity, Resolver: p.resolver, Table: mesh.NewTable(nil)}
	if s.Client == "judged" {
		cfg.Policy = p.policy
	}
	dialer := mesh.NewDialer(cfg)
	run := func(ctx context.Context) { _ = dialer.Run(ctx) }
	if s.Address == "" {
		return func(ctx context.Context) (net.Conn, error) { return conn(dialer.Dial(ctx, s.target.Service)) }, run, nil
	}
	own, err := p.identity.Credentials()
	if err != nil {
		return nil, nil, err
	}
	id, err := identity.New(own.ID.TrustDomain(), own.ID.Datacenter(), s.target.Service)
	if err != nil {
		return nil, nil, err
	}
	instance := mesh.Instance{ServiceID: s.target.Service, Address: s.Address, ID: id}
	return func(ctx context.Context) (net.Conn, error) { return conn(dialer.DialInstance(ctx, instance)) }, run, nil
}

// conn keeps a nil *mesh.Conn from becoming a net.Conn that is not nil.
func conn(c *mesh.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

// dialRaw is a client that knows nothing of the mesh but its certificates. It
// believes whoever answers.
func (p *probe) dialRaw(ctx context.Context, address string, change func(*tls.Config)) (net.Conn, error) {
	own, err := p.identity.Credentials()
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{*own.Certificate}, InsecureSkipVerify: true}
	if change != nil {
		change(cfg)
	}
	return (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", address)
}

// exchangeTimeout bounds one try.
const exchangeTimeout = 3 * time.Second

// knock makes a connection for each exchange.
func (p *probe) knock(ctx context.Context, s stream, dial dialFunc) {
	for ctx.Err() == nil {
		e := event{Stream: s.Name, Began: monotonic()}
		err := func() error {
			trying, cancel := context.WithTimeout(ctx, exchangeTimeout)
			defer cancel()
			c, err := dial(trying)
			if err != nil {
				return err
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(exchangeTimeout))
			return exchange(bufio.NewReader(c), c, s.target.Service)
		}()
		e.Ended, e.Result, e.Detail = monotonic(), resultOf(err), textOf(err)
		if ctx.Err() == nil {
			p.say(e)
		}
		pause(ctx, s.Pause)
	}
}

// talk keeps one connection open, and opens another when it has ended.
func (p *probe) talk(ctx context.Context, s stream, dial dialFunc) {
	for ctx.Err() == nil {
		began := monotonic()
		trying, cancel := context.WithTimeout(ctx, exchangeTimeout)
		c, err := dial(trying)
		cancel()
		if err == nil {
			stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
			p.converse(ctx, s, c, began)
			stop()
			_ = c.Close()
		} else if ctx.Err() == nil {
			p.say(event{Stream: s.Name, Result: resultOf(err), Began: began, Ended: monotonic(), Detail: textOf(err)})
		}
		pause(ctx, 5*time.Millisecond)
	}
}

// converse exchanges on one connection until it ends.
func (p *probe) converse(ctx context.Context, s stream, c net.Conn, began time.Duration) {
	reader := bufio.NewReader(c)
	e := event{Stream: s.Name, Began: began, Last: monotonic()}
	for ctx.Err() == nil {
		_ = c.SetReadDeadline(time.Now().Add(exchangeTimeout))
		if ctx.Err() != nil {
			break
		}
		err := exchange(reader, c, s.target.Service)
		now := monotonic()
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			// One that never carried anything is only an attempt.
			if e.Count == 0 {
				e.Last = 0
			}
			e.Ended, e.Result, e.Detail = now, resultOf(err), textOf(err)
			p.say(e)
			return
		}
		if e.Count == 0 {
			p.say(event{Stream: s.Name, Result: opened, Began: began, Ended: now})
		} else {
			e.Gap = max(e.Gap, now-e.Last)
		}
		e.Last, e.Count = now, e.Count+1
		pause(ctx, s.Pause)
	}
	e.Ended, e.Result = monotonic(), served
	p.say(e)
}

func pause(ctx context.Context, length time.Duration) {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// resultOf puts an error into one of the results.
func resultOf(err error) string {
	switch text := textOf(err); {
	case err == nil:
		return served
	case errors.Is(err, mesh.ErrDenied), strings.Contains(text, "remote error: tls: bad certificate"):
		return denied
	case errors.Is(err, mesh.ErrNoInstance), errors.Is(err, syscall.ECONNREFUSED):
		return refused
	case errors.Is(err, mesh.ErrTimeout), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return timeout
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return cut
	default:
		return failed
	}
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// running is a probe that carries streams, seen from outside.
type running struct {
	*proof
	command *exec.Cmd
	input   io.WriteCloser
	stderr  *strings.Builder
	read    chan struct{} // closed when its output has ended

	mu     sync.Mutex
	events []event
}

// start starts a probe in a node and waits until it is ready.
func (p *proof) start(node string, o order) *running {
	p.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		p.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		p.Fatal(err)
	}
	r := &running{proof: p, stderr: &strings.Builder{}, read: make(chan struct{})}
	r.command = p.lab.Command(p.bounded(6*time.Minute), "exec", node, "--", self, "probe", string(text))
	r.command.Stderr = r.stderr
	if r.input, err = r.command.StdinPipe(); err != nil {
		p.Fatal(err)
	}
	output, err := r.command.StdoutPipe()
	if err != nil {
		p.Fatal(err)
	}
	if err := r.command.Start(); err != nil {
		p.Fatal(err)
	}
	go r.follow(output)
	p.Cleanup(func() {
		_ = r.input.Close()
		<-r.read
		if p.Failed() && len(o.Streams) > 0 {
			p.Logf("the probe on %s saw: %s", node, tally(r.sofar()))
		}
	})
	r.await(30*time.Second, "the probe on "+node+" is ready", func(events []event) error {
		if len(events) == 0 {
			return errors.New("nothing yet")
		}
		return nil
	})
	return r
}

func (r *running) follow(output io.Reader) {
	defer close(r.read)
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) == nil {
			r.mu.Lock()
			r.events = append(r.events, e)
			r.mu.Unlock()
		}
	}
}

// await waits until what the probe has said until now is enough.
func (r *running) await(within time.Duration, what string, enough func([]event) error) {
	r.Helper()
	labtest.Eventually(r, within, what, func() error {
		select {
		case <-r.read:
			if err := enough(r.sofar()); err != nil {
				r.Fatalf("the probe has ended: %s", r.stderr.String())
			}
			return nil
		default:
			return enough(r.sofar())
		}
	})
}

func (r *running) sofar() []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.events[:len(r.events):len(r.events)]
}

// tally counts events by stream and result.
func tally(events []event) string {
	counts := map[string]int{}
	for _, e := range events {
		counts[e.Stream+": "+e.Result]++
	}
	var lines []string
	for what, n := range counts {
		lines = append(lines, fmt.Sprintf("%6d %s", n, what))
	}
	slices.Sort(lines)
	return "\n" + strings.Join(lines, "\n")
}

// stop ends the probe and returns all that it said.
func (r *running) stop() []event {
	r.Helper()
	_ = r.input.Close()
	<-r.read
	if err := r.command.Wait(); err != nil {
		r.Fatalf("the probe failed: %v: %s", err, r.stderr.String())
	}
	return r.sofar()
}

// ask has a probe do something that ends by itself, and returns what it said,
// without the first event, which is that it is ready.
func (p *proof) ask(node string, o order) []event {
	p.Helper()
	r := p.start(node, o)
	select {
	case <-r.read:
	case <-time.After(time.Minute):
		p.Fatalf("the probe on %s does not end", node)
	}
	return r.stop()[1:]
}

// testing.TB is what labtest wants; a proof is one.
var _ testing.TB = (*proof)(nil)
