package consul

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/internal/consultest"
	"sluice/mesh"
)

// register puts a passing Connect-native instance into the agent.
func register(agent *consultest.Agent, id, name string, port int, tags ...string) {
	agent.Call(http.MethodPut, "/v1/agent/service/register", map[string]any{
		"ID": id, "Name": name, "Port": port, "Tags": tags, "Meta": map[string]string{"id": id},
		"Connect": map[string]any{"Native": true},
	}, nil)
}

func finds(resolver mesh.Resolver, service string, want int) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		instances, err := resolver.Instances(ctx, service)
		if len(instances) != want {
			return errors.Join(unequal("the number of instances", len(instances), want), err)
		}
		return nil
	}
}

func TestAResolverFollowsPassingInstances(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	resolver := open(t, agent, agent.ServiceFile("gateway")).Resolver("web")
	running(t, resolver.Run)
	if _, err := resolver.Instances(within(t, 5*time.Second), "web"); !errors.Is(err, mesh.ErrNoInstance) {
		t.Fatalf("with none registered: %v", err)
	}
	if _, err := resolver.Instances(t.Context(), "other"); !errors.Is(err, mesh.ErrNoInstance) {
		t.Fatalf("a service that is not followed: %v", err)
	}
	changed := resolver.Changed("web")
	register(agent, "web-1", "web", 8000, "urlprefix-/web")
	register(agent, "web-2", "web", 8001)
	took := consultest.Await(t, 5*time.Second, "both are found", finds(resolver, "web", 2))
	t.Logf("found after %s", took)
	consultest.Await(t, 0, "Changed tells it", closed(changed))
	instances, _ := resolver.Instances(t.Context(), "web")
	first := instances[0]
	if first.ServiceID != "web-1" || first.Address != agent.Host+":8000" || first.ID.Service() != "web" ||
		first.ID.Datacenter() != "dc1" || first.Tags[0] != "urlprefix-/web" || first.Meta["id"] != "web-1" {
		t.Errorf("the first is %+v", first)
	}
	address, uri, err := resolver.Connect("web").Resolve(t.Context())
	if err != nil || !strings.HasPrefix(address, agent.Host) || uri.URI().String() != first.ID.String() {
		t.Errorf("in the SDK's form: %s, %v, %v", address, uri, err)
	}
	agent.Call(http.MethodPut, "/v1/agent/service/maintenance/web-1?enable=true", nil, nil)
	consultest.Await(t, 5*time.Second, "one that does not pass is left out", finds(resolver, "web", 1))

	agent.Kill()
	consultest.Await(t, 5*time.Second, "the loss is noticed", func() error {
		if resolver.services["web"].places[0].watch.State().Err == nil {
			return errors.New("no error yet")
		}
		return nil
	})
	consultest.Await(t, 0, "the last known instances stay", finds(resolver, "web", 1))
}

func TestHiddenInstancesAreExplained(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	register(agent, "web-1", "web", 8000)
	for name, test := range map[string]struct{ rules, want string }{
		"no node:read":    {`service "web" { policy = "read" }`, `node_prefix "" { policy = "read" }`},
		"no service:read": {`service "other" { policy = "read" }`, `service "web" { policy = "read" }`},
	} {
		t.Run(name, func(t *testing.T) {
			resolver := open(t, agent, agent.PolicyFile(test.rules)).Resolver("web")
			running(t, resolver.Run)
			_, err := resolver.Instances(within(t, 5*time.Second), "web")
			if !errors.Is(err, mesh.ErrNoInstance) || !errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want ErrNoInstance and ErrForbidden and %s", err, test.want)
			}
		})
	}
}

func TestResolverAllFollowsEveryServiceWithTheTag(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	register(agent, "db-1", "db", 27018)
	resolver := open(t, agent, agent.ServiceFile("gateway")).ResolverAll("urlprefix-")
	running(t, resolver.Run)
	if _, err := resolver.Instances(within(t, 5*time.Second), "web"); !errors.Is(err, mesh.ErrNoInstance) {
		t.Fatalf("before it is there: %v", err)
	}
	changed := resolver.Changed()
	register(agent, "web-1", "web", 8000, "urlprefix-/web")
	took := consultest.Await(t, 5*time.Second, "the new service is found", finds(resolver, "web", 1))
	t.Logf("found after %s", took)
	consultest.Await(t, time.Second, "Changed tells it", closed(changed))
	services := resolver.Services()
	if len(services) != 1 || len(services["web"]) != 1 || services["web"][0].Tags[0] != "urlprefix-/web" {
		t.Errorf("services %v", services)
	}
	came := resolver.Index("web")
	if came == 0 || resolver.Index("never") != 0 {
		t.Errorf("index %d of web, %d of a service that never was", came, resolver.Index("never"))
	}
	agent.Call(http.MethodPut, "/v1/agent/service/deregister/web-1", nil, nil)
	consultest.Await(t, 5*time.Second, "a service that is gone is left out", func() error {
		if n := len(resolver.Services()); n != 0 {
			return unequal("the number of services", n, 0)
		}
		return nil
	})
	if left := resolver.Index("web"); left <= came {
		t.Errorf("index %d of the change by which web left, %d of that by which it came", left, came)
	}
}

func TestAnAgentThatIsAwayIsNamedAsTheReason(t *testing.T) {
	resolver := openAt(t, "127.0.0.1:1", "").Resolver("web")
	running(t, resolver.Run)
	_, err := resolver.Instances(within(t, 300*time.Millisecond), "web")
	if !errors.Is(err, mesh.ErrNoInstance) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
}
