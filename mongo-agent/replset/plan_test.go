package replset

import (
	"errors"
	"testing"

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

func TestExtensionAddsOneMemberAndKeepsTheRest(t *testing.T) {
	config := append(first("s", "a:1", Timing{}), bson.E{Key: "protocolVersion", Value: int64(1)})
	addresses := []string{"a:1", "b:2", "c:3"}
	for i, want := range addresses[1:] {
		extended, added, err := next(config, addresses)
		if err != nil || added != want {
			t.Fatalf("added %q, %v, want %q", added, err, want)
		}
		var now current
		raw, _ := bson.Marshal(extended)
		if err := bson.Unmarshal(raw, &now); err != nil {
			t.Fatal(err)
		}
		if len(now.Members) != i+2 || now.Members[i+1] != (entry{int32(i + 1), want}) || now.Version != int64(i+2) {
			t.Errorf("configuration %+v", now)
		}
		if len(extended) != len(config) {
			t.Errorf("%d fields, want %d", len(extended), len(config))
		}
		config = extended
	}
	if _, added, err := next(config, addresses); added != "" || err != nil {
		t.Errorf("added %q, %v to a complete set", added, err)
	}
}

func TestMemberIDsAreNeverUsedAgain(t *testing.T) {
	config := bson.D{{Key: "version", Value: 7}, {Key: "members", Value: bson.A{
		bson.D{{Key: "_id", Value: 0}, {Key: "host", Value: "a:1"}},
		bson.D{{Key: "_id", Value: 4}, {Key: "host", Value: "c:3"}},
	}}}
	extended, _, err := next(config, []string{"a:1", "b:2", "c:3"})
	if err != nil {
		t.Fatal(err)
	}
	var now current
	raw, _ := bson.Marshal(extended)
	if err := bson.Unmarshal(raw, &now); err != nil || now.Members[2] != (entry{5, "b:2"}) {
		t.Errorf("%+v, %v", now, err)
	}
}
