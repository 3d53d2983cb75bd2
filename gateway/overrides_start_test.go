package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/consultest"
)

// slowKeys is a Consul that tells what services there are, and holds back what is
// in its store until released is closed.
func slowKeys(t *testing.T, agent *consultest.Agent, released <-chan struct{}) (address string, services *atomic.Int64) {
	t.Helper()
	services = new(atomic.Int64)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: agent.Address})
	proxy.ModifyResponse = func(r *http.Response) error {
		if strings.HasPrefix(r.Request.URL.Path, "/v1/health/") {
			services.Add(1)
		}
		return nil
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/kv/") {
			select {
			case <-released:
			case <-r.Context().Done():
				return
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.CloseClientConnections)
	return server.Listener.Addr().String(), services
}

func TestNoRequestTakesADeletedRouteBeforeOverridesAreKnown(t *testing.T) {
	agent := consultest.Start(t, consultest.Config{})
	intend(agent, "allow")
	startWeb(t, agent)
	writeOverride(t, agent, "fabio/config", "route del web /web", "route add added /added "+plainly(t, "added"))
	released := make(chan struct{})
	address, services := slowKeys(t, agent, released)
	startProcess(t, "-node", agent.Node, "-address", agent.Host, "-loopback", agent.Host, "-allow-plain",
		"-consul", address, "-token-file", agent.PolicyFile(overrideRights))
	front := "http://" + net.JoinHostPort(agent.Host, "9999")
	consultest.Await(t, 20*time.Second, "the gateway listens", answers(front+"/nothing", 404))
	consultest.Await(t, 20*time.Second, "the gateway has heard of the services", func() error {
		if services.Load() == 0 {
			return http.ErrServerClosed
		}
		return nil
	})
	for range 100 {
		if status, body, err := get(front + "/web"); err == nil && status == http.StatusOK {
			t.Fatalf("a route that an operator has taken away answers %q", body)
		}
	}
	close(released)
	consultest.Await(t, 20*time.Second, "overrides hold", answers(front+"/added", 200, "added"))
	if err := answers(front+"/web", 404)(); err != nil {
		t.Error(err)
	}
}

func TestOverridesThatConsulHidesLaterHoldAndTheGatewaySaysSo(t *testing.T) {
	agent := consultest.Start(t, consultest.Config{})
	intend(agent, "allow")
	startWeb(t, agent)
	writeOverride(t, agent, "fabio/config", "route del web /web", "route add added /added "+plainly(t, "added"))
	startProcess(t, "-node", agent.Node, "-address", agent.Host, "-loopback", agent.Host, "-allow-plain", "-consul", agent.Address,
		"-token-file", agent.PolicyFile(strings.ReplaceAll(overrideRights, "key_prefix", "key")))
	front, admin := "http://"+net.JoinHostPort(agent.Host, "9999"), "http://"+net.JoinHostPort(agent.Host, "9998")
	consultest.Await(t, 20*time.Second, "overrides hold", answers(front+"/added", 200, "added"))
	writeOverride(t, agent, "fabio/config/more", "route del added")
	consultest.Await(t, 5*time.Second, "the reason is told", answers(admin+"/overrides", 200, "refused by Consul", `"commands": 2`))
	consultest.Await(t, 5*time.Second, "and so on the page", answers(admin+"/", 200, "the last ones hold"))
	if err := answers(front+"/added", 200, "added")(); err != nil {
		t.Error(err)
	}
	if err := answers(front+"/web", 404)(); err != nil {
		t.Error(err)
	}
}
