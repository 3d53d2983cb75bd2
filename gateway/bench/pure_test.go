package main

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestStatisticsAreThoseOfTheValuesMeasured(t *testing.T) {
	if got := median([]float64{9, 1, 5}); got != 5 {
		t.Errorf("median of three: %v", got)
	}
	if got := median([]float64{1, 2, 10, 20}); got != 6 {
		t.Errorf("median of four: %v", got)
	}
	if !math.IsNaN(median(nil)) {
		t.Error("the median of nothing is a number")
	}
	if got := spread([]float64{90, 100, 110}); math.Abs(got-.2) > 1e-9 {
		t.Errorf("spread: %v", got)
	}
	var hundred []int
	for i := range 100 {
		hundred = append(hundred, i+1)
	}
	for q, want := range map[float64]int{0: 1, .5: 50, .99: 99, .991: 100, 1: 100} {
		if got, ok := quantile(hundred, q); !ok || got != want {
			t.Errorf("quantile %v: %d, want %d", q, got, want)
		}
	}
	if _, ok := quantile([]int(nil), .5); ok {
		t.Error("a quantile of nothing")
	}
}

func TestCPUTimeIsThatOfTheTreeWithItsDeadChildren(t *testing.T) {
	line := "12 (a) b) S 7 12 12 0 -1 4194304 1 2 3 4 100 20 3 4 20 0 1 0 5 6 7\n"
	got, err := parseStat([]byte(line))
	if err != nil || got != (times{pid: 12, parent: 7, used: 127}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := parseStat([]byte("12 (a")); err == nil {
		t.Error("half a line is accepted")
	}
	table := map[int]times{1: {1, 0, 1}, 2: {2, 1, 10}, 3: {3, 2, 100}, 4: {4, 1, 1000}}
	if got := used(table, 2); got != 110 {
		t.Errorf("used below 2: %d, want 110", got)
	}
	if got := used(table, 9); got != 0 {
		t.Errorf("used by a process that is gone: %d", got)
	}
}

func TestARoundIsDisturbedByOthersAndByTheHypervisorButNotByUs(t *testing.T) {
	before, err := parseMachine([]byte("cpu  100 0 100 1000 0 0 50 0 0 0\ncpu0 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	after, err := parseMachine([]byte("cpu  200 0 200 1600 0 0 150 100 0 0\n"))
	if err != nil {
		t.Fatal(err)
	}
	others, steal := interference(snapshot{ours: 10, machine: before}, snapshot{ours: 110, machine: after})
	if others != 10 || steal != 10 {
		t.Errorf("others %v %%, steal %v %%, want 10 and 10", others, steal)
	}
	if others, _ = interference(snapshot{machine: before}, snapshot{ours: 250, machine: after}); others != 0 {
		t.Errorf("others %v %% although all of it was ours", others)
	}
	if !(sample{Steal: 11}).disturbed(10) || !(sample{Others: 11}).disturbed(10) || (sample{Others: 9, Steal: 9}).disturbed(10) {
		t.Error("the limit is not held")
	}
	got := newSample("p", loadResult{Requests: 1000, Seconds: 2}, snapshot{proxy: 5}, snapshot{proxy: 15})
	if got.CPU != 100 || got.Rate != 500 {
		t.Errorf("CPU %v µs, rate %v", got.CPU, got.Rate)
	}
}

func TestMemoryIsReadInBytes(t *testing.T) {
	got := parseRollup([]byte("7f-8f ---p 00 00:00 0 [rollup]\nRss:  2000 kB\nPss:  1000 kB\nPss_Anon: 3 kB\n"))
	if got != (memory{2000 << 10, 1000 << 10}) {
		t.Errorf("%+v", got)
	}
}

func TestEveryPeerIsToldItsRoutesItsUpstreamAndWhereToListen(t *testing.T) {
	p := plan{
		host: "127.9.9.9", port: 20001, admin: 20002, folder: "/f", agent: "127.9.9.9:8500", routes: makeRoutes(60), root: true,
		credentials: credentials{"/c/leaf.pem", "/c/key.pem", "/c/pair.pem", "/c/roots.pem", "spiffe://td/ns/default/dc/dc1/svc/bench"},
	}
	for _, peer := range peers() {
		l, err := peer.launch(p)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(l.args, " ")
		for name, content := range l.files {
			text += "\n" + content
			if strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".yml") {
				if !json.Valid([]byte(content)) {
					t.Errorf("%s: %s is not JSON", peer.name, name)
				}
			}
		}
		wants := []string{"127.9.9.9", "20001"}
		if !peer.ours {
			wants = append(wants, "h1.bench.test", "w10", "/p4", "8080")
		}
		if peer.connect && !peer.ours {
			wants = append(wants, "8443", "8444")
		}
		if peer.name == envoy || peer.name == traefik {
			wants = append(wants, p.credentials.upstream, p.credentials.roots)
		}
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s is not told %q", peer.name, want)
			}
		}
		if !peer.connect && strings.Contains(text, "8443") {
			t.Errorf("%s is told of a port that it cannot speak to", peer.name)
		}
	}
}

func TestAVersionIsFoundInWhatProgramsSay(t *testing.T) {
	for said, want := range map[string]string{
		"nginx version: nginx/1.22.1":                         "1.22.1",
		"HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https": "2.6.12-1+deb12u4",
		"\n/x/envoy  version: 9e55/1.40.0/Clean":              "1.40.0",
		"Version:      v3.6.12\nCodename: x":                  "3.6.12",
		"gateway (devel) go1.26.8\n":                          "gateway (devel) go1.26.8",
		"":                                                    "",
	} {
		if got := shortVersion(said); got != want {
			t.Errorf("%q: %q, want %q", said, got, want)
		}
	}
}

func TestTheResultOfWrkIsRead(t *testing.T) {
	got, err := parseWrk("Running 1s test\nTransfer/sec: 1\n\nRESULT 5000 2000000 3 120 900\n")
	want := loadResult{Requests: 5000, Failed: 3, Seconds: 2, P50: 120, P99: 900, Reason: got.Reason}
	if err != nil || got != want || got.Reason == "" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := parseWrk("unable to connect"); err == nil {
		t.Error("no result is accepted")
	}
}

func TestEarlierResultsAreKeptExceptOfWhatIsMeasuredAgain(t *testing.T) {
	folder := t.TempDir()
	earlier := fixture(1)
	earlier.Values = []value{{Scenario: scenarioIdle, Peer: sluice, Name: "resident", Value: 5}}
	earlier.refuse(scenarioMTLS, nginx, "x")
	if err := earlier.save(folder); err != nil {
		t.Fatal(err)
	}
	names := config{scenarios: []string{scenarioMTLS, scenarioIdle}}.sampleNames()
	got, err := loadResults(folder, names)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.of(scenarioMTLS, sluice)) != 0 || len(got.of(scenarioPlain, sluice)) != 3 || len(got.Values) != 0 || len(got.Refusals) != 0 {
		t.Errorf("%+v", got)
	}
	if got, err = loadResults(t.TempDir(), names); err != nil || len(got.Samples) != 0 {
		t.Errorf("without earlier results: %+v, %v", got, err)
	}
}

func TestRebuildTimesAreReadFromMetrics(t *testing.T) {
	got := parseRebuilds("# TYPE x histogram\nsluice_gateway_table_build_seconds_bucket{le=\"1\"} 4\nsluice_gateway_table_build_seconds_sum 0.5\nsluice_gateway_table_build_seconds_count 4\nsluice_gateway_request_duration_seconds_sum{service=\"a\"} 9\n")
	if got != (rebuildTimes{.5, 4}) {
		t.Errorf("%+v", got)
	}
}

// fixture has one proxy as a base, and ours at a factor of it.
func fixture(factor float64) *results {
	r := newResults(time.Unix(0, 0), "a machine")
	r.Generator = "wrk"
	for _, s := range []string{scenarioMTLS, scenarioPlain, scenarioHandshake, scenarioRate} {
		for n := range 3 {
			r.Samples = append(r.Samples,
				sample{Scenario: s, Peer: envoy, Round: n, CPU: 30 + float64(n), Rate: 1000, P99: 500},
				sample{Scenario: s, Peer: sluice, Round: n, CPU: factor * (30 + float64(n)), Rate: 2000, P99: 500 * factor},
			)
		}
	}
	r.Samples = append(r.Samples, sample{Scenario: scenarioHandshake, Peer: envoyHybrid, CPU: 31})
	r.Missing[fabioRepaired] = "no such | thing"
	return r
}

func find1(bars []bar, what, limit string) bar {
	for _, b := range bars {
		if strings.HasPrefix(b.What, what) && strings.Contains(b.Limit, limit) {
			return b
		}
	}
	return bar{}
}

func TestABarIsMetMissedOrNotJudgedWithTheReason(t *testing.T) {
	cases := []struct {
		factor      float64
		what, limit string
		verdict     string
	}{
		{.65, "mTLS keep-alive", envoy, met},
		{.66, "mTLS keep-alive", envoy, missed},
		{1, "p99 at a constant rate", envoy, met},
		{1.01, "p99 at a constant rate", envoy, missed},
		{1.1, "new mTLS handshake per request, CPU, each", envoy, met},
		{1.11, "new mTLS handshake per request, CPU, each", envoy, missed},
		{1.1, "new mTLS handshake per request, CPU, both by X25519MLKEM768", envoyHybrid, met},
		{1.11, "new mTLS handshake per request, CPU, both by X25519MLKEM768", envoyHybrid, missed},
		{1, "new mTLS handshake per request, CPU, both by X25519 alone", envoy, unknown},
		{.1, "mTLS keep-alive", nginx, unknown},
		{.1, "plain keep-alive", fabioRepaired, unknown},
		{.1, "failed requests", "0", unknown},
	}
	for _, c := range cases {
		if got := find1(judge(fixture(c.factor)), c.what, c.limit); got.Verdict != c.verdict {
			t.Errorf("%v, %s against %s: %+v, want %s", c.factor, c.what, c.limit, got, c.verdict)
		}
	}
	if got := find1(judge(fixture(1)), "plain keep-alive", fabioRepaired); !strings.Contains(got.Found, "no such | thing") {
		t.Errorf("the reason is missing: %+v", got)
	}
	failed := fixture(.1)
	failed.Samples[1].Failed = 1
	if got := find1(judge(failed), "mTLS keep-alive", envoy); !strings.HasPrefix(got.Verdict, missed) {
		t.Errorf("met although requests failed: %+v", got)
	}
	restarts := fixture(1)
	restarts.Values = []value{{Scenario: scenarioRestart, Peer: sluice, Name: "failed", Unit: "requests", Value: 1}}
	if got := find1(judge(restarts), "failed requests", "0"); got.Verdict != missed {
		t.Errorf("one failed request: %+v", got)
	}
}

func TestThePageHasARowForEveryPeerAndKeepsWhatIsAroundTheTable(t *testing.T) {
	r := fixture(.5)
	r.Refusals = []refusal{{scenarioMTLS, haproxy, "not served: because"}}
	r.Samples[0].Disturbed = true
	many := routesScenario(10_000)
	r.Samples = append(r.Samples, sample{Scenario: many, Peer: sluice, CPU: 77})
	r.Values = append(r.Values, value{Scenario: many, Peer: sluice, Name: "resident", Unit: "MB", Value: 44, Note: "a|b"})
	text := render(r)
	for _, want := range []string{
		"| sluice | 15.5 | 1.00 |", "| envoy (disturbed) | 31.0 | 2.00 |", "| haproxy | not served: because |", `not available: no such \| thing`,
		"\nroutes-10000:\n\n| | CPU", "| sluice | resident | 44.0 MB | a\\|b |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	page, err := insert("a\n"+pageBegin+"\nold\n"+pageEnd+"\nb\n", text)
	if err != nil || !strings.HasPrefix(page, "a\n") || !strings.HasSuffix(page, "\nb\n") || strings.Contains(page, "old") {
		t.Errorf("%v: %s", err, page)
	}
	if _, err := insert("a", text); err == nil {
		t.Error("a page without marks is accepted")
	}
	for v, want := range map[float64]string{0: "0", 3.14159: "3.14", 31.4159: "31.4", 1234567: "1,234,567", 999.6: "1,000", -1234: "-1,234"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %s, want %s", v, got, want)
		}
	}
}

func TestABarIsNotMetByARunOfLess(t *testing.T) {
	for _, c := range []struct {
		scenario, name string
		value          float64
		of             int
		verdict        string
	}{
		{scenarioIdle, "resident", 50, 10_000, met},
		{scenarioIdle, "resident", 50, 100, unknown + ": with 100 alone"},
		{scenarioIdle, "resident", 101, 100, missed},
		{scenarioRestart, "failed", 0, 10, met},
		{scenarioRestart, "failed", 0, 1, unknown + ": with 1 alone"},
		{scenarioRestart, "failed", 1, 1, missed},
	} {
		r := newResults(time.Now(), "a machine")
		r.Values = []value{{Scenario: c.scenario, Peer: sluice, Name: c.name, Value: c.value, Of: c.of}}
		found := ""
		for _, b := range judge(r) {
			if b.Verdict != unknown {
				found += b.Verdict
			}
		}
		if found != c.verdict {
			t.Errorf("%s, %g with %d: %q, want %q", c.scenario, c.value, c.of, found, c.verdict)
		}
	}
}

func TestTheTableSaysWhatTheRunWasAskedFor(t *testing.T) {
	cfg, err := parse([]string{"-connections", "8", "-rounds", "1", "-gateway-args", "-codec=std"}, &strings.Builder{})
	if err != nil {
		t.Fatal(err)
	}
	r := newResults(time.Now(), "a machine")
	r.Settings = cfg.settings()
	if text := render(r); !strings.Contains(text, "8 client connections, 1 rounds of 8s each; sluice with -codec=std.") {
		t.Error(text)
	}
}

func TestAProcessThatIsPausedDoesNothingUntilItIsResumed(t *testing.T) {
	p, err := start(command{name: "busy", path: "/bin/sh", args: []string{"-c", "while :; do :; done"}, folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop(time.Second)
	is := func(state string) func(context.Context) error {
		return func(context.Context) error {
			content, err := os.ReadFile("/proc/" + itoa(p.pid()) + "/stat")
			if err == nil && !strings.Contains(string(content), ") "+state+" ") {
				err = errors.New("it is in another state")
			}
			return err
		}
	}
	p.pause()
	if err := await(t.Context(), 5*time.Second, "it is stopped", is("T")); err != nil {
		t.Error(err)
	}
	p.resume()
	if err := await(t.Context(), 5*time.Second, "it runs", is("R")); err != nil {
		t.Error(err)
	}
}
