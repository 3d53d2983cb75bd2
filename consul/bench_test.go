package consul

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	agentconnect "github.com/hashicorp/consul/agent/connect"
	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/consul/connect"
	"github.com/hashicorp/go-hclog"

	"sluice/internal/consultest"
	"sluice/mesh"
)

// peers makes one new connection from web to db, in one of two ways. Each reads
// the byte that the server writes once it has judged the client.
type peers struct {
	dial func() (net.Conn, error)
}

func (p peers) connect() error {
	conn, err := p.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

// greet accepts connections and writes one byte to each.
func greet(b *testing.B, listener net.Listener) {
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer conn.Close()
				_, _ = conn.Write([]byte{1})
				_, _ = conn.Read(make([]byte, 1))
			})
		}
	})
	b.Cleanup(func() { _ = listener.Close(); group.Wait() })
}

// meshPeers is the product: local decision, confirmed dial.
func meshPeers(b *testing.B, agent *consultest.Agent) peers {
	db, web := open(b, agent, agent.ServiceFile("db")), open(b, agent, agent.ServiceFile("web"))
	server, client := db.Identity("db"), web.Identity("web")
	policy, ownPolicy := db.DestinationPolicy("db"), web.SourcePolicy("web")
	running(b, server.Run)
	running(b, client.Run)
	running(b, policy.Run)
	running(b, ownPolicy.Run)
	for _, identity := range []*Identity{server, client} {
		if err := identity.Wait(within(b, 10*time.Second)); err != nil {
			b.Fatal(err)
		}
	}
	consultest.Await(b, 5*time.Second, "allowed", decides(policy, "web", "db", true))
	consultest.Await(b, 5*time.Second, "allowed", decides(ownPolicy, "web", "db", true))
	listener, err := mesh.Listen("127.0.0.1:0", mesh.ListenConfig{
		Credentials: server, Table: mesh.NewTable(time.Now),
		Authorizer: mesh.NewAuthorizer(mesh.AuthorizerConfig{Service: "db", Policy: policy, Fallback: db.Verdicts()}),
	})
	if err != nil {
		b.Fatal(err)
	}
	running(b, listener.Run)
	greet(b, listener)
	credentials, err := server.Credentials()
	if err != nil {
		b.Fatal(err)
	}
	dialer := mesh.NewDialer(mesh.DialerConfig{Credentials: client, Policy: ownPolicy, Table: mesh.NewTable(time.Now)})
	running(b, dialer.Run)
	instance := mesh.Instance{ServiceID: "db-1", Address: listener.Addr().String(), ID: credentials.ID}
	return peers{dial: func() (net.Conn, error) { return dialer.DialInstance(b.Context(), instance) }}
}

// sdkPeers is the Connect SDK as its documentation shows it.
func sdkPeers(b *testing.B, agent *consultest.Agent) peers {
	service := func(name string) *connect.Service {
		client, err := api.NewClient(&api.Config{Address: agent.Address, Token: agent.ServiceToken(name)})
		if err != nil {
			b.Fatal(err)
		}
		s, err := connect.NewServiceWithLogger(name, client, hclog.NewNullLogger())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = s.Close() })
		if ready := s.ReadyWait(); ready != nil {
			<-ready
		}
		return s
	}
	server, client := service("db"), service("web")
	listener, err := tls.Listen("tcp", "127.0.0.1:0", server.ServerTLSConfig())
	if err != nil {
		b.Fatal(err)
	}
	greet(b, listener)
	leaf, err := server.ServerTLSConfig().GetCertificate(nil)
	if err != nil {
		b.Fatal(err)
	}
	uri, err := agentconnect.ParseCertURI(leaf.Leaf.URIs[0])
	if err != nil {
		b.Fatal(err)
	}
	resolver := &connect.StaticResolver{Addr: listener.Addr().String(), CertURI: uri}
	return peers{dial: func() (net.Conn, error) { return client.Dial(b.Context(), resolver) }}
}

// cost is what a number of connections took.
type cost struct {
	wall, own, agent time.Duration
	connections      int
}

func (c *cost) add(b *testing.B, agent *consultest.Agent, p peers, connections, workers int) {
	start, own, other := time.Now(), ownCPU(b), agentCPU(b, agent.PID())
	var group sync.WaitGroup
	errs := make([]error, workers)
	for worker := range workers {
		group.Go(func() {
			for range connections / workers {
				if err := p.connect(); err != nil {
					errs[worker] = err
					return
				}
			}
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
	c.wall += time.Since(start)
	c.own += ownCPU(b) - own
	c.agent += agentCPU(b, agent.PID()) - other
	c.connections += connections
}

func (c *cost) report(b *testing.B, name string) (perSecond, micros float64) {
	perSecond = float64(c.connections) / c.wall.Seconds()
	micros = float64(c.own.Microseconds()) / float64(c.connections)
	b.ReportMetric(perSecond, name+"-conn/s")
	b.ReportMetric(micros, name+"-cpu-us/conn")
	b.ReportMetric(float64(c.agent.Microseconds())/float64(c.connections), name+"-agent-cpu-us/conn")
	return perSecond, micros
}

// BenchmarkNewConnections compares the mesh with the stock Connect SDK against the
// same real agent, in turns, so that a busy machine disturbs both alike. Both ends
// run in this process, so a connection's CPU is that of client and server. A ratio
// below 1 of CPU, and above 1 of connections per second, is in the mesh's favour.
func BenchmarkNewConnections(b *testing.B) {
	agent := consultest.Start(b, consultest.Config{})
	intend(agent, "web", "db", "allow")
	ours, stock := meshPeers(b, agent), sdkPeers(b, agent)
	for _, workers := range []int{1, 8} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			const batch = 160
			var meshCost, sdkCost, warmup cost
			warmup.add(b, agent, ours, batch, workers)
			warmup.add(b, agent, stock, batch, workers)
			for b.Loop() {
				meshCost.add(b, agent, ours, batch, workers)
				sdkCost.add(b, agent, stock, batch, workers)
			}
			meshRate, meshCPU := meshCost.report(b, "mesh")
			sdkRate, sdkCPU := sdkCost.report(b, "sdk")
			b.ReportMetric(meshRate/sdkRate, "conn/s-ratio")
			b.ReportMetric(meshCPU/sdkCPU, "cpu-ratio")
		})
	}
}

// ownCPU is what this process has used.
func ownCPU(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// agentCPU is what another process has used, in steps of 10 ms.
func agentCPU(b *testing.B, pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	var ticks time.Duration
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			b.Fatal(err)
		}
		ticks += time.Duration(n)
	}
	return ticks * 10 * time.Millisecond
}
