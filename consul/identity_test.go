package consul

import (
	"errors"
	"testing"
	"time"

	"sluice/internal/consultest"
	"sluice/mesh"
)

func TestIdentityBecomesReadyAndNamesItsService(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	web := open(t, agent, agent.ServiceFile("web")).Identity("web")
	if _, err := web.Credentials(); !errors.Is(err, mesh.ErrNotReady) {
		t.Fatalf("before Run: %v, want ErrNotReady", err)
	}
	changed := web.Changed()
	running(t, web.Run)
	start := time.Now()
	if err := web.Wait(within(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Logf("ready after %s", time.Since(start))
	consultest.Await(t, time.Second, "Changed tells it", closed(changed))
	credentials, err := web.Credentials()
	if err != nil {
		t.Fatal(err)
	}
	if credentials.ID.Service() != "web" || credentials.ID.Datacenter() != "dc1" || credentials.Certificate.Leaf == nil {
		t.Fatalf("credentials of %s", credentials.ID)
	}
	again, _ := web.Credentials()
	if again.Certificate != credentials.Certificate || again.Roots != credentials.Roots {
		t.Error("asked again, it answers other values though nothing changed")
	}
}
