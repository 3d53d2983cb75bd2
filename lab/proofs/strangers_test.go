package proofs_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"sluice/internal/testca"
)

// attempt is one try of a client that need not be what it says.
type attempt struct {
	Name string `json:"name"`
	// Certificate is "own", "none", or a PEM file with a chain and a key.
	Certificate string `json:"certificate,omitempty"`
	// Plain speaks without TLS; Old speaks TLS 1.2.
	Plain bool `json:"plain,omitempty"`
	Old   bool `json:"old,omitempty"`
	// Say is sent instead of a request.
	Say string `json:"say,omitempty"`
	target
}

func (p *probe) attempts(ctx context.Context) error {
	for _, a := range p.Attempts {
		e := event{Stream: a.Name, Began: monotonic()}
		err := p.attempt(ctx, a)
		e.Ended, e.Result, e.Detail = monotonic(), resultOf(err), textOf(err)
		p.say(e)
	}
	return nil
}

func (p *probe) attempt(ctx context.Context, a attempt) error {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	c, err := p.dialAs(ctx, a)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(exchangeTimeout))
	if a.Say != "" {
		_, err := io.WriteString(c, a.Say)
		return err
	}
	return exchange(bufio.NewReader(c), c, a.target.Service)
}

func (p *probe) dialAs(ctx context.Context, a attempt) (net.Conn, error) {
	if a.Plain {
		return (&net.Dialer{}).DialContext(ctx, "tcp", a.Address)
	}
	var certificates []tls.Certificate
	switch a.Certificate {
	case "own":
		own, err := p.identity.Credentials()
		if err != nil {
			return nil, err
		}
		certificates = []tls.Certificate{*own.Certificate}
	case "none":
	default:
		pair, err := tls.LoadX509KeyPair(a.Certificate, a.Certificate)
		if err != nil {
			return nil, err
		}
		certificates = []tls.Certificate{pair}
	}
	cfg := &tls.Config{
		InsecureSkipVerify: true,
		// Sent whatever authorities the server asks for.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(certificates) == 0 {
				return &tls.Certificate{}, nil
			}
			return &certificates[0], nil
		},
	}
	if a.Old {
		cfg.MaxVersion = tls.VersionTLS12
	}
	return (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", a.Address)
}

// strangersAreRefused tries the lab's own listeners with what an attacker inside
// the network could have. package mesh has the whole table; this shows that the
// lab listens by it.
func strangersAreRefused(p *proof) {
	primary, secondaries := p.members()
	foreign := testca.NewRoot(p, p.trustDomain())
	forged := func(service string) string {
		chain, key := testca.LeafPEM(p, foreign.Leaf(p, testca.Leaf{Datacenter: "dc1", Service: service}))
		path := filepath.Join(p.TempDir(), service+".pem")
		if err := os.WriteFile(path, []byte(chain+key), 0o600); err != nil {
			p.Fatal(err)
		}
		return path
	}
	listeners := map[target]string{ // and who may call them
		{primary.Address + ":27018", "mongo-primary"}:          "web",
		{secondaries[0].Address + ":27019", "mongo-secondary"}: "web",
		{primary.Address + ":27020", "mongo-repl"}:             "mongo-repl",
		{p.node("web-2").Address + ":8000", "web"}:             "gateway",
	}
	var attempts []attempt
	for listener, caller := range listeners {
		attempts = append(attempts,
			attempt{Name: "no TLS to " + listener.Service, Plain: true, target: listener},
			attempt{Name: "no certificate to " + listener.Service, Certificate: "none", target: listener},
			attempt{Name: "the caller's name by another authority to " + listener.Service, Certificate: forged(caller), target: listener},
			attempt{Name: "TLS 1.2 to " + listener.Service, Certificate: "own", Old: true, target: listener},
		)
		if caller != "web" {
			attempts = append(attempts, attempt{Name: "web's own leaf to " + listener.Service, Certificate: "own", target: listener})
		} else {
			attempts = append(attempts, attempt{Name: allowedAttempt + listener.Service, Certificate: "own", target: listener})
		}
	}
	events := p.ask("web-1", order{Service: "web", TokenFile: p.token("web", "web-1"), Attempts: attempts})
	if len(events) != len(attempts) {
		p.Fatalf("%d attempts, %d results", len(attempts), len(events))
	}
	for _, e := range events {
		want := e.Result == denied || e.Result == cut || strings.Contains(e.Detail, "remote error: tls: ")
		if strings.HasPrefix(e.Stream, allowedAttempt) {
			want = e.Result == served
		}
		if !want {
			p.Errorf("%s: %s %s", e.Stream, e.Result, e.Detail)
		}
		p.Logf("%-60s %s %s", e.Stream, e.Result, e.Detail)
	}
}

// allowedAttempt begins the names of the attempts that must succeed: without them
// the others would prove nothing.
const allowedAttempt = "control: web's own leaf to "

// sessions are connections of one client with one TLS session cache, made while
// the edge is allowed and, after a line on standard input, while it is denied.
type sessions struct {
	target
	Count int `json:"count"`
}

func (p *probe) sessions(ctx context.Context) error {
	if err := p.control(ctx); err != nil {
		return fmt.Errorf("a server that hands out tickets: %w", err)
	}
	p.say(event{Stream: "control", Result: served})
	cache := &ticketCounter{ClientSessionCache: tls.NewLRUClientSessionCache(0)}
	round := func(name string) {
		for range p.Sessions.Count {
			resumed, err := p.session(ctx, p.Sessions.Address, cache, p.Sessions.target.Service)
			e := event{Stream: name, Result: resultOf(err), Detail: textOf(err)}
			if resumed {
				e.Stream = "resumed"
			}
			p.say(e)
		}
	}
	round("allowed")
	line := make([]byte, 1)
	if _, err := os.Stdin.Read(line); err != nil {
		return err
	}
	round("after the deny")
	for range cache.tickets.Load() {
		p.say(event{Stream: "ticket", Result: served})
	}
	return nil
}

// ticketCounter counts the tickets that servers hand out.
type ticketCounter struct {
	tls.ClientSessionCache
	tickets atomic.Int32
}

func (c *ticketCounter) Put(key string, state *tls.ClientSessionState) {
	if state != nil {
		c.tickets.Add(1)
	}
	c.ClientSessionCache.Put(key, state)
}

// session makes one connection that resumes if it can.
func (p *probe) session(ctx context.Context, address string, cache tls.ClientSessionCache, service string) (resumed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	c, err := p.dialRaw(ctx, address, func(cfg *tls.Config) {
		cfg.ClientSessionCache, cfg.ServerName = cache, "one name for all"
	})
	if err != nil {
		return false, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(exchangeTimeout))
	err = exchange(bufio.NewReader(c), c, service)
	return c.(*tls.Conn).ConnectionState().DidResume, err
}

// control shows that this client does resume where a server lets it.
func (p *probe) control(ctx context.Context) error {
	own, err := p.identity.Credentials()
	if err != nil {
		return err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{*own.Certificate}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: own.Roots,
	})
	if err != nil {
		return err
	}
	defer listener.Close()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = bufio.NewReader(c).ReadString('\n')
			_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
			_ = c.Close()
		}
	}()
	cache := tls.NewLRUClientSessionCache(0)
	for range 2 {
		resumed, err := p.session(ctx, listener.Addr().String(), cache, "web")
		if err != nil || resumed {
			return err
		}
	}
	return errors.New("the client did not resume")
}

// sessionCacheDoesNotHelp shows that neither a ticket nor a deny leaves a way
// back in.
func sessionCacheDoesNotHelp(p *proof) {
	primary, _ := p.members()
	const count = 5
	r := p.start("web-1", order{Service: "web", TokenFile: p.token("web", "web-1"), Sessions: &sessions{
		target: target{Address: primary.Address + ":27018", Service: "mongo-primary"}, Count: count,
	}})
	results := func(events []event, name string) (results []string) {
		for _, e := range events {
			if e.Stream == name {
				results = append(results, e.Result)
			}
		}
		return results
	}
	r.await(20*time.Second, "the connections while it is allowed", func(events []event) error {
		if n := len(results(events, "allowed")) + len(results(events, "resumed")); n < count {
			return fmt.Errorf("%d of %d", n, count)
		}
		return nil
	})
	p.lab.Must("intentions", "deny", "web", "mongo-primary")
	if _, err := io.WriteString(r.input, "\n"); err != nil {
		p.Fatal(err)
	}
	events := r.stop()
	if got := results(events, "control"); len(got) != 1 {
		p.Error("the client resumes nowhere: no evidence")
	}
	if got := results(events, "ticket"); len(got) > 0 {
		p.Errorf("the listener has handed out %d session tickets", len(got))
	}
	if got := results(events, "resumed"); len(got) > 0 {
		p.Errorf("%d sessions were resumed: %s", len(got), got)
	}
	if got, want := results(events, "allowed"), slices.Repeat([]string{served}, count); !slices.Equal(got, want) {
		p.Errorf("while it is allowed: %s", got)
	}
	if got, want := results(events, "after the deny"), slices.Repeat([]string{denied}, count); !slices.Equal(got, want) {
		p.Errorf("after the deny: %s", got)
	}
}
