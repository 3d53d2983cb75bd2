package replset

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestDecisionToInitiate(t *testing.T) {
	away := errors.New("refused")
	tests := map[string]struct {
		situation situation
		step      step
		refused   bool
	}{
		"nothing there":                        {situation{Peers: []peer{{}, {}}}, initiate, false},
		"nothing there, peers away":            {situation{Peers: []peer{{Err: away}, {Err: away}}}, initiate, false},
		"interrupted":                          {situation{Configured: true}, extend, false},
		"complete":                             {situation{Configured: true, Finished: true}, leave, false},
		"own data lost":                        {situation{Peers: []peer{{Set: "consuldemo"}, {}}}, leave, true},
		"own data lost, peers away":            {situation{Finished: true, Peers: []peer{{}, {Err: away}}}, leave, true},
		"everybody's data lost":                {situation{Finished: true, Peers: []peer{{}, {}}}, initiate, false},
		"own data and the mark in Consul lost": {situation{Peers: []peer{{Err: away}, {Set: "consuldemo"}}}, leave, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := decide(test.situation)
			if (err != nil) != test.refused || (err == nil && got != test.step) {
				t.Errorf("step %v, error %v", got, err)
			}
		})
	}
}

// members returns members at addresses, all in one datacenter.
func members(addresses ...string) []Member {
	var all []Member
	for _, address := range addresses {
		all = append(all, Member{Address: address, Datacenter: "dc1"})
	}
	return all
}

func decoded(t *testing.T, config bson.D) current {
	t.Helper()
	now, err := read(config)
	if err != nil {
		t.Fatal(err)
	}
	return now
}

func hosts(config current) []string {
	var hosts []string
	for _, m := range config.Members {
		hosts = append(hosts, m.Host)
	}
	return hosts
}

func TestExtensionAddsOneMemberAndKeepsTheRest(t *testing.T) {
	wanted := members("a:1", "b:2", "c:3")
	config := append(first("s", wanted[0], Timing{}), bson.E{Key: "protocolVersion", Value: int64(1)})
	for i, want := range wanted[1:] {
		step, err := next(config, wanted, false)
		if err != nil || step.added != want.Address || step.removed != "" {
			t.Fatalf("%+v, %v, want %s added", step, err, want.Address)
		}
		now := decoded(t, step.config)
		if last := now.Members[i+1]; len(now.Members) != i+2 || last.Host != want.Address || last.ID != int32(i+1) || last.Tags["dc"] != "dc1" || now.Version != int64(i+2) {
			t.Errorf("configuration %+v", now)
		}
		if len(step.config) != len(config) {
			t.Errorf("%d fields, want %d", len(step.config), len(config))
		}
		config = step.config
	}
	if step, err := next(config, wanted, true); step.added+step.removed != "" || err != nil {
		t.Errorf("%+v, %v for a complete set", step, err)
	}
}

func TestMemberIDsAreNeverUsedAgain(t *testing.T) {
	config := bson.D{{Key: "version", Value: 7}, {Key: "members", Value: bson.A{
		bson.D{{Key: "_id", Value: 0}, {Key: "host", Value: "a:1"}},
		bson.D{{Key: "_id", Value: 4}, {Key: "host", Value: "c:3"}},
	}}}
	step, err := next(config, members("a:1", "b:2", "c:3"), false)
	if err != nil {
		t.Fatal(err)
	}
	if now := decoded(t, step.config); now.Members[2].ID != 5 || now.Members[2].Host != "b:2" {
		t.Errorf("%+v", now)
	}
}

// One member at a time, so that any majority of the old set meets any of the new one;
// and what is not asked for stays when nothing is to be pruned.
func TestSurplusMembersLeaveOneByOneAndOnlyIfToldTo(t *testing.T) {
	config := first("s", Member{Address: "a:1"}, Timing{})
	for range 3 {
		step, err := next(config, members("a:1", "b:2", "c:3", "d:4"), false)
		if err != nil {
			t.Fatal(err)
		}
		config = step.config
	}
	if step, err := next(config, members("a:1", "b:2"), false); err != nil || step.added+step.removed != "" {
		t.Errorf("without pruning: %+v, %v", step, err)
	}
	for _, want := range []string{"d:4", "c:3"} {
		step, err := next(config, members("a:1", "b:2"), true)
		if err != nil || step.removed != want {
			t.Fatalf("%+v, %v, want %s removed", step, err, want)
		}
		config = step.config
	}
	if got := hosts(decoded(t, config)); !slices.Equal(got, []string{"a:1", "b:2"}) {
		t.Errorf("members %v", got)
	}
}

// MongoDB refuses a mode that its members cannot satisfy, so the write concern must
// come with the second datacenter and leave with it.
func TestTheWriteConcernOfTwoDatacentersIsThereAsLongAsThereAreTwo(t *testing.T) {
	one, two := Member{"a:1", "dc1"}, Member{"b:2", "dc2"}
	modes := func(config bson.D) bson.D {
		settings, _ := value(config, "settings").(bson.D)
		modes, _ := value(settings, "getLastErrorModes").(bson.D)
		return modes
	}
	config := first("s", one, Timing{Heartbeat: time.Second})
	config = replaced(config, "settings", replaced(value(config, "settings").(bson.D), "getLastErrorModes", bson.D{{Key: "own", Value: bson.D{{Key: "rack", Value: 1}}}}))
	step, err := next(config, []Member{one, two}, true)
	if got := value(modes(step.config), MultiDC); err != nil || !reflect.DeepEqual(got, bson.D{{Key: "dc", Value: 2}}) {
		t.Fatalf("with two datacenters: %v, %v", got, err)
	}
	if step, err = next(step.config, []Member{one}, true); err != nil || value(modes(step.config), MultiDC) != nil {
		t.Errorf("with one datacenter: %v, %v", modes(step.config), err)
	}
	if value(modes(step.config), "own") == nil || value(value(step.config, "settings").(bson.D), "heartbeatIntervalMillis") == nil {
		t.Errorf("somebody else's settings are gone: %v", step.config)
	}
}

// The others stay in the configuration: that is how they learn that they have no vote.
func TestAForcedConfigurationLeavesTheVotesToTheVotersAlone(t *testing.T) {
	config := first("s", Member{"a:1", "dc1"}, Timing{})
	for range 2 {
		step, err := next(config, []Member{{"a:1", "dc1"}, {"b:2", "dc1"}, {"c:3", "dc2"}}, true)
		if err != nil {
			t.Fatal(err)
		}
		config = step.config
	}
	config, err := forced(config, []string{"c:3"})
	if err != nil {
		t.Fatal(err)
	}
	now := decoded(t, config)
	if got := hosts(now); !slices.Equal(got, []string{"a:1", "b:2", "c:3"}) {
		t.Errorf("members %v", got)
	}
	raw, err := bson.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	var priorities struct {
		Members []struct {
			Votes    int     `bson:"votes"`
			Priority float64 `bson:"priority"`
		} `bson:"members"`
	}
	if err := bson.Unmarshal(raw, &priorities); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{0, 0, 1} {
		if m := priorities.Members[i]; m.Votes != want || m.Priority != float64(want) {
			t.Errorf("member %d has %d votes and priority %v, want %d", i, m.Votes, m.Priority, want)
		}
	}
	if value(value(value(config, "settings").(bson.D), "getLastErrorModes").(bson.D), MultiDC) == nil {
		t.Error("the write concern of two datacenters is gone, although members of both are left")
	}
	if _, err := forced(config, []string{"x:9"}); err == nil {
		t.Error("a stranger is made a voter")
	}
}
