package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"sluice/internal/consultest"
)

func TestServicesOutsideTheMeshAreReachedOnlyWithAllowPlain(t *testing.T) {
	agent := consultest.Start(t, consultest.Config{})
	intend(agent, "allow")
	startWeb(t, agent)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("old")) }))
	t.Cleanup(server.Close)
	host, text, _ := net.SplitHostPort(server.Listener.Addr().String())
	port, _ := strconv.Atoi(text)
	agent.Call(http.MethodPut, "/v1/agent/service/register", map[string]any{
		"ID": "old-1", "Name": "old", "Address": host, "Port": port, "Tags": []string{"urlprefix-/old plain=true", "urlprefix-/silent"},
	}, nil)
	args := []string{"-node", agent.Node, "-address", agent.Host, "-loopback", agent.Host, "-consul", agent.Address, "-token-file", agent.ServiceFile("gateway")}
	front := "http://" + net.JoinHostPort(agent.Host, "9999")
	admin := "http://" + net.JoinHostPort(agent.Host, "9998")

	gateway := startProcess(t, append(args, "-allow-plain")...)
	consultest.Await(t, 20*time.Second, "the plain service is reached", answers(front+"/old", 200, "old"))
	if err := answers(front+"/silent", 404)(); err != nil {
		t.Error(err)
	}
	if err := answers(admin+"/explain?url=/silent", 200, "does not say plain=true")(); err != nil {
		t.Error(err)
	}
	_ = gateway.command.Process.Kill()
	gateway.wait(t, 10*time.Second)

	startProcess(t, args...)
	consultest.Await(t, 20*time.Second, "the gateway is ready", answers(admin+"/readyz", 200))
	if err := answers(front+"/old", 404)(); err != nil {
		t.Error(err)
	}
}
