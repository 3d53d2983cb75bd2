package main

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/gateway/config"
	"sluice/gateway/proxy"
	"sluice/gateway/tag"
	"sluice/internal/consultest"
)

// standInRights are what a gateway needs that may register as shop.
const standInRights = `
service "gateway" { policy = "write" }
service "shop" { policy = "write" }
service_prefix "" { policy = "read" }
node_prefix "" { policy = "read" }
`

// standsFor compares the instances of a service with "ADDRESS STATUS", one a line.
func standsFor(agent *consultest.Agent, service string, want ...string) func() error {
	return func() error {
		var entries []struct {
			Service struct {
				Address string
				Port    int
				Tags    []string
			}
			Checks []struct{ CheckID, Status string }
		}
		agent.Call(http.MethodGet, "/v1/health/service/"+service, nil, &entries)
		got := []string{}
		for _, e := range entries {
			status := ""
			for _, c := range e.Checks {
				if c.CheckID != "serfHealth" {
					status = c.Status
				}
			}
			got = append(got, fmt.Sprintf("%s:%d %s", e.Service.Address, e.Service.Port, status))
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			return fmt.Errorf("%s is at %q, want %q", service, got, want)
		}
		return nil
	}
}

func TestARouteIsRegisteredUnderTheNameThatItAsksForWhileItIsServed(t *testing.T) {
	agent := consultest.Start(t, consultest.Config{})
	host, port, _ := net.SplitHostPort(strings.TrimSuffix(strings.TrimPrefix(plainly(t, "old"), "http://"), "/"))
	old := map[string]any{"ID": "old-1", "Name": "old", "Address": host, "Tags": []string{
		"urlprefix-/a plain=true register=shop", "urlprefix-/b plain=true register=shop", "urlprefix-/c plain=true register=taken",
	}}
	number, _ := net.LookupPort("tcp", port)
	old["Port"] = number
	comes := func() { agent.Call(http.MethodPut, "/v1/agent/service/register", old, nil) }
	goes := func() { agent.Call(http.MethodPut, "/v1/agent/service/deregister/old-1", nil, nil) }
	args := []string{
		"-node", agent.Node, "-address", agent.Host, "-loopback", agent.Host, "-allow-plain", "-consul", agent.Address,
		"-token-file", agent.PolicyFile(standInRights),
	}
	admin := "http://" + net.JoinHostPort(agent.Host, "9998")
	here := net.JoinHostPort(agent.Host, "9999")

	comes()
	gateway := startProcess(t, args...)
	consultest.Await(t, 20*time.Second, "the gateway stands for the service", standsFor(agent, "shop", here+" passing"))
	for path, text := range map[string]string{
		"/routes":         `service \"taken\" { policy = \"write\" }`,
		"/explain?url=/c": `service \"taken\" { policy = \"write\" }`,
		"/":               "Not registered as taken",
		"/metrics":        "sluice_gateway_registration_problems 1",
	} {
		consultest.Await(t, 5*time.Second, "what the token may not register is told of at "+path, answers(admin+path, 200, text))
	}
	if err := standsFor(agent, "taken")(); err != nil {
		t.Error(err)
	}
	goes()
	consultest.Await(t, 5*time.Second, "without a route there is no registration", standsFor(agent, "shop"))
	comes()
	consultest.Await(t, 5*time.Second, "the route is back", standsFor(agent, "shop", here+" passing"))

	_ = gateway.command.Process.Kill()
	gateway.wait(t, 10*time.Second)
	goes()
	gateway = startProcess(t, args...)
	consultest.Await(t, 20*time.Second, "what the killed gateway left is not healthy", standsFor(agent, "shop", here+" critical"))
	comes()
	consultest.Await(t, 10*time.Second, "it is taken over", standsFor(agent, "shop", here+" passing"))

	_ = gateway.command.Process.Signal(syscall.SIGTERM)
	gateway.wait(t, 10*time.Second)
	if err := standsFor(agent, "shop")(); err != nil {
		t.Errorf("after the end: %v", err)
	}
}

func TestAStandInIsWhereOtherNodesReachTheRoute(t *testing.T) {
	listener := func(text string) (l config.Listener) {
		t.Helper()
		at, proto, _ := strings.Cut(text, " ")
		address, err := config.ParseAddress(at)
		if err != nil {
			t.Fatal(err)
		}
		l.Address, l.Proto = address, config.Proto(proto)
		return l
	}
	for _, test := range []struct {
		asks      proxy.Registration
		listeners string
		want      string
	}{
		{proxy.Registration{Name: "shop"}, "127.0.0.1:1 http,192.0.2.9:2 https,:3 http", "192.0.2.9:2"},
		{proxy.Registration{Name: "shop"}, ":1 tcp,:2 http", "192.0.2.1:2"},
		{proxy.Registration{Name: "shop"}, "127.0.0.1:1 http", "only this node"},
		{proxy.Registration{Name: "shop"}, ":1 tcp", "no -listen"},
		{proxy.Registration{Name: "gateway"}, ":1 http", "own name"},
		{proxy.Registration{Name: "db", Kind: tag.Port, Port: ":5432"}, ":15432 tcp,:5432 tcp", "192.0.2.1:5432"},
		{proxy.Registration{Name: "db", Kind: tag.Port, Port: "192.0.2.9:5432"}, ":5432 tcp,192.0.2.9:5432 tcp", "192.0.2.9:5432"},
		{proxy.Registration{Name: "db", Kind: tag.Name}, ":1 https,:2 tcp+sni", "192.0.2.1:2"},
	} {
		var cfg config.Config
		cfg.Node, cfg.Address = "node", netip.MustParseAddr("192.0.2.1")
		for text := range strings.SplitSeq(test.listeners, ",") {
			cfg.Listeners = append(cfg.Listeners, listener(text))
		}
		got, err := standIn(test.asks, cfg)
		if err != nil && !strings.Contains(err.Error(), test.want) || err == nil && fmt.Sprintf("%s:%d", got.Address, got.Port) != test.want {
			t.Errorf("%+v at %s: %s:%d %v, want %s", test.asks, test.listeners, got.Address, got.Port, err, test.want)
		}
	}
}
