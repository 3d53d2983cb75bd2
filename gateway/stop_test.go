package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/gateway/config"
	"sluice/gateway/listen"
	"sluice/internal/consultest"
	"sluice/internal/service"
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

// TestAStopDrainsAllListenersAtOnce has half a request on each of them, which is waited
// for.
func TestAStopDrainsAllListenersAtOnce(t *testing.T) {
	agent := consultest.Start(t, consultest.Config{})
	intend(agent, "allow")
	startWeb(t, agent)
	const drain = 4 * time.Second
	args := []string{"-node", agent.Node, "-address", agent.Host, "-loopback", agent.Host, "-drain", drain.String(), "-header-timeout", "1m", "-consul", agent.Address, "-token-file", agent.ServiceFile("gateway")}
	var fronts []string
	for _, port := range []string{"9995", "9996", "9997"} {
		front := net.JoinHostPort(agent.Host, port)
		fronts, args = append(fronts, front), append(args, "-listen", front)
	}
	gateway := startProcess(t, args...)
	for _, front := range fronts {
		consultest.Await(t, 20*time.Second, front+" serves", answers("http://"+front+"/web", 200))
		conn, err := net.Dial("tcp", front)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprint(conn, "GET /web HTTP/1.1\r\nHost: x\r\n\r\nGET /web HTT") // what the gateway reads at once
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
			t.Fatalf("%s: %q, %v", front, line, err)
		}
	}
	began := time.Now()
	_ = gateway.command.Process.Signal(syscall.SIGTERM)
	code := gateway.wait(t, time.Minute)
	if took := time.Since(began); code != 0 || took < drain || took > 2*drain {
		t.Errorf("exit code %d after %v; want 0 after one drain, %v", code, took, drain)
	}
}

func TestWhereOneListenerFailsTheOthersServeUntilTheStop(t *testing.T) {
	var servers []*listen.Server
	for range 2 {
		l, err := config.ParseListener("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server, err := listen.Open(listen.Config{Listener: l, Std: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})})
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, server)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	l, ended := newListening(servers), make(chan error, 1)
	go func() { ended <- l.run(ctx) }()
	url := "http://" + servers[1].Addr().String()
	consultest.Await(t, 10*time.Second, "it serves", answers(url, 200))
	_ = servers[0].Close()
	if err := l.watch(ctx); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the failure is told as %v", err)
	}
	if err := answers(url, 200)(); err != nil {
		t.Errorf("the other one: %v", err)
	}
	stop()
	if err := <-ended; err != nil || l.watch(ctx) != nil {
		t.Errorf("after the stop: %v", err)
	}
	if err := answers(url, 200)(); err == nil {
		t.Error("it serves after the stop")
	}
}

func TestWhatIsInFlightHasItsDrainThoughTheAgentHangsAtTheStop(t *testing.T) {
	for _, c := range []struct{ delay, drain, grace, bound time.Duration }{
		{0, 1500 * time.Millisecond, 3 * time.Second, 4500 * time.Millisecond}, // the defaults: within 5 s whatever happens
		{0, 0, 3 * time.Second, 4500 * time.Millisecond},
		{0, 10 * time.Second, 15 * time.Second, 16500 * time.Millisecond},
		{30 * time.Second, 0, 35 * time.Second, 36500 * time.Millisecond},
		{30 * time.Second, 10 * time.Second, 45 * time.Second, 46500 * time.Millisecond},
	} {
		grace, bound := stopTimes(c.delay, c.drain)
		if grace != c.grace || bound != c.bound || grace > service.DefaultGrace && grace < leaving+c.delay+c.drain {
			t.Errorf("-stop-delay %v -drain %v: %v and %v, want %v and %v", c.delay, c.drain, grace, bound, c.grace, c.bound)
		}
	}
}
