package consul

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/internal/consultest"
	"sluice/mesh"
)

// recovery is how soon everything must be back after the agent is.
const recovery = 5 * time.Second

// member is everything that a process of service db has from Consul.
type member struct {
	agent    *consultest.Agent
	identity *Identity
	policy   *Intentions
	resolver *Resolver
}

// join starts a member that is registered as db-1 and watches everything.
func join(t *testing.T, agent *consultest.Agent) *member {
	t.Helper()
	client := open(t, agent, agent.ServiceFile("db"))
	m := &member{agent: agent, identity: client.Identity("db"), policy: client.DestinationPolicy("db"), resolver: client.Resolver("db")}
	registrar := client.Registrar()
	registrar.Set(ttl("db-1", "db"))
	registrar.Pass("db-1", "")
	running(t, m.identity.Run)
	running(t, m.policy.Run)
	running(t, m.resolver.Run)
	running(t, registrar.Run)
	intend(agent, "web", "db", "allow")
	consultest.Await(t, 10*time.Second, "ready at the start", m.works)
	return m
}

// works reports whether everything is confirmed and right.
func (m *member) works() error {
	return errors.Join(
		m.identity.Ready(), m.identity.leaf.State().Err, m.identity.roots.State().Err,
		m.policy.Err(), decides(m.policy, "web", "db", true)(),
		m.resolver.services["db"].places[0].watch.State().Err, finds(m.resolver, "db", 1)(),
		holds(m.agent, "db-1", "passing")(),
	)
}

// stillTrusted reports whether the credentials convince a peer that has the same.
func (m *member) stillTrusted() error {
	credentials, err := m.identity.Credentials()
	if err != nil {
		return err
	}
	return shakeHands(credentials, credentials)
}

// shakeHands runs a TLS handshake between two credentials, each side verifying the
// other's chain.
func shakeHands(server, client mesh.Credentials) error {
	left, right := net.Pipe()
	defer left.Close()
	defer right.Close()
	deadline := time.Now().Add(5 * time.Second)
	_ = left.SetDeadline(deadline)
	_ = right.SetDeadline(deadline)
	var group errgroup.Group
	group.Go(func() error {
		return tls.Server(left, &tls.Config{
			Certificates: []tls.Certificate{*server.Certificate}, MinVersion: tls.VersionTLS13,
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: server.Roots, SessionTicketsDisabled: true,
		}).Handshake()
	})
	group.Go(func() error {
		return tls.Client(right, &tls.Config{
			Certificates: []tls.Certificate{*client.Certificate}, MinVersion: tls.VersionTLS13,
			InsecureSkipVerify: true, // A SPIFFE identity has no host name; the chain is verified below.
			VerifyConnection: func(state tls.ConnectionState) error {
				options := x509.VerifyOptions{Roots: client.Roots, Intermediates: x509.NewCertPool()}
				for _, certificate := range state.PeerCertificates[1:] {
					options.Intermediates.AddCert(certificate)
				}
				_, err := state.PeerCertificates[0].Verify(options)
				return err
			},
		}).Handshake()
	})
	return group.Wait()
}

// followsNews proves that nothing is stuck: an intention and a root rotation that
// happen now arrive in time.
func (m *member) followsNews(t *testing.T) {
	t.Helper()
	intend(m.agent, "web", "db", "deny")
	took := consultest.Await(t, recovery, "a deny arrives", decides(m.policy, "web", "db", false))
	rotateRoot(t, m.agent)
	rotated := consultest.Await(t, recovery, "the new root arrives", m.trustsActiveRoot)
	t.Logf("afterwards a deny took %s, a new root %s", took, rotated)
}

// trustsActiveRoot reports whether the credentials hold the root that Consul signs
// with now.
func (m *member) trustsActiveRoot() error {
	active, err := activeRoot(m.agent)
	if err != nil {
		return err
	}
	credentials, err := m.identity.Credentials()
	if err != nil {
		return err
	}
	with := credentials.Roots.Clone()
	with.AppendCertsFromPEM(active)
	if !with.Equal(credentials.Roots) {
		return errors.New("the active root is not trusted yet")
	}
	return m.identity.Ready()
}

func TestAFrozenAgentDisturbsNothingAndAllRecovers(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	m := join(t, agent)
	agent.Stop()
	for deadline := time.Now().Add(4 * time.Second); time.Now().Before(deadline); {
		if err := errors.Join(m.stillTrusted(), decides(m.policy, "web", "db", true)(), finds(m.resolver, "db", 1)()); err != nil {
			t.Fatal(err)
		}
		<-time.After(100 * time.Millisecond)
	}
	agent.Continue()
	took := consultest.Await(t, recovery, "everything works again", m.works)
	t.Logf("recovered %s after the agent", took)
	m.followsNews(t)
}

func TestAKilledAgentDisturbsNothingAndAllRecovers(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	m := join(t, agent)
	agent.Kill()
	agent.Forget()
	// Long enough that the SDK's own watches wait for many seconds.
	for deadline := time.Now().Add(6 * time.Second); time.Now().Before(deadline); {
		if err := errors.Join(m.stillTrusted(), decides(m.policy, "web", "db", true)(), finds(m.resolver, "db", 1)()); err != nil {
			t.Fatal(err)
		}
		<-time.After(100 * time.Millisecond)
	}
	agent.Restart()
	agent.AwaitWorking()
	took := consultest.Await(t, recovery, "everything works again", m.works)
	t.Logf("recovered %s after the agent", took)
	m.followsNews(t)
}

func TestARestartOfTheServersDisturbsNothingAndAllRecovers(t *testing.T) {
	t.Parallel()
	server := consultest.Start(t, consultest.Config{})
	agent := consultest.Start(t, consultest.Config{Join: server})
	m := join(t, agent)
	server.Kill()
	for deadline := time.Now().Add(6 * time.Second); time.Now().Before(deadline); {
		if err := errors.Join(m.stillTrusted(), decides(m.policy, "web", "db", true)(), finds(m.resolver, "db", 1)()); err != nil {
			t.Fatal(err)
		}
		<-time.After(100 * time.Millisecond)
	}
	server.Restart()
	server.AwaitWorking()
	took := consultest.Await(t, recovery, "everything works again", m.works)
	t.Logf("recovered %s after the server", took)
	m.followsNews(t)
}
