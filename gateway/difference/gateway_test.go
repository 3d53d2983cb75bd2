package difference_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/gateway/proxy"
	"sluice/gateway/tcp"
	"sluice/internal/meshtest"
	"sluice/mesh"
)

// backends are the services, each on a port of its own; they tell what they saw.
type backends map[string]string

func startBackends(t *testing.T) backends {
	t.Helper()
	all := backends{}
	for i := range services {
		name := serviceName(i)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = json.NewEncoder(w).Encode([]string{name, r.Host, r.RequestURI})
		}))
		t.Cleanup(server.Close)
		all[name] = server.Listener.Addr().String()
	}
	return all
}

// send sends a request byte by byte as it is, and returns what came of it.
func (b backends) send(t *testing.T, address string, q request) seen {
	t.Helper()
	got, err := b.trySend(address, q)
	if err != nil {
		t.Fatalf("%v: %v", q, err)
	}
	return got
}

func (b backends) trySend(address string, q request) (seen, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return seen{}, err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	head := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", q.target, q.host)
	if q.forwarded != "" {
		head += "X-Forwarded-For: " + q.forwarded + "\r\n"
	}
	if _, err := io.WriteString(conn, head+"\r\n"); err != nil {
		return seen{}, err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return seen{}, err
	}
	defer func() { _ = response.Body.Close() }()
	got := seen{status: response.StatusCode, location: response.Header.Get("Location")}
	if response.StatusCode != http.StatusOK {
		_, err = io.Copy(io.Discard, response.Body)
		return got, err
	}
	var told []string
	if err := json.NewDecoder(response.Body).Decode(&told); err != nil || len(told) != 3 {
		return seen{}, fmt.Errorf("a service says %q: %w", told, err)
	}
	got.service, got.host, got.uri = told[0], told[1], told[2]
	if got.host == b[got.service] {
		got.host = "dst-" + got.service
	}
	return got, nil
}

// shelf is a catalog that is exchanged as a whole.
type shelf struct {
	mu       sync.Mutex
	services map[string][]mesh.Instance
	changed  chan struct{}
}

func (s *shelf) Services() map[string][]mesh.Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.services
}

func (s *shelf) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *shelf) set(services map[string][]mesh.Instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.services = services
	close(s.changed)
	s.changed = make(chan struct{})
}

// instances are those of a world.
func (b backends) instances(t *testing.T, w world) map[string][]mesh.Instance {
	t.Helper()
	all := map[string][]mesh.Instance{}
	for _, s := range w.services {
		var tags []string
		for _, tag := range s.tags {
			tags = append(tags, tag.registered())
		}
		all[s.name] = []mesh.Instance{{ServiceID: s.name, Node: "node", Address: b[s.name], Tags: tags}}
	}
	return all
}

// sides are the gateway's two codecs over one proxy.
type sides struct {
	*proxy.Proxy
	codecs map[string]string // addresses
}

// startGateway runs a gateway that calls plain instances.
func startGateway(t *testing.T, catalog proxy.Catalog) *sides {
	t.Helper()
	s := &sides{codecs: map[string]string{}}
	s.Proxy = proxy.New(proxy.Config{
		Catalog: catalog, Datacenter: datacenter, AllowPlain: true, SlowStart: -1, Registerer: prometheus.NewRegistry(),
	})
	ctx, cancel := context.WithCancel(context.Background())
	std := httptest.NewServer(s.Proxy)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.codecs["std"], s.codecs["own"] = std.Listener.Addr().String(), listener.Addr().String()
	handoff := tcp.NewHandoff(listener.Addr())
	fallback := &http.Server{Handler: s.Proxy, ReadHeaderTimeout: time.Second}
	own := s.Own(proxy.OwnConfig{Fallback: func(c net.Conn) { handoff.Give(c) }})
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	running.Go(func() { _ = fallback.Serve(handoff) })
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { own.Serve(ctx, conn, proxy.Connection{}) })
		}
	})
	t.Cleanup(func() {
		std.Close()
		cancel()
		_, _, _ = listener.Close(), fallback.Close(), handoff.Close()
		running.Wait()
	})
	return s
}

// seed makes the generated part of the corpus.
const seed = 20261

func TestEachAnswerIsFabiosExceptForTheDifferencesThatAreListed(t *testing.T) {
	services := startBackends(t)
	pairs, shown := 0, map[correction]int{}
	for _, w := range corpus(seed) {
		catalog := &shelf{services: services.instances(t, w), changed: make(chan struct{})}
		gateway := startGateway(t, catalog)
		meshtest.Wait(t, "the catalog is read", func() bool { return gateway.Table().Len()+len(gateway.Table().Problems()) > 0 })
		for _, q := range w.requests {
			pairs++
			for codec, address := range gateway.codecs {
				got := services.send(t, address, q)
				why, ok := explain(w, q, got)
				if all := newModel(w, every()).answers(q); !ok || !got.among(all) {
					t.Errorf("%v by the codec %s:\n got %+v\nwant one of %+v\nwith %v", q, codec, got, all, w)
				}
				for c := range why {
					shown[c]++
				}
			}
		}
	}
	if pairs < 400 {
		t.Errorf("%d pairs, want at least 400", pairs)
	}
	for c, d := range differences() {
		if shown[correction(c)] == 0 {
			t.Errorf("no request shows the difference %q: strike it from the list, or ask for it", d.what)
		}
	}
	t.Logf("%d pairs through each codec; differences shown: %v", pairs, shown)
}

func TestARouteWhoseInstancesWentIsUnavailableAndNotUnknown(t *testing.T) {
	services := startBackends(t)
	w := world{services: []service{{serviceName(0), []routeTag{{path: "/a"}}}}}
	catalog := &shelf{services: services.instances(t, w), changed: make(chan struct{})}
	gateway := startGateway(t, catalog)
	q := request{host: "a.test", target: "/a"}
	meshtest.Wait(t, "the route serves", func() bool { return services.send(t, gateway.codecs["own"], q).status == 200 })
	catalog.set(map[string][]mesh.Instance{})
	meshtest.Wait(t, "the instance is gone", func() bool { return services.send(t, gateway.codecs["own"], q).status != 200 })
	if got := services.send(t, gateway.codecs["own"], q).status; got != http.StatusServiceUnavailable {
		t.Errorf("%d, want 503", got)
	}
}
