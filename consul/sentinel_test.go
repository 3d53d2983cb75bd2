package consul

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/consultest"
	"sluice/internal/testca"
	"sluice/mesh"
)

// fakeCA is an agent that serves the leaf and the roots of a test, with blocking
// queries, and can fail the Connect SDK alone.
type fakeCA struct {
	mu        sync.Mutex
	index     int
	leaf      map[string]string
	roots     map[string]any
	news      chan struct{}
	refuseSDK bool
	// lying says that the roots are a lie, lied counts how often the SDK was told it.
	lying bool
	lied  int
	done  chan struct{}
}

func newFakeCA(t *testing.T) (*fakeCA, string) {
	t.Helper()
	fake := &fakeCA{index: 1, news: make(chan struct{}), done: make(chan struct{})}
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(fake.done) })
	return fake, strings.TrimPrefix(server.URL, "http://")
}

// serve changes what is answered from now on.
func (f *fakeCA) serve(t *testing.T, ca *testca.CA, leaf testca.Leaf, roots ...*testca.CA) {
	t.Helper()
	chain, key := testca.LeafPEM(t, ca.Leaf(t, leaf))
	list := make([]map[string]any, 0, len(roots))
	for _, root := range roots {
		list = append(list, map[string]any{"ID": root.PEM(), "RootCert": root.PEM()})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index++
	f.leaf = map[string]string{"CertPEM": chain, "PrivateKeyPEM": key}
	f.roots = map[string]any{"TrustDomain": ca.TrustDomain, "Roots": list}
	close(f.news)
	f.news = make(chan struct{})
}

// lie answers something else in place of the roots from now on.
func (f *fakeCA) lie(roots map[string]any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index++
	f.roots, f.lying = roots, true
	close(f.news)
	f.news = make(chan struct{})
}

// told returns nil when the SDK was told a lie.
func (f *fakeCA) told() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lied == 0 {
		return errors.New("not yet")
	}
	return nil
}

// failSDK makes every request of the SDK fail, or ends that.
func (f *fakeCA) failSDK(fail bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuseSDK = fail
}

func (f *fakeCA) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	asked, _ := strconv.Atoi(r.URL.Query().Get("index"))
	// Our own watches say how long they wait, the SDK's do not.
	sdk := r.URL.Query().Get("wait") == ""
	for {
		f.mu.Lock()
		index, leaf, roots, news, refuse := f.index, f.leaf, f.roots, f.news, f.refuseSDK
		f.mu.Unlock()
		if sdk && refuse {
			http.Error(w, "rpc error", http.StatusInternalServerError)
			return
		}
		if leaf != nil && index > asked {
			w.Header().Set("X-Consul-Index", strconv.Itoa(index))
			var body any = leaf
			if strings.HasSuffix(r.URL.Path, "/roots") {
				body = roots
			}
			_ = json.NewEncoder(w).Encode(body)
			f.mu.Lock()
			if sdk && f.lying && strings.HasSuffix(r.URL.Path, "/roots") {
				f.lied++
			}
			f.mu.Unlock()
			return
		}
		select {
		case <-news:
		case <-r.Context().Done():
			return
		case <-f.done:
			return
		}
	}
}

const testDomain = "11111111-2222-3333-4444-555555555555.consul"

// follow starts an identity of web against a fake.
func follow(t *testing.T, address string, change func(*Config)) *Identity {
	t.Helper()
	cfg := Config{Address: address}
	if change != nil {
		change(&cfg)
	}
	client, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	identity := client.Identity("web")
	running(t, identity.Run)
	return identity
}

func TestALeafFromAnIntermediateIsReady(t *testing.T) {
	fake, address := newFakeCA(t)
	root := testca.NewRoot(t, testDomain)
	fake.serve(t, root.Intermediate(t, "dc2"), testca.Leaf{Datacenter: "dc2", Service: "web"}, root)
	identity := follow(t, address, func(c *Config) { c.Datacenter = "dc2" })
	if err := identity.Wait(within(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	if identity.current.Load().service.Ready() {
		t.Error("the SDK's own Ready has learned about intermediates: ours may be its again")
	}
}

func TestALeafThatPeersWouldRefuseIsNotReady(t *testing.T) {
	root, other := testca.NewRoot(t, testDomain), testca.NewRoot(t, testDomain)
	good := testca.Leaf{Datacenter: "dc1", Service: "web"}
	for name, test := range map[string]struct {
		leaf   testca.Leaf
		root   *testca.CA
		now    time.Duration
		reason string
	}{
		"expired":            {leaf: good, root: root, now: 1000 * time.Hour, reason: "expired"},
		"not yet valid":      {leaf: good, root: root, now: -1000 * time.Hour, reason: "not yet valid"},
		"of another service": {leaf: testca.Leaf{Datacenter: "dc1", Service: "db"}, root: root, reason: "for service db"},
		"of another place":   {leaf: testca.Leaf{Datacenter: "dc2", Service: "web"}, root: root, reason: "datacenter dc2"},
		"of another domain":  {leaf: testca.Leaf{Datacenter: "dc1", Service: "web", TrustDomain: "other.consul"}, root: root, reason: "trust domain other.consul"},
		"from another root":  {leaf: good, root: other, reason: "unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			fake, address := newFakeCA(t)
			fake.serve(t, root, test.leaf, test.root)
			identity := follow(t, address, func(c *Config) {
				c.Datacenter = "dc1"
				c.Now = func() time.Time { return time.Now().Add(test.now) }
			})
			consultest.Await(t, 5*time.Second, "refused for the right reason", func() error {
				err := identity.Ready()
				if !errors.Is(err, mesh.ErrNotReady) || !strings.Contains(err.Error(), test.reason) {
					return unequal("the reason", err, test.reason)
				}
				return nil
			})
		})
	}
}

func TestAnSDKThatLagsIsReplaced(t *testing.T) {
	fake, address := newFakeCA(t)
	root := testca.NewRoot(t, testDomain)
	fake.serve(t, root, testca.Leaf{Datacenter: "dc1", Service: "web"}, root)
	identity := follow(t, address, nil)
	if err := identity.Wait(within(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	first := identity.current.Load()
	before, err := identity.Credentials()
	if err != nil {
		t.Fatal(err)
	}
	// The SDK's watches fail once and then wait 5 s; the news comes meanwhile.
	fake.failSDK(true)
	next := testca.NewRoot(t, testDomain)
	fake.serve(t, next, testca.Leaf{Datacenter: "dc1", Service: "web"}, root, next)
	consultest.Await(t, 2*time.Second, "the sentinel sees it", func() error {
		if identity.leaf.State().Value.certificate.Equal(before.Certificate.Leaf) {
			return errors.New("not yet")
		}
		return nil
	})
	if now, err := identity.Credentials(); err != nil || now.Certificate != before.Certificate {
		t.Errorf("while the SDK lags the old credentials serve on: %v", err)
	}
	fake.failSDK(false)
	took := consultest.Await(t, 4*time.Second, "the new leaf is served before the SDK would have asked again", func() error {
		now, err := identity.Credentials()
		if err != nil || now.Certificate.Leaf.Equal(before.Certificate.Leaf) {
			return errors.Join(errors.New("still the old leaf"), err)
		}
		return identity.Ready()
	})
	if identity.current.Load() == first {
		t.Error("the SDK's service was not replaced: the test does not show what it says")
	}
	t.Logf("served %s after the SDK could be asked again", took)
}
