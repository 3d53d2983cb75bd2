package main

import (
	"net"
	"syscall"
	"testing"
	"time"

	"sluice/internal/consultest"
)

func TestAStopTurnsHealthRedWhileRequestsAreStillTaken(t *testing.T) {
	agent := consultest.Start(t, consultest.Config{})
	intend(agent, "allow")
	startWeb(t, agent)
	const delay = 4 * time.Second
	gateway := startProcess(t, "-node", agent.Node, "-address", agent.Host, "-loopback", agent.Host, "-health-path", "/up", "-stop-delay", delay.String(),
		"-consul", agent.Address, "-token-file", agent.ServiceFile("gateway"))
	front, admin := "http://"+net.JoinHostPort(agent.Host, "9999"), "http://"+net.JoinHostPort(agent.Host, "9998")
	for what, check := range map[string]func() error{
		"health is green": answers(front+"/up", 200), "it is ready": answers(admin+"/readyz", 200), "it is registered": registered(agent, 1),
	} {
		consultest.Await(t, 20*time.Second, what, check)
	}
	began := time.Now()
	_ = gateway.command.Process.Signal(syscall.SIGTERM)
	for what, check := range map[string]func() error{
		"health is red": answers(front+"/up", 503), "it is not ready": answers(admin+"/readyz", 503), "its registration is gone": registered(agent, 0),
	} {
		consultest.Await(t, delay/2, what, check)
	}
	if err := answers(front+"/web", 200)(); err != nil {
		t.Errorf("a request after that: %v", err)
	}
	if took := time.Since(began); took > delay {
		t.Fatalf("it took %v to look: too long to have seen the delay", took)
	}
	if code := gateway.wait(t, 20*time.Second); code != 0 || time.Since(began) < delay {
		t.Errorf("exit code %d after %v", code, time.Since(began))
	}
}
