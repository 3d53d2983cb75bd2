package lab

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// fakeAgent is the operations endpoint of a mongo-agent, as its contract says.
func fakeAgent(t *testing.T, handler http.HandlerFunc) agentOps {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(" ab\ncd \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return agentOps{client: server.Client(), base: server.URL, key: key}
}

func TestAnOperationProvesTheKeyWithoutTellingIt(t *testing.T) {
	// printf 'sluice operations\nabcd' | sha256sum
	const want = "Bearer e80363a5029423f770b281bb2656ad1d218a073332fa0fa0740c3a7049d3a22d"
	var asked []string
	ops := fakeAgent(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.String())
		if got := r.Header.Get("Authorization"); got != want || strings.Contains(got, "abcd") {
			t.Errorf("Authorization is %q, want %q", got, want)
		}
		_, _ = w.Write([]byte("{}"))
	})
	err := errors.Join(ops.handOver(t.Context(), ""), ops.handOver(t.Context(), "mongo-2"), ops.freeze(t.Context(), time.Minute), ops.mayResync(t.Context()))
	if err != nil {
		t.Error(err)
	}
	if want := []string{"POST /handover", "POST /handover?to=mongo-2", "POST /freeze?seconds=60", "POST /resync"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
}

func TestARefusalAnUnknownOperationAndAFailureAreToldApart(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		is     error
		words  string
	}{
		{200, `{"from":"a"}`, nil, ""},
		{409, `{"error":"not primary"}`, errAgentRefused, "not primary"},
		{404, "404 page not found", errAgentCannot, "does not know"},
		{401, `{"error":"want the proof"}`, nil, "401: want the proof"},
		{500, "broken", nil, "500: broken"},
	} {
		err := fakeAgent(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.body))
		}).handOver(t.Context(), "")
		if c.is != nil && !errors.Is(err, c.is) || (err == nil) != (c.words == "") || err != nil && !strings.Contains(err.Error(), c.words) {
			t.Errorf("%d: %v, want %v and %q", c.status, err, c.is, c.words)
		}
	}
}

func TestAReportOfTheContractIsReadWhole(t *testing.T) {
	const contract = `{"role":"primary","term":5,"me":"127.0.10.2:27017","primary":"127.0.10.2:27017","set":"blog",
	 "since":"2026-01-02T03:04:05Z","reason":"","node":"mongo-2","transitions":[{"from":"secondary","to":"primary"}],
	 "profile":"fast","fence":"","lease":{"valid":true,"left_ms":312.5},
	 "peers":[{"node":"mongo-1","lost":false,"reason":"","heard_ms":12.5,"role":"secondary","term":5,"optime":{"t":5,"ts":123},"sync_source":"127.0.10.2:27017","frozen":true}],
	 "elections":[{"at":"2026-01-02T03:04:04Z","why":"dead","subject":"mongo-1","outcome":"won","helper":"mongo-2","decided_ms":1.5,"elected_ms":20,"error":""}],
	 "mongod":{"pid":123,"state":"running","frozen":false}}`
	report, err := fakeAgent(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/role" {
			t.Errorf("asked %s", r.URL)
		}
		_, _ = w.Write([]byte(contract))
	}).report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var got, want map[string]any
	if err := errors.Join(json.Unmarshal(again, &got), json.Unmarshal([]byte(contract), &want)); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"role", "term", "me", "set", "since", "node", "profile", "lease"} {
		if a, b := mustJSON(t, got[field]), mustJSON(t, want[field]); a != b {
			t.Errorf("%s is read as %s, want %s", field, a, b)
		}
	}
	if p := report.Peers[0]; *p.HeardMS != 12.5 || p.OpTime != (OpTime{5, 123}) || !p.Frozen || p.SyncSource == "" {
		t.Errorf("peer: %+v", p)
	}
	if e := report.Elections[0]; e.Outcome != "won" || e.ElectedMS != 20 || report.Mongod.PID != 123 {
		t.Errorf("election, mongod: %+v", report)
	}
}

func mustJSON(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// at is an OpTime of term 5.
func at(second, counter uint64) OpTime { return OpTime{Term: 5, Timestamp: second<<32 | counter} }

// set is a set of three whose first member is primary.
func set() []MongoMember {
	ms := 10.0
	members := make([]MongoMember, 3)
	for i, name := range []string{"mongo-1", "mongo-2", "mongo-3"} {
		report := &AgentReport{Role: roleSecondary, Term: 5, Set: "blog", OpTime: at(100, uint64(9-i))}
		report.SyncSource = "127.0.10.1:27017"
		for _, other := range []string{"mongo-1", "mongo-2", "mongo-3"} {
			if other != name {
				report.Peers = append(report.Peers, PeerReport{Node: other, HeardMS: &ms, SyncSource: "127.0.10.2:27017", OpTime: at(99, 1)})
			}
		}
		members[i] = MongoMember{Node: name, Member: "127.0.10." + name[6:] + ":27017", Report: report, Role: "unknown"}
	}
	members[0].Report.Role = rolePrimary
	return members
}

func TestASetIsPutTogetherFromWhatEachAgentSays(t *testing.T) {
	members := set()
	members[1].Report.Elections = []ElectionEvent{{At: time.Unix(2, 0), Why: "new"}}
	members[2].Report.Elections = []ElectionEvent{{At: time.Unix(1, 0), Why: "old"}}
	members[2].Report, members[2].AgentError = nil, "it is stopped"
	status := judgeSet(members)
	if status.Primary != "mongo-1" || status.Term != 5 || status.Set != "blog" || status.Alarm != "" || status.Election.Why != "new" {
		t.Errorf("%+v", status)
	}
	second, third := status.Members[1], status.Members[2]
	if *second.Lag != (MongoLag{Ops: 1}) || second.Source != "mongo-1" {
		t.Errorf("mongo-2: lag %+v, copies from %q", second.Lag, second.Source)
	}
	if third.Role != "unknown" || *third.Lag != (MongoLag{MS: 1000, Ops: 9, Least: true}) || third.Source != "mongo-2" {
		t.Errorf("what the others know of a member whose agent is silent: %+v, lag %+v", third, third.Lag)
	}
	if status.Members[0].Source != "" || status.Members[0].Lag != nil {
		t.Errorf("a primary copies from nobody: %+v", status.Members[0])
	}
}

func TestTwoThatClaimToBePrimaryAreAnAlarmAndTheHigherTermCounts(t *testing.T) {
	members := set()
	members[2].Report.Role, members[2].Report.Term = rolePrimary, 6
	status := judgeSet(members)
	if status.Primary != "mongo-3" || !strings.Contains(status.Alarm, "mongo-1 (term 5)") || !strings.Contains(status.Alarm, "mongo-3 (term 6)") {
		t.Errorf("primary %q, alarm %q", status.Primary, status.Alarm)
	}
	if err := healthySet(status); err == nil {
		t.Error("a set with two primaries is taken for whole")
	}
}

func TestASetIsWholeOnlyWithAPrimaryAndEverybodyInSight(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func([]MongoMember)
		want  string
	}{
		"all is well":       {func([]MongoMember) {}, ""},
		"no primary":        {func(m []MongoMember) { m[0].Report.Role = roleSecondary }, "no primary"},
		"an agent is quiet": {func(m []MongoMember) { m[1].Report, m[1].AgentError = nil, "does not answer" }, "mongo-2: does not answer"},
		"a member recovers": {func(m []MongoMember) { m[1].Report.Role = "recovering" }, "mongo-2 is recovering"},
		"a fence":           {func(m []MongoMember) { m[0].Report.Fence = "no lease" }, "fenced: no lease"},
		"a peer is lost":    {func(m []MongoMember) { m[2].Report.Peers[0].Lost = true }, "mongo-3 has lost mongo-1"},
	} {
		members := set()
		c.spoil(members)
		err := healthySet(judgeSet(members))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestAResyncIsRefusedWhereTheSetWouldNotBearIt(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func([]MongoMember)
		node  string
		want  string
	}{
		"a secondary of a whole set": {func([]MongoMember) {}, "mongo-3", ""},
		"one that is broken already": {func(m []MongoMember) { m[2].Report = nil }, "mongo-3", ""},
		"the primary":                {func([]MongoMember) {}, "mongo-1", "it is the primary"},
		"no primary":                 {func(m []MongoMember) { m[0].Report.Role = roleSecondary }, "mongo-3", "no primary to copy from"},
		"another one is away":        {func(m []MongoMember) { m[1].Report = nil }, "mongo-3", "only 1 of 3"},
		"an old primary": {func(m []MongoMember) {
			m[2].Report.Role, m[2].Report.Term = rolePrimary, 4
		}, "mongo-3", "says that it is primary"},
	} {
		members := set()
		c.spoil(members)
		err := mayResync(judgeSet(members), c.node)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestARollingRestartEndsWithThePrimary(t *testing.T) {
	if got, want := rollingOrder(judgeSet(set())), []string{"mongo-2", "mongo-3", "mongo-1"}; !slices.Equal(got, want) {
		t.Errorf("order %q, want %q", got, want)
	}
	for what, want := range map[string][]string{"": {"mongod", "mongo-agent"}, "all": {"mongod", "mongo-agent"}, "mongod": {"mongod"}, "mongo-agent": {"mongo-agent"}, "consul": nil} {
		if got, err := restartable(what); !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%q: %q, %v", what, got, err)
		}
	}
}
