package proxy_test

import (
	"net/http"
	"testing"

	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
	"sluice/mesh"
)

func TestTheDialsOfAServiceThatIsGoneAreForgotten(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb, meshtest.Allow("gateway", "other"))
	dialer := world.Dialer("gateway", nil)
	world.Serve("web", "web-1", http.HandlerFunc(hello), "urlprefix-/web")
	first := world.Serve("other", "other-1", http.HandlerFunc(hello), "urlprefix-/other")
	second := world.Serve("other", "other-2", http.HandlerFunc(hello), "urlprefix-/other")
	l := with(t, world, proxy.Config{Dialer: dialer, Policy: world.Policy})
	meshtest.Wait(t, "both services are dialled", func() bool {
		_, _ = l.get("/web"), l.get("/other")
		return dialer.Dials("web").Dialled > 0 && dialer.Dials("other").Dialled > 0
	})
	instances := func(path string) int {
		if r, ok := l.Table().Lookup("", path); ok {
			return len(r.Instances)
		}
		return 0
	}
	world.Catalog.Remove(first)
	meshtest.Wait(t, "one instance is left", func() bool { return instances("/other") == 1 })
	if got := dialer.Dials("other"); got.Dialled == 0 {
		t.Error("forgotten while an instance is left")
	}
	world.Catalog.Remove(second)
	meshtest.Wait(t, "the service is forgotten", func() bool { return dialer.Dials("other") == (mesh.DialCounts{}) })
	if got := dialer.Dials("web"); got.Dialled == 0 {
		t.Error("another service is forgotten, too")
	}
}
