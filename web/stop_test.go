package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"sluice/internal/consultest"
	"sluice/internal/mongotest"
	"sluice/mesh"
)

// stage is where a web process is stopped: a real Consul, a real mongod, and a client
// that comes as the gateway.
type stage struct {
	*testing.T
	agent   *consultest.Agent
	member  *mongotest.Member
	system  *mongo.Client
	gateway *http.Client
	args    []string
	visitor int // the last one
}

func newStage(t *testing.T) *stage {
	agent := consultest.Start(t, consultest.Config{})
	s := &stage{T: t, agent: agent}
	s.member, s.system = startMongo(t)
	intend(agent, "gateway", "web", "allow")
	intend(agent, "web", "mongo-primary", "allow")
	intend(agent, "web", "mongo-secondary", "allow")
	startRelay(t, agent, "mongo-primary", "27018", s.member.Address)
	startRelay(t, agent, "mongo-secondary", "27019", s.member.Address)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(mongoPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.args = []string{
		"-node", agent.Node, "-address", agent.Host, "-loopback", agent.Host, "-consul", agent.Address,
		"-token-file", agent.PolicyFile(tokenRules), "-mongo-user", "web", "-mongo-password-file", password,
	}
	s.gateway = asGateway(t, agent)
	return s
}

const entries = "http://mesh/web/entries"

// start runs a web process until it has stored an entry.
func (s *stage) start() *process {
	s.Helper()
	web := startProcess(s.T, s.args...)
	plain := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	consultest.Await(s, 30*time.Second, "web is ready", answers(s.T, plain, s.ops("/readyz"), 200))
	consultest.Await(s, 10*time.Second, "the gateway reaches web", answers(s.T, s.gateway, "http://mesh/web", 200))
	addEntry(s.T, s.gateway, "http://mesh/web")
	return web
}

func (s *stage) ops(path string) string {
	return "http://" + net.JoinHostPort(s.agent.Host, "8001") + path
}

// metric waits until /metrics has a line that a pattern fits.
func (s *stage) metric(pattern string) {
	s.Helper()
	plain := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	consultest.Await(s, 10*time.Second, pattern, func() error {
		got, err := get(s.T, plain, s.ops("/metrics"), "text/plain")
		if err == nil && !regexp.MustCompile(pattern).MatchString(got.body) {
			return errors.New("no such line")
		}
		return err
	})
}

// posted is what came of a form.
type posted struct {
	answer
	header http.Header
	err    error
}

// post sends the form of an entry, as the browser of another visitor each time.
func (s *stage) post(id, title string) <-chan posted {
	done := make(chan posted, 1)
	form := url.Values{"id": {strings.Repeat(id, 32)}, "title": {title}, "body": {"of the test"}}
	request, err := http.NewRequestWithContext(s.Context(), http.MethodPost, entries, strings.NewReader(form.Encode()))
	if err != nil {
		s.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	s.visitor++
	request.Header.Set("X-Forwarded-For", fmt.Sprintf("198.51.%d.%d", s.visitor/256, s.visitor%256))
	client := *s.gateway
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	var p posted
	client.Transport = headers{s.gateway.Transport, &p.header}
	go func() {
		p.answer, p.err = do(&client, request, "text/html")
		done <- p
	}()
	return done
}

// headers keeps the header of an answer.
type headers struct {
	http.RoundTripper
	last *http.Header
}

func (h headers) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := h.RoundTripper.RoundTrip(request)
	if err == nil {
		*h.last = response.Header
	}
	return response, err
}

// leave begins a stop and returns when the catalog does not have the instance any more.
// there is a moment at which it was in it still.
func (s *stage) leave(web *process) (there time.Time) {
	s.Helper()
	began := time.Now()
	there = began
	_ = web.command.Process.Signal(syscall.SIGTERM)
	for {
		var instances []any
		asked := time.Now()
		s.agent.Call(http.MethodGet, "/v1/catalog/service/web", nil, &instances)
		if len(instances) == 0 {
			s.Logf("out of the catalog %v after SIGTERM", time.Since(began).Round(time.Millisecond))
			return there
		}
		there = asked
		if time.Since(began) > 5*time.Second {
			s.Fatal("the catalog has the instance still")
		}
	}
}

// lock has writes wait in mongod, and returns what lets them go on.
func (s *stage) lock() (unlock func()) {
	s.Helper()
	run := func(command bson.D) {
		s.Helper()
		if err := s.system.Database("admin").RunCommand(context.WithoutCancel(s.Context()), command).Err(); err != nil {
			s.Error(err)
		}
	}
	run(bson.D{{Key: "fsync", Value: 1}, {Key: "lock", Value: true}})
	locked := true
	unlock = func() {
		if locked {
			run(bson.D{{Key: "fsyncUnlock", Value: 1}})
		}
		locked = false
	}
	s.Cleanup(unlock)
	return unlock
}

// awaitWaiting waits until a write waits in mongod.
func (s *stage) awaitWaiting() {
	s.Helper()
	consultest.Await(s, 10*time.Second, "the write waits in mongod", func() error {
		var ops struct {
			InProgress []bson.M `bson:"inprog"`
		}
		err := s.system.Database("admin").RunCommand(s.Context(), bson.D{
			{Key: "currentOp", Value: 1}, {Key: "ns", Value: "blog.entries"}, {Key: "waitingForLock", Value: true},
		}).Decode(&ops)
		if err == nil && len(ops.InProgress) == 0 {
			return errors.New("no such operation")
		}
		return err
	})
}

// gone holds that a stop ends well.
func (s *stage) gone(web *process) {
	s.Helper()
	if code := web.wait(s.T, 10*time.Second); code != 0 {
		s.Errorf("exit code %d after SIGTERM", code)
	}
}

// refused holds that a form came back filled in, with words on what became of it.
func (s *stage) refused(p posted, id, title, kind string, texts ...string) {
	s.Helper()
	for _, text := range append(texts, `value="`+strings.Repeat(id, 32)+`"`, `value="`+title+`"`, "of the test</textarea>") {
		if !strings.Contains(p.body, text) {
			s.Errorf("no %q in the answer", text)
		}
	}
	if p.err != nil || p.status != 503 || p.header.Get("Retry-After") == "" {
		s.Errorf("%v: %d, Retry-After %q: %s; want 503 %s", p.err, p.status, p.header.Get("Retry-After"), p.body, kind)
	}
}

func TestAStopLosesNothing(t *testing.T) {
	s := newStage(t)
	for _, claim := range []struct {
		name string
		hold func(*stage)
	}{
		{"a request in flight ends after the instance has left the catalog", inFlight},
		{"a request of somebody who has not heard of it yet is served", justAfter},
		{"a write that is not answered in time comes back as not known, with the form", unanswered},
		{"a write that is held comes back as refused at once, with the form", heldWrite},
	} {
		t.Run(claim.name, func(t *testing.T) {
			one := *s
			one.T = t
			claim.hold(&one)
		})
	}
}

func inFlight(s *stage) {
	web := s.start()
	unlock := s.lock()
	done := s.post("a", "In flight")
	s.awaitWaiting()
	s.leave(web)
	select {
	case p := <-done:
		s.Fatalf("it ended before the instance had left: %v, %d %s", p.err, p.status, p.body)
	default:
	}
	unlock()
	if p := <-done; p.err != nil || p.status != http.StatusSeeOther {
		s.Errorf("%v: %d %s", p.err, p.status, p.body)
	}
	s.gone(web)
}

// justAfter cannot see the moment from which on afterLeaving is counted. It knows that the
// instance was in the catalog before it: what fails less than afterLeaving later failed too
// early, and what fails later shows nothing, as on a machine that lets the test wait.
func justAfter(s *stage) {
	for range 5 {
		web := s.start() // and a connection that is kept
		there := s.leave(web)
		served := 0
		for served == 0 || time.Since(there) < afterLeaving/2 {
			p := <-s.post("b", "Just after")
			if p.err == nil && p.status == http.StatusSeeOther {
				served++
				continue
			}
			if after := time.Since(there); after < afterLeaving {
				s.Fatalf("%v after the catalog had it: %v: %d %s", after, p.err, p.status, p.body)
			}
			break
		}
		s.gone(web)
		if served > 0 {
			return
		}
	}
	s.Skip("this machine is too busy: no request came in time")
}

func unanswered(s *stage) {
	web := s.start()
	unlock := s.lock()
	done := s.post("c", "Not answered")
	s.awaitWaiting()
	s.leave(web)
	s.refused(<-done, "c", "Not answered", "stopping", "This instance is being stopped", "Whether your entry is stored is not known")
	s.gone(web)
	unlock()
	web = s.start()
	if p := <-s.post("c", "Not answered"); p.err != nil || p.status != http.StatusSeeOther {
		s.Errorf("sent again: %v: %d %s", p.err, p.status, p.body)
	}
	if n, err := s.system.Database("blog").Collection("entries").CountDocuments(s.Context(), bson.D{{Key: "title", Value: "Not answered"}}); err != nil || n != 1 {
		s.Errorf("%d are stored, %v; want one", n, err)
	}
	s.leave(web)
	s.gone(web)
}

func heldWrite(s *stage) {
	web := s.start()
	s.member.Kill(s.T)
	plain := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	consultest.Await(s, 20*time.Second, "nobody is primary", func() error {
		got, err := get(s.T, plain, s.ops("/mesh"), "application/json")
		if err == nil && !strings.Contains(got.body, mesh.ErrNoInstance.Error()) {
			return fmt.Errorf("%s", got.body)
		}
		return err
	})
	done := s.post("d", "Held")
	s.metric(`web_upstream_held\{destination="mongo-primary"\} [1-9]`)
	select {
	case p := <-done:
		s.Fatalf("it was not held: %v, %d %s", p.err, p.status, p.body)
	default:
	}
	s.leave(web)
	s.refused(<-done, "d", "Held", "no_instance", "No healthy instance of mongo-primary. Nothing was stored; what you typed is below.")
	s.gone(web)
}
