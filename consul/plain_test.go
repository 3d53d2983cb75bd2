package consul

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/internal/consultest"
	"sluice/mesh"
)

// registerAs registers an instance in the form that the API takes.
func registerAs(agent *consultest.Agent, registration map[string]any) {
	agent.Call(http.MethodPut, "/v1/agent/service/register", registration, nil)
}

// namesAre compares the instances of each service, in words.
func namesAre(resolver *ResolverAll, want string) func() error {
	return func() error {
		var got []string
		for _, service := range []string{"mixed", "native", "plain", "fronted"} {
			for _, i := range resolver.Services()[service] {
				kind := "mesh"
				if i.ID.IsZero() {
					kind = "plain"
				}
				got = append(got, i.ServiceID+"="+kind)
			}
		}
		if text := strings.Join(got, " "); text != want {
			return fmt.Errorf("instances %q, want %q", text, want)
		}
		return nil
	}
}

func TestPlainInstancesAreNamedOnRequestAndNothingOfTheMeshIsAmongThem(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	tags := []string{"urlprefix-/x plain=true"}
	native := map[string]any{"Native": true}
	registerAs(agent, map[string]any{"ID": "native-1", "Name": "native", "Port": 1, "Tags": tags, "Connect": native})
	registerAs(agent, map[string]any{"ID": "mixed-1", "Name": "mixed", "Port": 2, "Tags": tags, "Connect": native})
	registerAs(agent, map[string]any{"ID": "mixed-2", "Name": "mixed", "Port": 3, "Tags": tags})
	registerAs(agent, map[string]any{"ID": "mixed-3", "Name": "mixed", "Port": 4})
	registerAs(agent, map[string]any{"ID": "plain-1", "Name": "plain", "Port": 5, "Tags": tags})
	registerAs(agent, map[string]any{"ID": "fronted-1", "Name": "fronted", "Port": 6, "Tags": tags})
	registerAs(agent, map[string]any{
		"ID": "fronted-1-proxy", "Name": "fronted-proxy", "Kind": "connect-proxy", "Port": 7, "Tags": tags,
		"Proxy": map[string]any{"DestinationServiceName": "fronted", "DestinationServiceID": "fronted-1"},
	})
	registerAs(agent, map[string]any{
		"ID": "sick-1", "Name": "plain", "Port": 8, "Tags": tags, "Check": map[string]any{"TTL": "1h", "Status": "critical"},
	})
	client := open(t, agent, agent.ServiceFile("gateway"))
	mesh1, all := client.ResolverAll("urlprefix-"), client.ResolverAllWithPlain("urlprefix-")
	running(t, mesh1.Run)
	running(t, all.Run)

	consultest.Await(t, 5*time.Second, "all are named, and what is in the mesh only as such",
		namesAre(all, "mixed-1=mesh mixed-2=plain native-1=mesh plain-1=plain fronted-1-proxy=mesh"))
	consultest.Await(t, 5*time.Second, "nobody who does not ask for plain ones gets any",
		namesAre(mesh1, "mixed-1=mesh native-1=mesh fronted-1-proxy=mesh"))
	if list, err := all.Instances(within(t, 5*time.Second), "plain"); err == nil {
		t.Errorf("a plain instance is resolved for the mesh: %v", list)
	}

	agent.Call(http.MethodPut, "/v1/agent/service/maintenance/fronted-1-proxy?enable=true", nil, nil)
	consultest.Await(t, 5*time.Second, "an instance behind a sidecar that is not healthy is nobody's",
		namesAre(all, "mixed-1=mesh mixed-2=plain native-1=mesh plain-1=plain"))
	agent.Call(http.MethodPut, "/v1/agent/service/maintenance/fronted-1-proxy?enable=false", nil, nil)
	consultest.Await(t, 5*time.Second, "the sidecar is back",
		namesAre(all, "mixed-1=mesh mixed-2=plain native-1=mesh plain-1=plain fronted-1-proxy=mesh"))

	changed := all.Changed()
	registerAs(agent, map[string]any{"ID": "plain-1", "Name": "plain", "Port": 5, "Tags": tags, "Connect": native})
	consultest.Await(t, 5*time.Second, "one that joins the mesh is plain no more",
		namesAre(all, "mixed-1=mesh mixed-2=plain native-1=mesh plain-1=mesh fronted-1-proxy=mesh"))
	consultest.Await(t, time.Second, "Changed tells it", closed(changed))
	agent.Call(http.MethodPut, "/v1/agent/service/deregister/mixed-2", nil, nil)
	consultest.Await(t, 5*time.Second, "one that is gone is left out",
		namesAre(all, "mixed-1=mesh native-1=mesh plain-1=mesh fronted-1-proxy=mesh"))

	for plain, want := range map[bool]int{false: 0, true: 1} {
		if list, err := client.Unhealthy(within(t, 5*time.Second), "plain", plain); err != nil || len(list) != want {
			t.Errorf("Unhealthy, plain %t: %v %v, want %d", plain, list, err, want)
		}
	}
}

func TestAServiceThatIsWholeInTheMeshIsWatchedOnce(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	tags := []string{"urlprefix-/x plain=true"}
	registerAs(agent, map[string]any{"ID": "native-1", "Name": "native", "Port": 1, "Tags": tags, "Connect": map[string]any{"Native": true}})
	registerAs(agent, map[string]any{"ID": "plain-1", "Name": "plain", "Port": 2, "Tags": tags})
	recorder := record(t, agent)
	resolver := openAt(t, recorder.address, agent.ServiceFile("gateway")).ResolverAllWithPlain("urlprefix-")
	stop := running(t, resolver.Run)
	defer stop()
	consultest.Await(t, 5*time.Second, "both are found", namesAre(resolver, "native-1=mesh plain-1=plain"))
	if recorder.count("GET /v1/health/service/native "+onlyPlain) > 0 {
		t.Error("instances outside the mesh are asked for, of a service that has none")
	}
	registerAs(agent, map[string]any{"ID": "native-2", "Name": "native", "Port": 3, "Tags": tags})
	consultest.Await(t, 5*time.Second, "the first one outside the mesh is found", namesAre(resolver, "native-1=mesh native-2=plain plain-1=plain"))
	agent.Call(http.MethodPut, "/v1/agent/service/deregister/native-2", nil, nil)
	consultest.Await(t, 5*time.Second, "the last one outside the mesh is gone", namesAre(resolver, "native-1=mesh plain-1=plain"))
}

func TestPlainInstanceThatTheMeshKnowsIsLeftOutWhicheverWatchHearsFirst(t *testing.T) {
	plain := []mesh.Instance{{Node: "a", ServiceID: "1"}, {Node: "a", ServiceID: "2"}, {Node: "b", ServiceID: "1"}}
	list := instanceList{
		instances: []mesh.Instance{{Node: "a", ServiceID: "1", Address: "mesh"}},
		meshed:    map[[2]string]bool{{"a", "1"}: true, {"a", "2"}: true},
	}
	got := mergeInstances(list, plain)
	if len(got) != 2 || got[0].Address != "mesh" || got[1].Node != "b" {
		t.Errorf("got %+v, want the one of the mesh and the one on b", got)
	}
}

func TestWhoIsInTheMeshAloneChangesWhatIsMerged(t *testing.T) {
	plain := []mesh.Instance{{Node: "a", ServiceID: "1"}}
	f := &followed{
		watch: newWatch(watchConfig[instanceList]{equal: instanceList.equal}),
		plain: newWatch(watchConfig[instanceList]{equal: instanceList.equal}),
	}
	f.plain.learn(instanceList{instances: plain}, 1, true)
	for i, want := range []int{1, 0, 1} {
		var meshed map[[2]string]bool
		if want == 0 {
			meshed = map[[2]string]bool{{"a", "1"}: true}
		}
		f.watch.learn(instanceList{meshed: meshed}, uint64(i+1), true)
		if got := f.instances(); len(got) != want {
			t.Errorf("round %d: %d instances, want %d", i, len(got), want)
		}
	}
}
