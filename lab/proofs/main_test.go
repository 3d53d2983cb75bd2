package proofs_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/consul"
	"sluice/intentions"
	"sluice/internal/labtest"
	"sluice/lab"
)

// offset keeps this package's ports apart from those of a lab that a person runs.
const offset = 2000

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "probe" {
		os.Exit(runProbe(os.Args[2]))
	}
	labtest.Main(m)
}

// TestInSeparateNetworkNamespaces proves what holds where nodes are kept apart.
func TestInSeparateNetworkNamespaces(t *testing.T) {
	shared := labtest.New(t, labtest.Variant{Engine: "netns"}, offset)
	began := time.Now()
	shared.Up()
	t.Logf("the lab came up in %.1f s", time.Since(began).Seconds())
	for _, claim := range []struct {
		name string
		hold func(*proof)
	}{
		{"a deny reaches new and open connections and touches nobody else", denyIsFastAndExact},
		{"a client with a TLS session cache cannot get back in after a deny", sessionCacheDoesNotHelp},
		{"the lab's own listeners refuse every stranger", strangersAreRefused},
		{"mongod and the agents' APIs are out of reach of every other node", loopbacksAreOutOfReach},
		{"a token of one service reads no other service's leaf", tokensReadTheirOwnLeafOnly},
		{"replication is on the wire as TLS only", replicationIsTLS},
		{"the command line denies and allows in words, at once", togglesInWords},
		{"the command line configures web, at once and in words", configuresWeb},
		{"maintenance takes no instance of web out of rotation", maintenanceEjectsNobody},
		{"an instance of web goes away and comes back without a request that fails", webGoesAndComesBack},
		{"plan shows drift and apply removes it", planAndApply},
		{"apply never overwrites a concurrent change", applyComparesAndSets},
		{"check and why say who decides", checkAndWhy},
		{"an intention with HTTP permissions denies, in words", httpPermissionsDeny},
		{"a browser sees the blog, writes without JavaScript, and reads the denial", browserReadsAndWrites},
		{"a browser writes with keys only, meets itself in a second tab, and takes a deletion back", browserWithKeysOnly},
		{"an open page is told of a denial and of another primary without being loaded anew", browserIsTold},
		{"a frozen agent of a source stops nothing that goes on", frozenSourceAgent},
		{"a frozen agent of a destination keeps the last known verdicts", frozenDestinationAgent},
		{"a killed agent that comes back knows its services again", killedAgent},
		{"a page says that Consul is away, hung or dead, and goes on", consulAway},
		{"a restart of the Consul server is not felt", restartedServer},
		{"without a majority the pages say so and the blog is read", readOnlyInWords},
		{"without a primary a write is held, and is refused with its form or stored once", writesAreHeld},
		{"a killed primary hands over to another member", killedPrimary},
	} {
		t.Run(claim.name, func(t *testing.T) {
			p := newProof(t, shared)
			claim.hold(p)
		})
	}
}

// TestInTheLoopbackEngine proves what is said where nodes are not kept apart.
func TestInTheLoopbackEngine(t *testing.T) {
	shared := labtest.New(t, labtest.Variant{Engine: "loopback"}, offset)
	shared.Up()
	p := newProof(t, shared)
	saysThatItIsNotSegmented(p)
	agentsAreFilesOfTheUser(p)
	togglesInWords(p)
}

// proof is one claim on its way: the lab, and who to ask.
type proof struct {
	testing.TB
	lab    *labtest.Lab
	client *lab.Client
	consul *consul.Client
}

// newProof opens the lab for one claim and puts the lab in order after it.
func newProof(t testing.TB, shared *labtest.Lab) *proof {
	t.Helper()
	l := shared.For(t)
	p := &proof{TB: t, lab: l, client: l.Client()}
	var err error
	if p.consul, err = p.client.Consul(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.consul.Close()
		if t.Failed() {
			t.Logf("status:\n%s", l.Run("status").Stdout)
		}
		l.Must("fault", "heal", "--all")
		labtest.Eventually(t, 20*time.Second, "the intentions of the files hold again", func() error {
			if result := l.Run("intentions", "apply"); result.Code != 0 {
				return fmt.Errorf("%s", result)
			}
			return nil
		})
	})
	return p
}

// context is bounded: nothing in a proof may hang.
func (p *proof) bounded(limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(p.Context(), limit)
	p.Cleanup(cancel)
	return ctx
}

// set writes one intention as `sluice intentions allow|deny` does, and returns
// when the write began and when it returned.
func (p *proof) set(source, destination string, action intentions.Action) (began, wrote time.Duration) {
	p.Helper()
	began = monotonic()
	err := p.consul.SetIntention(p.bounded(10*time.Second), intentions.Rule{Source: source, Destination: destination, Action: action})
	if err != nil {
		p.Fatal(err)
	}
	return began, monotonic()
}

// secret is the path of a file in the state folder's secrets.
func (p *proof) secret(name string) string { return filepath.Join(p.lab.State, "secrets", name) }

func (p *proof) token(service, node string) string {
	return p.secret(service + "-on-" + node + ".token")
}

// node returns a node of the status by name.
func (p *proof) node(name string) lab.NodeStatus {
	p.Helper()
	for _, n := range p.lab.Status().Nodes {
		if n.Name == name {
			return n
		}
	}
	p.Fatalf("no node %q", name)
	return lab.NodeStatus{}
}

// members returns the mongo nodes by their role.
func (p *proof) members() (primary lab.NodeStatus, secondaries []lab.NodeStatus) {
	p.Helper()
	labtest.Eventually(p, 30*time.Second, "one primary and two secondaries", func() error {
		primary, secondaries = lab.NodeStatus{}, nil
		var roles []string
		for _, n := range p.lab.Status().Nodes {
			switch role := roleOf(n); role {
			case "primary":
				primary = n
				roles = append(roles, n.Name+" "+role)
			case "secondary":
				secondaries = append(secondaries, n)
				roles = append(roles, n.Name+" "+role)
			}
		}
		if primary.Name == "" || len(secondaries) != 2 {
			return fmt.Errorf("roles: %s", strings.Join(roles, ", "))
		}
		return nil
	})
	return primary, secondaries
}

func roleOf(n lab.NodeStatus) string {
	for _, process := range n.Processes {
		if process.Role != "" {
			return process.Role
		}
	}
	return ""
}

// trustDomain is the lab's, as its processes see it.
func (p *proof) trustDomain() string {
	p.Helper()
	for _, n := range p.lab.Status().Nodes {
		for _, process := range n.Processes {
			if process.Mesh == nil {
				continue
			}
			for _, id := range process.Mesh.Identities {
				if !id.ID.IsZero() {
					return id.ID.TrustDomain()
				}
			}
		}
	}
	p.Fatal("no process has an identity")
	return ""
}

// monotonic is a clock that all processes of the machine share.
func monotonic() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	return time.Duration(now.Nano())
}
