package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	driver "go.mongodb.org/mongo-driver/v2/mongo/options"

	"sluice/consul"
	"sluice/internal/consultest"
	"sluice/internal/mongotest"
	"sluice/mesh"
	"sluice/mongo-agent/mongod"
)

// process is a mongo-agent process.
type process struct {
	node    string
	command *exec.Cmd
	output  *bytes.Buffer
	exited  chan struct{}
}

// startProcess runs this test's binary as mongo-agent.
func startProcess(t *testing.T, node string, args ...string) *process {
	t.Helper()
	p := &process{node: node, output: &bytes.Buffer{}, exited: make(chan struct{})}
	p.command = exec.Command(os.Args[0], args...)
	p.command.Env = append(os.Environ(), processVariable+"=1")
	p.command.Stderr = p.output
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.command.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.command.Process.Kill()
		<-p.exited
		if t.Failed() {
			t.Logf("%s:\n%s", p.node, p.output)
		}
	})
	return p
}

// drain sends SIGTERM and returns the exit code and how long it took.
func (p *process) drain(t *testing.T) (code int, took time.Duration) {
	t.Helper()
	started := time.Now()
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: no exit within 10 s", p.node)
	}
	return p.command.ProcessState.ExitCode(), time.Since(started)
}

const agentRules = `
node_prefix "" { policy = "read" }
service "mongo-primary" { policy = "write" }
service "mongo-secondary" { policy = "write" }
service "mongo-repl" { policy = "write" }
key_prefix "sluice/mongo/" { policy = "write" }
session_prefix "" { policy = "write" }
`

func intend(a *consultest.Agent, destination string, sources ...string) {
	type source struct{ Name, Action string }
	var allowed []source
	for _, s := range sources {
		allowed = append(allowed, source{s, "allow"})
	}
	a.Call(http.MethodPut, "/v1/config", map[string]any{"Kind": "service-intentions", "Name": destination, "Sources": allowed}, nil)
}

type health struct {
	Service struct {
		ID      string
		Address string
		Meta    map[string]string
	}
}

// passing returns the passing Connect instances of a service.
func passing(a *consultest.Agent, name string) []health {
	var found []health
	a.Call(http.MethodGet, "/v1/health/connect/"+name+"?passing", nil, &found)
	return found
}

// TestProcessesAgainstARealConsul runs two nodes, each with a Consul agent, a
// mongod and a mongo-agent process of its own; replication crosses the mesh.
func TestProcessesAgainstARealConsul(t *testing.T) {
	server := consultest.Start(t, consultest.Config{Node: "mongo-1"})
	second := consultest.Start(t, consultest.Config{Node: "mongo-2", Join: server})
	intend(server, primaryService, "web")
	intend(server, secondaryService, "web")
	intend(server, replService, replService)

	host := subnet()
	set := mongotest.Start(t, mongotest.Config{Addresses: []string{mongotest.FreeAddress(t, "127.0.0.1"), mongotest.FreeAddress(t, "127.0.0.1")}})
	members := []string{
		"mongo-1=" + mongotest.FreeAddress(t, host(101).String()),
		"mongo-2=" + mongotest.FreeAddress(t, host(102).String()),
	}
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret of the web\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func(i int, agent *consultest.Agent) *process {
		address := host(i + 1).String()
		return startProcess(t, agent.Node,
			"-node", agent.Node, "-address", address, "-loopback", address,
			"-consul", agent.Address, "-token-file", server.PolicyFile(agentRules), "-log-format", "text",
			"-mongod", set.Members[i].Address, "-member", members[0], "-member", members[1],
			"-key-file", set.KeyFile, "-app-user", "web", "-app-password-file", password)
	}
	started := time.Now()
	agents := []*process{start(0, server), start(1, second)}

	awaitCatalog(t, server, "mongo-primary-mongo-1", "mongo-secondary-mongo-2")
	t.Logf("both roles in the catalog after %v", time.Since(started))
	web := newWeb(t, server)
	t.Run("web finds the primary through Consul and writes", func(t *testing.T) { web.write(t, set) })
	t.Run("a step-down moves the roles", func(t *testing.T) {
		key, err := mongod.ReadKey(set.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		awaitVotes(t, set, key)
		c := &cluster{t: t, key: key}
		before := passing(server, primaryService)[0].Service.Meta["term"]
		if err := c.system(set.Members[0].Address, bson.D{{Key: "replSetStepDown", Value: 6}, {Key: "secondaryCatchUpPeriodSecs", Value: 5}}); err != nil {
			t.Fatal(err)
		}
		stepped := time.Now()
		awaitCatalog(t, server, "mongo-primary-mongo-2", "mongo-secondary-mongo-1")
		t.Logf("roles moved in the catalog after %v", time.Since(stepped))
		if after := passing(server, primaryService)[0].Service.Meta["term"]; after == before {
			t.Errorf("term %s, was %s", after, before)
		}
		web.write(t, set)
	})
	t.Run("SIGTERM takes the instances back and exits with 0", func(t *testing.T) {
		for _, p := range []*process{agents[1], agents[0]} {
			code, took := p.drain(t)
			if code != 0 || took > 5*time.Second {
				t.Errorf("%s: exit code %d after %v", p.node, code, took)
			}
			t.Logf("%s drained in %v", p.node, took)
		}
		for _, name := range []string{primaryService, secondaryService, replService} {
			consultest.Await(t, 5*time.Second, name+" is gone", func() error {
				if left := passing(server, name); len(left) > 0 {
					return fmt.Errorf("%+v", left)
				}
				return nil
			})
		}
	})
	t.Run("no secret is in any output", func(t *testing.T) {
		key, _ := mongod.ReadKey(set.KeyFile)
		for _, p := range agents {
			for _, secret := range []string{"secret of the web", key.Reveal()} {
				if strings.Contains(p.output.String(), secret) {
					t.Errorf("%s logged a secret", p.node)
				}
			}
		}
	})
}

func awaitCatalog(t *testing.T, a *consultest.Agent, primary, secondary string) {
	t.Helper()
	consultest.Await(t, 40*time.Second, primary+" and "+secondary+" are passing, alone", func() error {
		for name, want := range map[string]string{primaryService: primary, secondaryService: secondary} {
			found := passing(a, name)
			if len(found) != 1 || found[0].Service.ID != want {
				return fmt.Errorf("%s: %+v", name, found)
			}
			if meta := found[0].Service.Meta; meta["set"] != "consuldemo" || meta["member"] == "" || meta["term"] == "" {
				return fmt.Errorf("%s: meta %v", name, meta)
			}
		}
		return nil
	})
}

func awaitVotes(t *testing.T, set *mongotest.Set, key mongod.Secret) {
	t.Helper()
	client, err := mongod.System(set.Members[0].Address, key)
	if err != nil {
		t.Fatal(err)
	}
	defer mongod.Close(client)
	mongotest.Wait(t, 20*time.Second, "every member votes", func(ctx context.Context) error {
		var status struct {
			Voting int `bson:"votingMembersCount"`
		}
		err := mongod.Admin(ctx, client, bson.D{{Key: "replSetGetStatus", Value: 1}}, &status)
		if err == nil && status.Voting != len(set.Members) {
			err = fmt.Errorf("%d", status.Voting)
		}
		return err
	})
}

// web dials as web, with Consul's certificates and catalog.
type web struct{ dialer *mesh.Dialer }

func newWeb(t *testing.T, a *consultest.Agent) web {
	t.Helper()
	client, err := consul.Open(consul.Config{
		Address: a.Address, TokenFile: a.ServiceFile("web"), Datacenter: "dc1", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	identity, resolver := client.Identity("web"), client.Resolver(primaryService)
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { _ = identity.Run(ctx) })
	group.Go(func() { _ = resolver.Run(ctx) })
	t.Cleanup(func() { cancel(); group.Wait() })
	ready, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	if err := identity.Wait(ready); err != nil {
		t.Fatal(err)
	}
	return web{mesh.NewDialer(mesh.DialerConfig{Credentials: identity, Resolver: resolver, Table: mesh.NewTable(time.Now)})}
}

func (w web) write(t *testing.T, set *mongotest.Set) {
	t.Helper()
	client, err := mongo.Connect(driver.Client().SetHosts([]string{"mesh:27017"}).SetDirect(true).SetAuth(*webUser()).
		SetServerSelectionTimeout(5 * time.Second).
		SetDialer(viaMesh(func(ctx context.Context) (net.Conn, error) { return w.dialer.Dial(ctx, primaryService) })))
	if err != nil {
		t.Fatal(err)
	}
	defer mongod.Close(client)
	mongotest.Wait(t, 20*time.Second, "web may write", func(ctx context.Context) error {
		_, err := client.Database("blog").Collection("entries").InsertOne(ctx, bson.D{{Key: "by", Value: "web"}})
		return err
	})
}

func TestCommandLineIsChecked(t *testing.T) {
	good := map[string]string{
		"-node": "mongo-1", "-address": "198.18.1.21", "-mongod": "127.0.10.1:27017",
		"-member": "mongo-1=127.0.10.1:27017", "-key-file": "key",
	}
	tests := map[string]struct{ flag, value, want string }{
		"mongod that other nodes reach": {"-mongod", "198.18.1.21:27017", "loopback"},
		"mongod without a port":         {"-mongod", "127.0.10.1", "IP:port"},
		"no key file":                   {"-key-file", "", "-key-file"},
		"own node is no member":         {"-node", "mongo-9", "mongo-9"},
		"member that other nodes reach": {"-member", "mongo-1=198.18.1.21:27017", "loopback"},
		"member without a node":         {"-member", "127.0.10.1:27017", "node=host:port"},
		"user without a password":       {"-app-user", "web", "-app-password-file"},
	}
	parse := func(flag, value string) error {
		var args []string
		for f, v := range good {
			if f != flag {
				args = append(args, f, v)
			}
		}
		if flag != "" {
			args = append(args, flag, value)
		}
		_, err := parseOptions(args, &bytes.Buffer{})
		return err
	}
	if err := parse("", ""); err != nil {
		t.Errorf("good command line: %v", err)
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := parse(test.flag, test.value); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q in it", err, test.want)
			}
		})
	}
}

func TestOwnAndOtherMembers(t *testing.T) {
	o := options{Members: []member{{"a", "127.0.10.1:1", "dc1"}, {"b", "127.0.10.2:1", "dc1"}, {"c", "127.0.10.3:1", "dc2"}}}
	o.Node, o.Address, o.Datacenter = "b", netip.MustParseAddr("127.0.0.1"), "dc1"
	if o.own().Address != "127.0.10.2:1" || len(o.others()) != 2 || o.initiates() || len(o.Members) != 3 || len(o.founders()) != 2 {
		t.Errorf("own %v, others %v, initiates %v", o.own(), o.others(), o.initiates())
	}
}

func TestSecretsShowThemselvesToNobody(t *testing.T) {
	secret := mongod.NewSecret("hush")
	text, err := json.Marshal(map[string]any{"secret": secret})
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%v %+v %#v %s %s", secret, struct{ S mongod.Secret }{secret}, secret, secret, text)
	if strings.Contains(all, "hush") {
		t.Error(all)
	}
}
