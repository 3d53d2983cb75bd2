package consul

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"sluice/consul/answers"
	"sluice/internal/consultest"
	"sluice/mesh"
)

func TestTheListOfServicesLeavesOutWhatIsWatchedAndAsksAgainOnceItIsNot(t *testing.T) {
	var asked []string
	var say string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Query().Get("index")+" "+r.URL.Query().Get("filter"))
		w.Header().Set("X-Consul-Index", "5")
		_, _ = w.Write([]byte(say))
	}))
	defer server.Close()
	var settled []string
	l := &lister{client: openAt(t, server.URL, ""), reader: answers.Services{Prefix: "urlprefix-"}, settled: func() []string { return settled }}
	for i, step := range []struct {
		settled []string
		index   uint64
		say     string
		asked   string
		names   string
	}{
		{nil, 0, `{"web":["urlprefix-/"],"db":["x"]}`, " ", "web"},
		{[]string{"web"}, 5, `{"db":["x"],"app":["urlprefix-/app"]}`, "5 ServiceName not matches `^(web)$`", "app web"},
		{[]string{"app", "web"}, 5, `{"db":["x"]}`, "5 ServiceName not matches `^((app|web))$`", "app web"},
		{[]string{"app"}, 5, `{"db":["x"]}`, " ServiceName not matches `^(app)$`", "app"},
		{[]string{"app", "web"}, 0, `{"web":["urlprefix-/"]}`, " ", "web"},
	} {
		settled, say = step.settled, step.say
		names, _, err := l.list(t.Context(), (&api.QueryOptions{WaitIndex: step.index}).WithContext(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(names, " "); got != step.names || asked[i] != step.asked {
			t.Errorf("step %d: asked %q and found %q, want %q and %q", i, asked[i], got, step.asked, step.names)
		}
	}
}

func TestATokenThatHasLostEverythingEmptiesNoListOfServices(t *testing.T) {
	var asked []string
	say := map[string]string{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		filter := r.URL.Query().Get("filter")
		asked = append(asked, strings.TrimSpace(r.URL.Query().Get("index")+" "+filter))
		w.Header().Set("X-Consul-Index", "5")
		w.Header().Set("X-Consul-LastContact", "0")
		w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
		_, _ = w.Write([]byte(say[filter]))
	}))
	defer server.Close()
	const without = "ServiceName not matches `^(web)$`"
	l := &lister{client: openAt(t, server.URL, ""), reader: answers.Services{Prefix: "urlprefix-"}, settled: func() []string { return []string{"web"} }}
	list := func(all string) (string, error) {
		asked, say = nil, map[string]string{without: "{}", "": all}
		names, _, err := l.list(t.Context(), (&api.QueryOptions{WaitIndex: 5}).WithContext(t.Context()))
		return strings.Join(names, " "), err
	}
	if names, err := list(`{"web":["urlprefix-/"]}`); names != "web" || err != nil || !slices.Equal(asked, []string{"5 " + without, ""}) {
		t.Errorf("where the one that is left out is all there is: %q, %v; asked %q", names, err, asked)
	}
	if names, err := list("{}"); !errors.Is(err, ErrForbidden) {
		t.Errorf("where that is hidden too: %q, %v", names, err)
	}
}

func TestOnlyServicesWithManyTagsAndPlainNamesAreLeftOut(t *testing.T) {
	all := []weighed{{"small", leastSkipped - 1}, {"a-name-that-is-long", 19*skippedByLetter - 1}, {"a|b", 9000}, {"dotted.name", 9000}, {"web", leastSkipped}, {"app", 9000}}
	if got := largest(all); !slices.Equal(got, []string{"app", "web"}) {
		t.Errorf("left out are %q, want app and web", got)
	}
	all = nil
	for i := range 3 * mostSkipped {
		all = append(all, weighed{fmt.Sprintf("s%03d", i), leastSkipped + i})
	}
	if got := largest(all); len(got) != mostSkipped || got[0] != fmt.Sprintf("s%03d", 2*mostSkipped) {
		t.Errorf("left out are %d from %q on, want the %d largest", len(got), got[0], mostSkipped)
	}
}

func TestServicesWithManyTagsAreFollowedAsOthersAre(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	tags := strings.Split(strings.Repeat("urlprefix-/many ", 2*leastSkipped/16), " ")
	register(agent, "large-1", "large", 8000, tags...)
	register(agent, "failing-1", "failing", 8001, tags...)
	resolver := open(t, agent, agent.ServiceFile("gateway")).ResolverAll("urlprefix-")
	running(t, resolver.Run)
	settledAre := func(want ...string) func() error {
		return func() error {
			if got := resolver.snap.Load().settled; !slices.Equal(got, want) {
				return unequal("what is left out of the list", got, want)
			}
			return nil
		}
	}
	consultest.Await(t, 5*time.Second, "both are left out of the list", settledAre("failing", "large"))

	register(agent, "new-1", "new", 8002, "urlprefix-/new")
	consultest.Await(t, 5*time.Second, "a new service is found", finds(resolver, "new", 1))
	agent.Call(http.MethodPut, "/v1/agent/service/maintenance/failing-1?enable=true", nil, nil)
	consultest.Await(t, 5*time.Second, "one without a passing instance is in the list again", settledAre("large"))
	if names := resolver.names.State().Value; !slices.Equal(names, []string{"failing", "large", "new"}) {
		t.Errorf("followed are %q", names)
	}

	agent.Call(http.MethodPut, "/v1/agent/service/deregister/large-1", nil, nil)
	consultest.Await(t, 5*time.Second, "one that is gone has no instance", finds(resolver, "large", 0))
	register(agent, "other-1", "other", 8003)
	consultest.Await(t, 5*time.Second, "one that is gone is followed no more", func() error {
		if _, there := resolver.snap.Load().watches["large"]; there {
			return errors.New("it is followed")
		}
		return nil
	})
	register(agent, "large-1", "large", 8000, tags...)
	consultest.Await(t, 5*time.Second, "one that is back is found", finds(resolver, "large", 1))

	register(agent, "large-1", "large", 8000, "urlprefix-no")
	register(agent, "large-1", "large", 8000, "other")
	consultest.Await(t, 5*time.Second, "one that has lost its tags is left out", func() error {
		if _, there := resolver.Services()["large"]; there {
			return errors.New("it is named")
		}
		return nil
	})
	register(agent, "large-1", "large", 8000, tags...)
	consultest.Await(t, 5*time.Second, "one that has its tags back is found", func() error {
		return unlessOne(resolver.Services()["large"])
	})
}

func unlessOne(instances []mesh.Instance) error {
	if len(instances) != 1 {
		return unequal("the number of instances", len(instances), 1)
	}
	return nil
}

func TestAQueryThatAsksForThePresentInPlaceOfAChangeIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rounds := 0
		w := newWatch(watchConfig[string]{name: "test", logger: slog.New(slog.DiscardHandler), query: func(ctx context.Context, options *api.QueryOptions) (string, *api.QueryMeta, error) {
			rounds++
			switch rounds {
			case 1:
				return "a", &api.QueryMeta{LastIndex: 5}, nil
			case 2:
				options.WaitIndex = 0
				return "b", &api.QueryMeta{LastIndex: 5}, nil
			}
			<-ctx.Done()
			return "", nil, ctx.Err()
		}})
		playWatch(t, w, time.Second)
		if got := w.State().Value; got != "b" {
			t.Errorf("value %q, want b", got)
		}
	})
}

func TestAServiceWhoseChangesAreNotHeardIsNotLeftOutOfTheList(t *testing.T) {
	r := openAt(t, "127.0.0.1:1", "").ResolverAll("urlprefix-")
	watch := newWatch(watchConfig[instanceList]{name: "test", equal: instanceList.equal, logger: slog.New(slog.DiscardHandler)})
	running := map[string]*followed{"web": {watch: watch}}
	tag := "urlprefix-/" + strings.Repeat("x", leastSkipped)
	watch.learn(instanceList{instances: []mesh.Instance{{ServiceID: "web-1", Tags: []string{tag}}}}, 1, true)
	if r.publish(running); !slices.Equal(r.snap.Load().settled, []string{"web"}) {
		t.Fatalf("left out are %q, want web", r.snap.Load().settled)
	}
	watch.fail(errors.New("403"))
	if r.publish(running); len(r.snap.Load().settled) > 0 {
		t.Errorf("left out are %q, want none", r.snap.Load().settled)
	}
}

func TestARoundWithoutNewsMakesNoNewSnapshot(t *testing.T) {
	r := openAt(t, "127.0.0.1:1", "").ResolverAll("urlprefix-")
	watch := newWatch(watchConfig[instanceList]{name: "test", equal: instanceList.equal, logger: slog.New(slog.DiscardHandler)})
	running := map[string]*followed{"web": {watch: watch}}
	list := instanceList{instances: []mesh.Instance{{ServiceID: "web-1", Tags: []string{"urlprefix-/"}}}}
	publish := func() *servicesSnapshot {
		r.publish(running)
		return r.snap.Load()
	}
	empty := publish()
	watch.learn(list, 1, true)
	known := publish()
	watch.learn(list, 2, true)
	if known == empty || publish() != known {
		t.Error("a first answer makes no snapshot, or the same answer a second one")
	}
	list.instances = []mesh.Instance{{ServiceID: "web-1", Tags: []string{"urlprefix-/other"}}}
	watch.learn(list, 3, true)
	if changed := publish(); changed == known || changed.services["web"][0].Tags[0] != "urlprefix-/other" {
		t.Error("a change makes no snapshot")
	}
	delete(running, "web")
	if len(publish().services) > 0 {
		t.Error("a service that is gone is named")
	}
}
