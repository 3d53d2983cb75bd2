package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"sluice/internal/meshtest"
	"sluice/internal/mongotest"
	"sluice/mongo-agent/mongod"
	"sluice/mongo-agent/role"
)

// TestReplicationGoesThroughTheAgentsAlone runs two members whose names are the
// other agent's listener: on one loopback each name can have one listener, so
// the member's own mongod is elsewhere and every connection between the two, and
// of a member to itself, crosses the mesh.
func TestReplicationGoesThroughTheAgentsAlone(t *testing.T) {
	host := subnet()
	names := []string{
		mongotest.FreeAddress(t, host(101).String()),
		mongotest.FreeAddress(t, host(102).String()),
	}
	c := startCluster(t, clusterConfig{
		mongo: mongotest.Config{Addresses: []string{mongotest.FreeAddress(t, "127.0.0.1"), mongotest.FreeAddress(t, "127.0.0.1")}},
		names: names,
	})
	primary := c.await(t, c.agents...)
	c.awaitComplete(t)
	secondary := c.others(primary)[0]

	t.Run("a majority write reaches both members", func(t *testing.T) {
		client := c.client(primary, primaryService, primaryPort, webUser())
		mongotest.Wait(t, 10*time.Second, "web may write", func(ctx context.Context) error {
			_, err := client.Database("blog").Collection("entries").InsertOne(ctx, bson.D{{Key: "a", Value: 1}})
			return err
		})
		edge := 0
		for _, info := range secondary.table.Connections() {
			if info.Source.Service() == replService && info.Destination.Service() == replService {
				edge++
			}
		}
		if edge == 0 {
			t.Error("no connection of mongo-repl in the secondary's table: the write got there by another way")
		}
	})
	t.Run("a deny is a partition, an allow heals it", func(t *testing.T) { testPartition(t, c) })
	t.Run("the end of a member is held back until it is released", func(t *testing.T) { testHeld(t, c) })
	t.Run("a member whose agent is away is refused at once", func(t *testing.T) { testAgentAway(t, c) })
}

func testPartition(t *testing.T, c *cluster) {
	c.world.Policy.Set(meshtest.Allow("web", primaryService), meshtest.Deny(replService, replService))
	started := time.Now()
	mongotest.Wait(t, 15*time.Second, "no member is primary", func(context.Context) error {
		for _, a := range c.agents {
			if s, _ := a.board.Snapshot(); s.State == role.Primary {
				return fmt.Errorf("%s is", a.Node)
			}
		}
		return nil
	})
	t.Logf("partition by intention: no primary after %v", time.Since(started))
	started = time.Now()
	c.world.Policy.Set(meshtest.Allow("web", primaryService), meshtest.Allow(replService, replService))
	c.await(t, c.agents...)
	t.Logf("healed: a primary after %v", time.Since(started))
}

func testHeld(t *testing.T, c *cluster) {
	here := c.await(t, c.agents...)
	there := c.others(here)[0]
	conn, err := net.Dial("tcp", there.own().Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// One exchange, so that the connection stands all the way.
	if _, err := conn.Write([]byte{16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0}); err != nil {
		t.Fatal(err)
	}
	end := ended(t, conn)
	<-time.After(50 * time.Millisecond) // mongod ends it at once; without the hold that shows here
	select {
	case err := <-end:
		t.Fatalf("the end came through at once: %v", err)
	default:
	}
	here.peers[0].Reset("the test says so")
	wantEnded(t, "a held connection that is released", true, end)
}

func testAgentAway(t *testing.T, c *cluster) {
	primary := c.await(t, c.agents...)
	away := c.others(primary)[0]
	if err := away.stop(); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	conn, err := net.Dial("tcp", away.own().Address)
	if err == nil {
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, err = conn.Read(make([]byte, 1))
	}
	// The reset may come before the dial has returned.
	if err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("connection to the other member: %v, want a reset", err)
	}
	t.Logf("refused after %v", time.Since(started))
	if took := time.Since(started); took > 2*peerTimeout {
		t.Errorf("refused after %v: mongod took it for silence", took)
	}
}

func TestMongodThatLetsAnybodyInIsNotServed(t *testing.T) {
	address := mongotest.FreeAddress(t, "127.0.0.1")
	c := startCluster(t, clusterConfig{
		mongo: mongotest.Config{Addresses: []string{address}, LocalhostException: true},
		names: []string{address},
	})
	a := c.agents[0]
	mongotest.Wait(t, 10*time.Second, "the agent says why", func(context.Context) error {
		if s, _ := a.board.Snapshot(); s.State != role.Other || !strings.Contains(s.Reason, "enableLocalhostAuthBypass=0") {
			return fmt.Errorf("%v: %s", s.State, s.Reason)
		}
		return nil
	})
	for name, port := range map[string]int{primaryService: primaryPort, secondaryService: secondaryPort, replService: replPort} {
		if conn, err := net.DialTimeout("tcp", a.Listen(port), time.Second); err == nil {
			_ = conn.Close()
			t.Errorf("%s is offered", name)
		}
	}
	// Without a relay the exception does work: the guard guards against something.
	client, err := mongod.Anonymous(a.Mongod)
	if err != nil {
		t.Fatal(err)
	}
	defer mongod.Close(client)
	if err := mongod.Admin(t.Context(), client, createUser("eve"), nil); mongod.HasCode(err, mongod.CodeUnauthorized) {
		t.Errorf("createUser from loopback: %v", err)
	}
}
