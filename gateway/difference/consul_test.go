package difference_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/consul"
	"sluice/gateway/proxy"
	"sluice/internal/consultest"
	"sluice/mesh"
)

// ground is a real Consul with the services of one world after the other.
type ground struct {
	*consultest.Agent
	t        *testing.T
	backends backends
	// world counts; old are the marks of the services that are registered.
	world int
	old   map[string]string
}

func newGround(t *testing.T) *ground {
	t.Helper()
	return &ground{Agent: consultest.Start(t, consultest.Config{}), t: t, backends: startBackends(t), old: map[string]string{}}
}

// next registers a world in the place of the one before. Each service has a tag
// more, by whose host it can be told that the world has arrived.
func (g *ground) next(w world) (arrived, left []request) {
	g.t.Helper()
	g.world++
	marks := map[string]string{}
	for _, s := range w.services {
		mark := fmt.Sprintf("mark-%d.%s.invalid", g.world, s.name)
		marks[s.name] = mark
		tags := []string{prefix + mark + "/ plain=true"}
		for _, t := range s.tags {
			tags = append(tags, t.registered())
		}
		host, port, _ := net.SplitHostPort(g.backends[s.name])
		number, _ := strconv.Atoi(port)
		g.Call(http.MethodPut, "/v1/agent/service/register", map[string]any{
			"ID": s.name, "Name": s.name, "Address": host, "Port": number, "Tags": tags,
			"Check": map[string]string{"CheckID": s.name, "TTL": "1h", "Status": "passing"},
		}, nil)
		arrived = append(arrived, request{host: mark, target: "/"})
	}
	for name, mark := range g.old {
		if marks[name] == "" {
			g.Call(http.MethodPut, "/v1/agent/service/deregister/"+name, nil, nil)
			left = append(left, request{host: mark, target: "/"})
		}
	}
	g.old = marks
	return arrived, left
}

// serves reports whether a proxy knows all that has arrived, and nothing of what
// has left.
func (g *ground) serves(address string, arrived, left []request) func() error {
	return func() error {
		for _, q := range arrived {
			if got, err := g.backends.trySend(address, q); err != nil || got.status != http.StatusOK {
				return fmt.Errorf("%v: %+v, %w", q, got, err)
			}
		}
		for _, q := range left {
			// A catch-all of this world may take it; the service that left may not.
			if got, err := g.backends.trySend(address, q); err != nil || got.service != "" && strings.Contains(q.host, got.service) {
				return fmt.Errorf("%v: %+v, %w", q, got, err)
			}
		}
		return nil
	}
}

// catalog follows the services as the gateway does.
func (g *ground) catalog() *consul.ResolverAll {
	g.t.Helper()
	client, err := consul.Open(consul.Config{Address: g.Address, TokenFile: g.ManagementFile(), Datacenter: datacenter})
	if err != nil {
		g.t.Fatal(err)
	}
	all := client.ResolverAllWithPlain(prefix)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = all.Run(ctx) })
	g.t.Cleanup(func() {
		cancel()
		running.Wait()
		client.Close()
	})
	return all
}

// judge asks for all of a world, and compares.
func (g *ground) judge(w world, address string, with corrections) {
	g.t.Helper()
	g.judgeBy(newModel(w, with), w, address, 0)
}

// judgeBy gives the news so long to arrive that change an answer.
func (g *ground) judgeBy(m *model, w world, address string, patience time.Duration) {
	g.t.Helper()
	for _, q := range w.requests {
		ask := func() error {
			got, err := g.backends.trySend(address, q)
			switch {
			case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
				return err
			case !got.among(m.answers(q)):
				return fmt.Errorf("got %+v\nwant one of %+v\nwith %v", got, m.answers(q), w)
			}
			return nil
		}
		g.within(patience, q, ask)
	}
}

// gateway asks one that has just begun. It begins with the world already there, or
// it would remember the routes of the one before, and answer 503 for them.
func (g *ground) gateway(catalog proxy.Catalog, w world, arrived, left []request) {
	g.t.Run(fmt.Sprint("world ", g.world), func(t *testing.T) {
		in := *g
		in.t = t
		consultest.Await(t, 10*time.Second, "the catalog has the world", func() error { return in.holds(catalog.Services()) })
		s := startGateway(t, catalog)
		consultest.Await(t, 10*time.Second, "the gateway serves the world", in.serves(s.codecs["own"], arrived, left))
		in.judge(w, s.codecs["own"], every())
	})
}

// holds reports whether a catalog has the services of the world, and no others.
func (g *ground) holds(catalog map[string][]mesh.Instance) error {
	if len(catalog) != len(g.old) {
		return fmt.Errorf("%d services, want %d", len(catalog), len(g.old))
	}
	for name, mark := range g.old {
		if len(catalog[name]) != 1 || !strings.Contains(catalog[name][0].Tags[0], mark) {
			return fmt.Errorf("%s has no mark %s", name, mark)
		}
	}
	return nil
}

func TestOverARealConsulTheGatewayAnswersAsTheModelWithEveryCorrection(t *testing.T) {
	g := newGround(t)
	catalog := g.catalog()
	for _, w := range corpus(seed) {
		arrived, left := g.next(w)
		g.gateway(catalog, w, arrived, left)
	}
}

// within asks until there is no error, and reports the last one when time is up.
func (g *ground) within(limit time.Duration, q request, ask func() error) {
	g.t.Helper()
	deadline := time.After(limit)
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			g.t.Errorf("%v: %v", q, err)
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}
