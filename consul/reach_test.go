package consul

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/consul/api"

	"sluice/identity"
	"sluice/mesh"
)

var errNoPath = errors.New("no path to datacenter")

// somewhere is an instance in a datacenter.
func somewhere(t *testing.T, datacenter, node string) mesh.Instance {
	t.Helper()
	id, err := identity.New("d0d0d0d0-0000-0000-0000-000000000000.consul", datacenter, "web")
	if err != nil {
		t.Fatal(err)
	}
	return mesh.Instance{ServiceID: "web", Node: node, Address: node + ":1", ID: id}
}

// told makes a watch that has been told list, or has failed, or both.
func told(list *instanceList, err error) *Watch[instanceList] {
	w := newWatch(watchConfig[instanceList]{name: "instances", equal: instanceList.equal, logger: slog.New(slog.DiscardHandler)})
	if list != nil {
		w.learn(*list, 1, true)
	}
	if err != nil {
		w.fail(err)
	}
	return w
}

func nodes(instances []mesh.Instance) string {
	var names []string
	for _, i := range instances {
		names = append(names, i.Node)
	}
	return strings.Join(names, " ")
}

func TestADatacenterThatIsAwayKeepsWhatItHadAndHoldsUpNobody(t *testing.T) {
	near := &instanceList{instances: []mesh.Instance{somewhere(t, "dc1", "near")}}
	far := &instanceList{instances: []mesh.Instance{somewhere(t, "dc2", "far")}}
	none := &instanceList{}
	for name, test := range map[string]struct {
		own, other *Watch[instanceList]
		want       string
		known      bool
		says       string
	}{
		"both answer":                   {told(near, nil), told(far, nil), "near far", true, ""},
		"the other is away, was here":   {told(near, nil), told(far, errNoPath), "near far", true, ""},
		"the other was never here":      {told(near, nil), told(nil, errNoPath), "near", true, ""},
		"the other is silent so far":    {told(near, nil), told(nil, nil), "near", true, ""},
		"only the other has some":       {told(none, nil), told(far, nil), "far", true, ""},
		"none here, the other is away":  {told(none, nil), told(nil, errNoPath), "", true, "in datacenter dc2: " + errNoPath.Error()},
		"none here, the other may have": {told(none, nil), told(nil, nil), "", false, ""},
		"the own one is silent so far":  {told(nil, nil), told(far, nil), "far", false, ""},
		"none anywhere":                 {told(none, nil), told(none, nil), "", true, "in datacenter dc2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &seeker{service: "web", places: []placed{{"", test.own}, {"dc2", test.other}}}
			got := s.count()
			if nodes(got.instances) != test.want || got.known != test.known {
				t.Errorf("%q, known %t; want %q, known %t", nodes(got.instances), got.known, test.want, test.known)
			}
			if test.want == "" && test.known && (!errors.Is(got.err, mesh.ErrNoInstance) || !strings.Contains(got.err.Error(), test.says)) {
				t.Errorf("error %v, want %q in it", got.err, test.says)
			}
		})
	}
}

// A table is rebuilt for what has changed. The gateway knows that by the slices.
func TestServicesOfAFederationKeepTheSliceOfWhatDidNotChange(t *testing.T) {
	near, far := []mesh.Instance{somewhere(t, "dc1", "near")}, []mesh.Instance{somewhere(t, "dc2", "far")}
	snapshot := func(services map[string][]mesh.Instance) *servicesSnapshot {
		return &servicesSnapshot{services: services, changed: make(chan struct{}), round: make(chan struct{})}
	}
	c := &Client{}
	c.log = slog.New(slog.DiscardHandler)
	r := c.ResolverFederated(c.ResolverAll("urlprefix-"), []string{"dc2"})
	r.places[0].snap.Store(snapshot(map[string][]mesh.Instance{"web": near, "only": near}))
	r.places[1].snap.Store(snapshot(map[string][]mesh.Instance{"web": far, "there": far}))
	r.publish()
	before, changed := r.Services(), r.Changed()
	if nodes(before["web"]) != "near far" || nodes(before["only"]) != "near" || nodes(before["there"]) != "far" {
		t.Fatalf("%v", before)
	}
	r.publish()
	select {
	case <-changed:
		t.Error("nothing is new, and it is told as news")
	default:
	}
	r.places[1].snap.Store(snapshot(map[string][]mesh.Instance{"web": far, "there": slices.Concat(far, far)}))
	r.publish()
	select {
	case <-changed:
	default:
		t.Error("news is not told")
	}
	if after := r.Services(); !sameSlice(after["web"], before["web"]) || nodes(after["there"]) != "far far" {
		t.Errorf("%v", after)
	}
}

// Each datacenter counts for itself: an index of another would name another change.
func TestTheIndexOfAFederatedServiceIsThatOfTheDatacenterWhichChanged(t *testing.T) {
	near, far := []mesh.Instance{somewhere(t, "dc1", "near")}, []mesh.Instance{somewhere(t, "dc2", "far")}
	c := &Client{}
	c.log = slog.New(slog.DiscardHandler)
	r := c.ResolverFederated(c.ResolverAll("urlprefix-"), []string{"dc2"})
	for _, step := range []struct {
		place    int
		index    uint64
		services map[string][]mesh.Instance
	}{
		{1, 9000, map[string][]mesh.Instance{"web": far}},
		{0, 7, map[string][]mesh.Instance{"web": near}},
		{1, 9100, map[string][]mesh.Instance{}},
		{0, 8, map[string][]mesh.Instance{}},
	} {
		r.places[step.place].snap.Store(&servicesSnapshot{
			services: step.services, indexes: map[string]uint64{"web": step.index}, changed: make(chan struct{}), round: make(chan struct{}),
		})
		r.publish()
		if got := r.Index("web"); got != step.index {
			t.Errorf("datacenter %d: the index is %d, want %d", step.place, got, step.index)
		}
	}
}

func TestWaitersLearnOfAnotherDatacentersFirstAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := make(chan instanceList)
		watch := func(first instanceList, ask func(context.Context) (instanceList, error), kick chan<- struct{}) *Watch[instanceList] {
			index := uint64(0)
			return newWatch(watchConfig[instanceList]{
				name: "instances", equal: instanceList.equal, kick: kick, logger: slog.New(slog.DiscardHandler),
				query: func(ctx context.Context, _ *api.QueryOptions) (instanceList, *api.QueryMeta, error) {
					index++
					if ask == nil && index == 1 {
						return first, &api.QueryMeta{LastIndex: index}, nil
					}
					if ask == nil {
						<-ctx.Done()
						return instanceList{}, nil, fmt.Errorf("ended: %w", ctx.Err())
					}
					list, err := ask(ctx)
					return list, &api.QueryMeta{LastIndex: index}, err
				},
			})
		}
		s := &seeker{service: "web", kick: make(chan struct{}, 1)}
		s.places = []placed{{"", watch(instanceList{}, nil, s.kick)}, {"dc2", watch(instanceList{}, func(ctx context.Context) (instanceList, error) {
			select {
			case list := <-answers:
				return list, nil
			case <-ctx.Done():
				return instanceList{}, ctx.Err()
			}
		}, s.kick)}}
		s.snap.Store(&sought{changed: make(chan struct{}), round: make(chan struct{})})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.run(ctx) }()
		got := make(chan []mesh.Instance, 1)
		go func() {
			instances, _ := s.await(ctx)
			got <- instances
		}()
		synctest.Wait()
		if len(got) > 0 {
			t.Fatalf("answered %v before it was known", <-got)
		}
		answers <- instanceList{instances: []mesh.Instance{somewhere(t, "dc2", "far")}}
		if instances := <-got; nodes(instances) != "far" {
			t.Errorf("%v", instances)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestTheOwnDatacenterComesFirstAndTheOthersAsDeclared(t *testing.T) {
	resolver := openAt(t, "127.0.0.1:1", "").ResolverIn([]string{"dc3", "dc2"}, "web")
	var order []string
	for _, place := range resolver.services["web"].places {
		order = append(order, place.datacenter)
	}
	if want := []string{"", "dc3", "dc2"}; !slices.Equal(order, want) {
		t.Errorf("it looks in %q, want %q", order, want)
	}
}

func TestWhatIsKnownOfADatacenterThatCannotBeAskedIsStale(t *testing.T) {
	for name, c := range map[string]struct {
		state DatacenterState
		want  bool
	}{
		"it answers":        {DatacenterState{Known: true}, false},
		"it did":            {DatacenterState{Known: true, Err: errNoPath}, true},
		"it never did":      {DatacenterState{Err: errNoPath}, false},
		"it has not so far": {DatacenterState{}, false},
	} {
		if got := c.state.Stale(); got != c.want {
			t.Errorf("%s: stale %t", name, got)
		}
	}
}
