package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"sluice/internal/consultest"
)

// agentService is what the agent says about a registration.
type agentService struct {
	Service string
	Port    int
	Tags    []string
	Connect struct{ Native bool }
}

// holds asks the agent, with every right, whether it holds an instance with a
// check in the given status ("" for no matter).
func holds(agent *consultest.Agent, id, status string) func() error {
	return func() error {
		code, body, err := agent.Raw(context.Background(), http.MethodGet,
			"/v1/agent/health/service/id/"+id+"?format=text", agent.Management(), nil)
		switch {
		case err != nil:
			return err
		case code == http.StatusNotFound:
			return fmt.Errorf("the agent does not know %s", id)
		case status != "" && string(body) != status:
			return fmt.Errorf("%s is %s, want %s", id, body, status)
		}
		return nil
	}
}

func lacks(agent *consultest.Agent, id string) func() error {
	return func() error {
		if holds(agent, id, "")() == nil {
			return errors.New("the agent still knows " + id)
		}
		return nil
	}
}

func ttl(id, name string) Registration {
	return Registration{
		ID: id, Name: name, Address: "127.0.0.1", Port: 8000, Native: true,
		Tags: []string{"urlprefix-/" + name}, Meta: map[string]string{"role": "test"}, Check: Check{TTL: 5 * time.Second},
	}
}

func TestRegistrationsFollowWhatIsDesired(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	registrar := open(t, agent, agent.ServiceFile("web")).Registrar()
	stop := running(t, registrar.Run)
	registrar.Set(ttl("web-1", "web"))
	registrar.Set(ttl("web-2", "web"))
	if err := registrar.Wait(within(t, 2*time.Second)); err != nil {
		t.Fatal(err)
	}
	consultest.Await(t, 0, "critical before the first report", holds(agent, "web-1", "critical"))
	for status, report := range map[string]func(id, note string){"passing": registrar.Pass, "warning": registrar.Warn, "critical": registrar.Fail} {
		report("web-1", "as told")
		if err := registrar.Wait(within(t, 2*time.Second)); err != nil {
			t.Fatal(err)
		}
		consultest.Await(t, 0, "the report is in", holds(agent, "web-1", status))
	}
	var service agentService
	agent.Call(http.MethodGet, "/v1/agent/service/web-1", nil, &service)
	if service.Service != "web" || service.Port != 8000 || !service.Connect.Native || len(service.Tags) != 1 {
		t.Errorf("the agent holds %+v", service)
	}
	changed := ttl("web-1", "web")
	changed.Tags = []string{"primary"}
	registrar.Pass("web-1", "")
	registrar.Set(changed)
	registrar.Remove("web-2")
	if err := registrar.Wait(within(t, 2*time.Second)); err != nil {
		t.Fatal(err)
	}
	agent.Call(http.MethodGet, "/v1/agent/service/web-1", nil, &service)
	if len(service.Tags) != 1 || service.Tags[0] != "primary" {
		t.Errorf("tags %v, want the new one", service.Tags)
	}
	consultest.Await(t, 0, "a changed registration keeps its report", holds(agent, "web-1", "passing"))
	consultest.Await(t, 0, "removed", lacks(agent, "web-2"))
	stop()
	consultest.Await(t, 0, "nothing is left at the end", lacks(agent, "web-1"))
}

func TestARegistrationThatTheAgentLostComesBack(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	registrar := open(t, agent, agent.ServiceFile("web")).Registrar()
	running(t, registrar.Run)
	registrar.Set(ttl("web-1", "web"))
	registrar.Set(Registration{ID: "web-2", Name: "web", Port: 8002}) // No check: only the comparison notices.
	registrar.Pass("web-1", "")
	if err := registrar.Wait(within(t, 2*time.Second)); err != nil {
		t.Fatal(err)
	}
	agent.Call(http.MethodPut, "/v1/agent/service/deregister/web-1", nil, nil)
	agent.Call(http.MethodPut, "/v1/agent/service/deregister/web-2", nil, nil)
	took := consultest.Await(t, 5*time.Second, "registered again", holds(agent, "web-1", "passing"))
	consultest.Await(t, 5*time.Second, "registered again", holds(agent, "web-2", "passing"))
	t.Logf("somebody deregistered it: back after %s", took)

	agent.Kill()
	agent.Forget()
	agent.Restart()
	consultest.Await(t, 30*time.Second, "the agent answers again", func() error {
		_, _, err := agent.Raw(t.Context(), http.MethodGet, "/v1/status/leader", "", nil)
		return err
	})
	took = consultest.Await(t, 5*time.Second, "registered again", holds(agent, "web-1", "passing"))
	t.Logf("the agent forgot it: back %s after the agent", took)
}

func TestATTLCheckIsKeptAlive(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	registrar := open(t, agent, agent.ServiceFile("web")).Registrar()
	running(t, registrar.Run)
	registration := ttl("web-1", "web")
	registration.Check.TTL = time.Second
	registrar.Set(registration)
	registrar.Pass("web-1", "")
	if err := registrar.Wait(within(t, 2*time.Second)); err != nil {
		t.Fatal(err)
	}
	stays := holds(agent, "web-1", "passing")
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); {
		if err := stays(); err != nil {
			t.Fatal(err)
		}
		<-time.After(50 * time.Millisecond)
	}
}

func TestAnHTTPCheckTellsConsul(t *testing.T) {
	t.Parallel()
	healthy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer healthy.Close()
	agent := consultest.Start(t, consultest.Config{})
	registrar := open(t, agent, agent.ServiceFile("web")).Registrar()
	running(t, registrar.Run)
	registrar.Set(Registration{ID: "web-1", Name: "web", Port: 8000, Native: true, Check: Check{HTTP: healthy.URL}})
	consultest.Await(t, 5*time.Second, "passing", holds(agent, "web-1", "passing"))
	healthy.Close()
	consultest.Await(t, 5*time.Second, "critical", holds(agent, "web-1", "critical"))
}

func TestLeavingAHungAgentIsBounded(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	registrar := open(t, agent, agent.ServiceFile("web")).Registrar()
	stop := running(t, registrar.Run)
	registrar.Set(ttl("web-1", "web"))
	if err := registrar.Wait(within(t, 2*time.Second)); err != nil {
		t.Fatal(err)
	}
	agent.Stop()
	defer agent.Continue()
	start := time.Now()
	stop()
	if took := time.Since(start); took > leaveTimeout+time.Second {
		t.Errorf("left after %s, want at most %s", took, leaveTimeout)
	}
}

func TestRegisteringWithoutARightSaysWhichRuleIsMissing(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	registrar := open(t, agent, agent.ServiceFile("other")).Registrar()
	running(t, registrar.Run)
	registrar.Set(ttl("web-1", "web"))
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := registrar.Wait(ctx); !errors.Is(err, ErrForbidden) {
		t.Errorf("got %v, want ErrForbidden", err)
	} else {
		t.Log(err)
	}
}

func TestTheAgentIsAskedForOurOwnRegistrationsAndFindsThem(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	recorder := record(t, agent)
	registrar := openAt(t, recorder.address, agent.ServiceFile("web")).Registrar()
	registrar.Set(ttl("web-1", "web"))
	registrar.Pass("web-1", "")
	running(t, registrar.Run)
	consultest.Await(t, 10*time.Second, "it is looked at three times", func() error {
		services, checks := recorder.count(`GET /v1/agent/services ID == "web-1"`), recorder.count(`GET /v1/agent/checks ServiceID == "web-1"`)
		if services < 3 || checks < 3 {
			return fmt.Errorf("services were asked for %d times, checks %d", services, checks)
		}
		return nil
	})
	if n := recorder.count("PUT /v1/agent/service/register"); n != 1 {
		t.Errorf("it was registered %d times, want once", n)
	}
	for _, ids := range [][]string{nil, {`a"b`}, make([]string, mostNamed+1)} {
		if filter := anyOf("ID", ids); filter != "" {
			t.Errorf("%q: filter %s, want none", ids, filter)
		}
	}
	if filter := anyOf("ID", []string{"a", "b:1"}); filter != `ID == "a" or ID == "b:1"` {
		t.Errorf("filter %s", filter)
	}
}
