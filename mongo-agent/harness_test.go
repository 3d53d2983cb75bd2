package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	driver "go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.uber.org/goleak"

	"sluice/consul"
	"sluice/internal/meshtest"
	"sluice/internal/mongotest"
	"sluice/internal/service"
	"sluice/mesh"
	"sluice/mongo-agent/mongod"
	"sluice/mongo-agent/replset"
	"sluice/mongo-agent/role"
)

// processVariable makes the test binary be mongo-agent itself.
const processVariable = "MONGO_AGENT_TEST_PROCESS"

func TestMain(m *testing.M) {
	if os.Getenv(processVariable) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// subnet returns a function that gives node numbers their addresses, in a part
// of 127/8 that other tests hardly hit.
func subnet() func(n int) netip.Addr {
	a, b := byte(64+rand.IntN(60)), byte(1+rand.IntN(250))
	return func(n int) netip.Addr { return netip.AddrFrom4([4]byte{127, a, b, byte(n)}) }
}

// entry is one call of an agent to its registrar, and what was true on the wire
// in that moment.
type entry struct {
	do        string
	service   string
	term      string
	primary   bool // the port of mongo-primary accepts
	secondary bool
}

// catalog is the registrar of one agent: it writes to the world's catalog and
// remembers the order of things.
type catalog struct {
	world   *meshtest.World
	node    string
	address netip.Addr

	mu      sync.Mutex
	have    map[string]mesh.Instance
	history []entry
}

func (c *catalog) Set(r consul.Registration) {
	instance := c.world.Instance(r.Name, c.node, net.JoinHostPort(r.Address, strconv.Itoa(r.Port)))
	instance.Meta = r.Meta
	c.mu.Lock()
	defer c.mu.Unlock()
	c.history = append(c.history, c.witness("register", r.Name, r.Meta["term"]))
	if old, ok := c.have[r.ID]; ok {
		c.world.Catalog.Remove(old)
	}
	c.have[r.ID] = instance
	c.world.Catalog.Add(instance)
}

func (c *catalog) Remove(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.have[id]; ok {
		c.history = append(c.history, c.witness("deregister", old.ID.Service(), ""))
		c.world.Catalog.Remove(old)
		delete(c.have, id)
	}
}

func (c *catalog) Pass(string, string)        {}
func (c *catalog) Wait(context.Context) error { return nil }

func (c *catalog) witness(do, name, term string) entry {
	return entry{do: do, service: name, term: term, primary: c.accepts(primaryPort), secondary: c.accepts(secondaryPort)}
}

func (c *catalog) accepts(port int) bool {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(c.address.String(), strconv.Itoa(port)), time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func (c *catalog) entries() []entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]entry(nil), c.history...)
}

// store is Consul's lock and key-value part, shared by all agents of a test.
type store struct {
	lock   sync.Mutex
	mu     sync.Mutex
	values map[string][]byte
}

func (s *store) WithLock(ctx context.Context, _ string, fn func(context.Context) error) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	return fn(ctx)
}

func (s *store) KVGet(_ context.Context, key string) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.values[key]
	return v, ok, nil
}

func (s *store) KVPut(_ context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values == nil {
		s.values = map[string][]byte{}
	}
	s.values[key] = value
	return nil
}

// cluster is a replica set with an agent beside each member.
type cluster struct {
	t      *testing.T
	world  *meshtest.World
	set    *mongotest.Set
	key    mongod.Secret
	store  *store
	agents []*running
}

type running struct {
	*agent
	catalog *catalog
	stop    func() error
}

// clusterConfig says how the agents run. The zero value is three members, flat.
type clusterConfig struct {
	mongo mongotest.Config
	// names are the members' names where they are not mongod's own addresses;
	// then the agents carry the replication.
	names []string
}

func startCluster(t *testing.T, cfg clusterConfig) *cluster {
	t.Helper()
	set := mongotest.Start(t, cfg.mongo)
	key, err := mongod.ReadKey(set.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, world: meshtest.New(t), set: set, key: key, store: &store{}}
	c.world.Policy.Set(meshtest.Allow("web", primaryService), meshtest.Allow("web", secondaryService), meshtest.Allow(replService, replService))
	names := cfg.names
	if names == nil {
		names = set.Addresses()
	}
	var members []member
	for i, name := range names {
		members = append(members, member{"mongo-" + strconv.Itoa(i+1), name, "dc1"})
	}
	address := subnet()
	for i, m := range members {
		o := optionsFor(m.Node, address(i+1), set, members)
		o.Mongod, o.Flat = set.Members[i].Address, cfg.names == nil
		c.agents = append(c.agents, c.start(o))
	}
	return c
}

func optionsFor(node string, address netip.Addr, set *mongotest.Set, members []member) options {
	o := options{Members: members, Set: set.Name, KeyFile: set.KeyFile, AppUser: "web", Profile: profileFast}
	o.profile, _ = profileNamed(profileFast)
	o.Common = service.Common{Node: node, Datacenter: "dc1", Address: address, Loopback: address, ConsulAddress: "-", LogLevel: "info", LogFormat: "text"}
	return o
}

// start runs an agent as the process would, with the world in Consul's place.
func (c *cluster) start(o options) *running {
	c.t.Helper()
	logger := slog.New(slog.NewTextHandler(c.t.Output(), nil)).With("node", o.Node)
	registrations := &catalog{world: c.world, node: o.Node, address: o.Address, have: map[string]mesh.Instance{}}
	n := network{
		Credentials: map[string]mesh.CredentialSource{}, Policies: map[string]mesh.PolicySource{},
		Resolver: c.world.Catalog, Registrar: registrations, Store: c.store,
	}
	services := []string{primaryService, secondaryService, replService}
	n.ReplSource = c.world.Policy
	for _, name := range services {
		n.Credentials[name], n.Policies[name] = c.world.Credentials(name), c.world.Policy
	}
	var built *agent
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- assemble(ctx, assembly{
			options: o, key: c.key, password: mongod.NewSecret("secret of the web"), network: n, logger: logger,
			group: &service.Group{Logger: logger}, registrar: idle{},
			built: func(a *agent) { built = a; close(ready) },
		})
	}()
	select {
	case <-ready:
	case err := <-done:
		c.t.Fatalf("start agent of %s: %v", o.Node, err)
	}
	r := &running{agent: built, catalog: registrations}
	r.stop = sync.OnceValue(func() error { cancel(); return <-done })
	c.t.Cleanup(func() {
		if err := r.stop(); err != nil {
			c.t.Errorf("agent of %s: %v", o.Node, err)
		}
	})
	return r
}

// idle is an actor that has nothing to do.
type idle struct{}

func (idle) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// await waits until exactly one agent's member is primary and all others of the
// given ones are secondary, and returns the primary's.
func (c *cluster) await(t *testing.T, agents ...*running) *running {
	t.Helper()
	var primary *running
	mongotest.Wait(t, 30*time.Second, "one primary, the others secondary", func(context.Context) error {
		primary = nil
		for _, a := range agents {
			s, _ := a.board.Snapshot()
			switch {
			case s.State == role.Primary && primary == nil:
				primary = a
			case s.State != role.Secondary:
				return fmt.Errorf("%s is %v (%s)", a.Node, s.State, s.Reason)
			}
		}
		if primary == nil {
			return fmt.Errorf("nobody is primary")
		}
		// The role is known a moment before its door opens.
		conn, err := c.reach(primary, primaryService, primaryPort)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	return primary
}

// awaitComplete waits until the set was marked as complete.
func (c *cluster) awaitComplete(t *testing.T) {
	t.Helper()
	mongotest.Wait(t, 30*time.Second, "the set is complete", func(ctx context.Context) error {
		if _, done, _ := c.store.KVGet(ctx, replset.DoneKey(c.set.Name)); !done {
			return fmt.Errorf("no mark")
		}
		return nil
	})
}

func (c *cluster) others(not *running) []*running {
	var others []*running
	for _, a := range c.agents {
		if a != not {
			others = append(others, a)
		}
	}
	return others
}

func (c *cluster) member(a *running) *mongotest.Member { return c.set.Member(c.t, a.Mongod) }

// reach dials one agent's service as web.
func (c *cluster) reach(a *running, name string, port int) (*mesh.Conn, error) {
	dialer := c.world.Dialer("web", nil)
	return dialer.DialInstance(c.t.Context(), c.world.Instance(name, a.Node, a.Listen(port)))
}

// client is a MongoDB client that comes as web through the mesh, with or without
// a password.
func (c *cluster) client(a *running, name string, port int, credential *driver.Credential) *mongo.Client {
	c.t.Helper()
	opts := driver.Client().SetHosts([]string{"mesh:27017"}).SetDirect(true).
		SetDialer(viaMesh(func(ctx context.Context) (net.Conn, error) { return c.reach(a, name, port) })).
		SetServerSelectionTimeout(5 * time.Second).SetRetryWrites(false)
	if credential != nil {
		opts.SetAuth(*credential)
	}
	client, err := mongo.Connect(opts)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { mongod.Close(client) })
	return client
}

type viaMesh func(ctx context.Context) (net.Conn, error)

func (v viaMesh) DialContext(ctx context.Context, _, _ string) (net.Conn, error) { return v(ctx) }

// system runs a command on a member as the set's internal user.
func (c *cluster) system(address string, command bson.D) error {
	client, err := mongod.System(address, c.key)
	if err != nil {
		return err
	}
	defer mongod.Close(client)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return mongod.Admin(ctx, client, command, nil)
}
