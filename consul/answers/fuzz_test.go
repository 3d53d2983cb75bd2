package answers

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/hashicorp/consul/api"
)

// peerEntry is what encoding/json reads of an entry; its members are those that the
// product uses.
type peerEntry struct {
	Node    *struct{ Node, Address, Datacenter string }
	Service *struct {
		Kind    api.ServiceKind
		ID      string
		Tags    []*string
		Meta    map[string]string
		Port    int
		Address string
		Connect *struct{ Native bool }
		Proxy   *struct{ DestinationServiceID string }
	}
	Checks []*struct{ CheckID, Status string }
}

// entry returns nil for what is refused beyond JSON: a null in a list, no node, no service.
func (p *peerEntry) entry() *Entry {
	if p == nil || p.Node == nil || p.Service == nil || slices.Contains(p.Checks, nil) || slices.Contains(p.Service.Tags, nil) {
		return nil
	}
	n, s := p.Node, p.Service
	e := &Entry{
		Node: n.Node, NodeAddress: n.Address, Datacenter: n.Datacenter,
		Kind: s.Kind, ID: s.ID, Tags: texts(s.Tags), Meta: s.Meta, Port: s.Port, Address: s.Address,
		Native: s.Connect != nil && s.Connect.Native,
	}
	if s.Proxy != nil {
		e.ProxyFor = s.Proxy.DestinationServiceID
	}
	var checks api.HealthChecks
	for _, c := range p.Checks {
		checks = append(checks, &api.HealthCheck{CheckID: c.CheckID, Status: c.Status})
	}
	e.Passing = checks.AggregatedStatus() == api.HealthPassing
	return e
}

func texts(list []*string) []string {
	var all []string
	for _, text := range list {
		all = append(all, *text)
	}
	return all
}

// peerEntries reads an answer by encoding/json; good is that it is to be taken.
func peerEntries(content []byte) (list []*Entry, good bool) {
	var peers []*peerEntry
	if json.Unmarshal(content, &peers) != nil || peers == nil {
		return nil, false
	}
	for _, p := range peers {
		list = append(list, p.entry())
	}
	return list, !slices.Contains(list, nil)
}

// sameList compares entries by all that they hold; no tags are no tags.
func sameList(a, b []*Entry) bool {
	return slices.EqualFunc(a, b, func(a, b *Entry) bool {
		x, y := *a, *b
		same := slices.Equal(x.Tags, y.Tags) && maps.Equal(x.Meta, y.Meta)
		x.Tags, x.Meta, y.Tags, y.Meta = nil, nil, nil, nil
		return same && reflect.DeepEqual(x, y)
	})
}

// refusesTwice reports whether an answer is refused for a member that is there twice, or
// for a null, which with encoding/json a second member of the name would undo.
func refusesTwice(err error, content []byte) bool {
	return err != nil && (strings.Contains(err.Error(), "twice") || strings.Contains(err.Error(), "a null in") && bytes.Count(content, []byte("null")) > 0)
}

const sampleEntry = `{"Node":{"ID":"x","Node":"n1","Address":"10.0.0.1","Datacenter":"dc1","Meta":{"a":"b"},"CreateIndex":12},` +
	`"Service":{"ID":"web-1","Service":"web","Tags":["urlprefix-/a","b\u003cc é","\ud83d\ude00\ud83d"],"Meta":{"k":"v","\u0041":"w"},"Port":8000,` +
	`"Address":"","Weights":{"Passing":1,"Warning":-1.5e+3},"Connect":{"Native":true},"Proxy":{"Mode":"","DestinationServiceID":"web-0"},"PeerName":null},` +
	`"Checks":[{"CheckID":"serfHealth","Status":"passing","Output":"a\nb"},{"CheckID":"x","Status":"warning"}]}`

func FuzzEntriesAreReadAsEncodingJSONReadsThem(f *testing.F) {
	for _, seed := range []string{
		"[" + sampleEntry + "]", "[" + sampleEntry + "," + strings.ReplaceAll(sampleEntry, "web-1", "web-2") + "]\n", "[]", "null", "[null, {}]", " [ { \"Node\" : null } ] ",
		`[{"node":{"NODE":"a"},"SERVICE":{"tagſ":["x",null],"port":-0},"checks":[null,{"checkid":"_node_maintenance"}]}]`,
		`[{"Service":{"ID":"a","ID":"b"}}]`, `[{"Service":{"Tags":"x"}}]`, `[{"Service":{"Port":1.0}}]`, `[{"Service":{"Meta":{"a":null}}}]`, `[{}] x`, `[{},]`, `[01]`, "[{\"Service\":{\"ID\":\"abcd\x80efghijk\"}}]", "[{\"x\":\"\x01\"}]", "[{\"x\":\"\xff\"}]",
		`[{"Node":{},"Service":{},"Checks":[{"CheckID":"_service_maintenance:x","Status":"passing"}]}]`,
		`[{"Node":{},"Service":{},"Checks":[null]}]`, `[{"Service":{"ID":"web-1","Tags":null,"Proxy":{"Config":{"x":[null]}}},"Node":{"Node":"n1"},"Checks":null}]`, `[{"Node":{},"Service":null}]`,
	} {
		f.Add([]byte("["+sampleEntry+"]"), []byte(seed))
		f.Add([]byte(seed), []byte("["+sampleEntry+"]"))
	}
	f.Fuzz(func(t *testing.T, before, now []byte) {
		want, good := peerEntries(now)
		var first, second Entries
		kept, keptErr := first.Read(bytes.NewReader(before), make([]byte, 64))
		got, err := first.Read(bytes.NewReader(now), make([]byte, 64))
		alone, aloneErr := second.Read(iotest.OneByteReader(bytes.NewReader(now)), nil)
		switch {
		case (err == nil) != (aloneErr == nil):
			t.Fatalf("after another answer %v, by itself %v", err, aloneErr)
		case refusesTwice(err, now):
		case (err == nil) != good:
			t.Fatalf("%v, by encoding/json it is to be taken: %t", err, good)
		case err == nil && (!sameList(got, want) || !sameList(alone, want)):
			t.Fatalf("read\n%s and\n%s, want\n%s", show(got), show(alone), show(want))
		}
		var whole []*api.ServiceEntry
		if good && json.Unmarshal(now, &whole) == nil && err != nil && !refusesTwice(err, now) {
			t.Fatalf("the api package reads it: %v", err)
		}
		if keptErr == nil && err != nil {
			if same, err := first.Read(bytes.NewReader(before), nil); err != nil || !slices.Equal(same, kept) {
				t.Fatalf("what was kept is lost: %v", err)
			}
		}
	})
}

func show(list []*Entry) string {
	text, _ := json.Marshal(list)
	return string(text)
}

func FuzzServicesAreReadAsEncodingJSONReadsThem(f *testing.F) {
	for _, seed := range []string{
		`{"consul":[],"web":["urlprefix-/","x"],"db":["y",null]}`, `{"a":null}`, "null", `{}`, `{"a":["x"],"a":[]}`, `{"a":[1]}`, `{"a":"x"}`, `{"\u0061":["\u0075rlprefix-/"]} `, `{"a":[]}}`,
	} {
		f.Add([]byte(`{"web":["urlprefix-/"],"gone":["urlprefix-/x"]}`), []byte(seed), "urlprefix-")
		f.Add([]byte(seed), []byte(`{"web":["urlprefix-/"]}`), "")
	}
	f.Fuzz(func(t *testing.T, before, now []byte, prefix string) {
		var services map[string][]*string
		good := json.Unmarshal(now, &services) == nil && services != nil
		var want []string
		for name, tags := range services {
			if good = good && !slices.Contains(tags, nil); !good {
				break
			}
			if slices.ContainsFunc(texts(tags), func(tag string) bool { return strings.HasPrefix(tag, prefix) }) {
				want = append(want, name)
			}
		}
		slices.Sort(want)
		reader := Services{Prefix: prefix}
		_, _, _ = reader.Read(bytes.NewReader(before), make([]byte, 64))
		names, total, err := reader.Read(iotest.HalfReader(bytes.NewReader(now)), make([]byte, 16))
		switch {
		case refusesTwice(err, now):
		case (err == nil) != good:
			t.Fatalf("%v, by encoding/json it is to be taken: %t", err, good)
		case err == nil && (!slices.Equal(names, want) || total != len(services)):
			t.Fatalf("names %q of %d, want %q of %d", names, total, want, len(services))
		}
	})
}
