package proxy_test

import (
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
)

// servicesIn are the services that have series, by the names of the metrics.
func (l *lab) servicesIn(t *testing.T) map[string][]string {
	t.Helper()
	families, err := l.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	services := map[string][]string{}
	for _, family := range families {
		name := strings.TrimPrefix(family.GetName(), "sluice_gateway_")
		for _, series := range family.GetMetric() {
			for _, label := range series.GetLabel() {
				if value := label.GetValue(); label.GetName() == "service" && !slices.Contains(services[name], value) {
					services[name] = append(services[name], value)
				}
			}
		}
		slices.Sort(services[name])
	}
	return services
}

func TestTheSeriesOfAServiceGoWithItsLastRoute(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb, meshtest.Allow("gateway", "brief"))
	own := meshtest.NewPolicy()
	own.Set(allowWeb, meshtest.Allow("gateway", "*"))
	serve(world, "web", "web-1", hello, "urlprefix-/web")
	brief := serve(world, "brief", "b-1", hello, "urlprefix-/brief", "urlprefix-/brief/too")
	denied := serve(world, "denied", "d-1", hello, "urlprefix-/denied")
	wrong := world.Instance("wrong", "w-1", brief.Address, "urlprefix-/wrong")
	world.Catalog.Add(wrong)
	var later atomic.Int64
	l := with(t, world, proxy.Config{
		Dialer: world.Dialer("gateway", own), Policy: own, Now: func() time.Time { return time.Now().Add(time.Duration(later.Load())) },
	})
	for _, path := range []string{"/web", "/brief", "/denied", "/wrong", "/nowhere"} {
		l.get(path)
	}
	all := []string{"", "brief", "denied", "web", "wrong"}
	before := map[string][]string{"denied_by_destination_total": {"denied"}, "wrong_identity_total": {"wrong"}, "connect_duration_seconds": {"brief", "web"}}
	after := map[string][]string{"connect_duration_seconds": {"web"}}
	for _, metric := range []string{"requests_total", "request_duration_seconds", "request_body_bytes_total", "response_body_bytes_total"} {
		before[metric], after[metric] = all, []string{"", "web"}
	}
	for _, metric := range []string{"intention_denied_total", "ejections_total", "retry_budget_left", "instance_requests_in_flight", "instance_available", "instance_attempts_total"} {
		before[metric], after[metric] = all[1:], []string{"web"}
	}
	meshtest.Wait(t, "every service has series", func() bool { return maps.EqualFunc(l.servicesIn(t), before, slices.Equal) })
	world.Catalog.Remove(brief)
	world.Catalog.Remove(denied)
	world.Catalog.Remove(wrong)
	meshtest.Wait(t, "the routes have nobody", func() bool { r, _ := l.Table().Lookup("", "/brief"); return len(r.Instances) == 0 })
	l.get("/brief") // 503, and counted for its service
	later.Add(int64(11 * time.Minute))
	meshtest.Wait(t, "the series of those that are gone are gone", func() bool { return maps.EqualFunc(l.servicesIn(t), after, slices.Equal) })
	serve(world, "brief", "b-2", hello, "urlprefix-/brief")
	meshtest.Wait(t, "it is back", func() bool {
		return l.get("/brief").status == 200 && slices.Contains(l.servicesIn(t)["requests_total"], "brief")
	})
}
