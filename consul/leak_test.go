package consul

import (
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/internal/consultest"
)

func TestNothingIsLeftRunning(t *testing.T) {
	agent := consultest.Start(t, consultest.Config{})
	http.DefaultClient.CloseIdleConnections()
	before := goleak.IgnoreCurrent()
	client := open(t, agent, agent.ServiceFile("db"))
	identity, policy, registrar := client.Identity("db"), client.DestinationPolicy("db"), client.Registrar()
	resolver, all := client.Resolver("db"), client.ResolverAll("urlprefix-")
	registrar.Set(ttl("db-1", "db"))
	registrar.Pass("db-1", "")
	stops := []func(){
		running(t, identity.Run), running(t, policy.Run), running(t, registrar.Run),
		running(t, resolver.Run), running(t, all.Run),
	}
	consultest.Await(t, 5*time.Second, "everything runs", func() error { return identity.Ready() })
	consultest.Await(t, 5*time.Second, "everything runs", finds(resolver, "db", 1))
	consultest.Await(t, 5*time.Second, "everything runs", finds(all, "db", 1))
	for _, stop := range stops {
		stop()
	}
	client.Close()
	http.DefaultClient.CloseIdleConnections()
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
	if _, err := identity.Credentials(); err != nil {
		t.Errorf("the last credentials are gone: %v", err)
	}
}
