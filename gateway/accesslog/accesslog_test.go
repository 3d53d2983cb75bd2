package accesslog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sluice/gateway/accesslog"
	"sluice/internal/service/mask"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func example() accesslog.Entry {
	end := time.Date(2026, 3, 4, 5, 6, 7, 89_123_456, time.FixedZone("", 3600))
	return accesslog.Entry{
		Start: end.Add(-1_234_567_891), End: end, Overhead: 42 * time.Microsecond,
		Client: netip.MustParseAddrPort("192.0.2.1:4711"), Method: "GET", Target: "/a?b=c", Protocol: "HTTP/1.1",
		Host: "web.example", User: "ann", RequestID: "r-1", Referer: "https://x/", UserAgent: "curl/8",
		Headers: http.Header{"X-Team": {"red blue"}}, Status: 200, BytesIn: 3, BytesOut: 512,
		Route: "web.example/a", Service: "web", Instance: "web-1", Datacenter: "dc2",
		Upstream: netip.MustParseAddrPort("[2001:db8::1]:80"), UpstreamTLS: true, UpstreamTarget: "/x?b=c",
		Source: "spiffe://d/gateway", Destination: "spiffe://d/web", Serial: "1a", Attempts: 2,
		Flags: accesslog.OtherDatacenter | accesslog.Denied, Reason: `denied by "x"`,
	}
}

// line returns what a log writes for one entry.
func line(t testing.TB, format string, entry accesslog.Entry) string {
	t.Helper()
	var out bytes.Buffer
	log, err := accesslog.New(accesslog.Config{Output: &out, Format: format})
	if err != nil {
		t.Fatal(err)
	}
	if !log.Put(&entry) {
		t.Fatal("dropped")
	}
	ended, end := context.WithCancel(context.Background())
	end()
	if err := log.Run(ended); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestLineOfEachFormat(t *testing.T) {
	failed := example()
	failed.Service, failed.Upstream, failed.UpstreamTarget, failed.Referer, failed.UserAgent = "", netip.AddrPort{}, "", "", ""
	tests := []struct {
		name, format, want string
		entry              accesslog.Entry
	}{
		{"common", "common", `192.0.2.1 - - [04/Mar/2026:04:06:07 +0000] "GET /a?b=c HTTP/1.1" 200 512`, example()},
		{"combined", "combined", `192.0.2.1 - - [04/Mar/2026:04:06:07 +0000] "GET /a?b=c HTTP/1.1" 200 512 "https://x/" "curl/8"`, example()},
		{"combined, empty", "combined", `192.0.2.1 - - [04/Mar/2026:04:06:07 +0000] "GET /a?b=c HTTP/1.1" 200 512 "" ""`, failed},
		{
			"request fields", `$remote_addr $remote_host $remote_port|$request_args|$request_host|$request_method|$request_scheme|$request_uri|$request_url|$request_proto`,
			`192.0.2.1:4711 192.0.2.1 4711|b=c|web.example|GET|http|/a?b=c|http://web.example/a?b=c|HTTP/1.1`, example(),
		},
		{
			"times", `$response_time_ms $response_time_us $response_time_ns $time_rfc3339 $time_rfc3339_ms $time_rfc3339_us $time_rfc3339_ns`,
			`1.234 1.234567 1.234567891 2026-03-04T04:06:07Z 2026-03-04T04:06:07.089Z 2026-03-04T04:06:07.089123Z 2026-03-04T04:06:07.089123456Z`, example(),
		},
		{"unix times", `$time_unix_ms $time_unix_us $time_unix_ns`, `1772597167089 1772597167089123 1772597167089123456`, example()},
		{
			"upstream fields", `$upstream_addr $upstream_host $upstream_port $upstream_request_scheme $upstream_request_uri $upstream_request_url $upstream_service`,
			`[2001:db8::1]:80 2001:db8::1 80 https /x?b=c https://[2001:db8::1]:80/x?b=c web`, example(),
		},
		{"no upstream", `$upstream_addr $upstream_host "$upstream_port" $upstream_request_scheme $upstream_request_url $upstream_service`, `- - "" - - -`, failed},
		{
			"our fields", `$flags $attempts $overhead_us "$reason" $remote_user $request_body_size $request_id $route $source $destination $serial $upstream_instance $upstream_dc`,
			`DI,FO 2 42 "denied by \x22x\x22" ann 3 r-1 web.example/a spiffe://d/gateway spiffe://d/web 1a web-1 dc2`, example(),
		},
		{"headers", `"$header.X-Team" $header.x-team $header.X-None $header.User-Agent.`, `"red blue" red\x20blue - curl/8.`, example()},
		{"dollars", `$ $$ a$`, `$ $$ a$`, example()},
		{
			"json", "json", `{"time":"2026-03-04T04:06:07.089123Z","remote":"192.0.2.1:4711","user":"ann","method":"GET","scheme":"http","host":"web.example",` +
				`"target":"/a?b=c","protocol":"HTTP/1.1","status":200,"flags":["DI","FO"],"reason":"denied by \"x\"","bytes_in":3,"bytes_out":512,` +
				`"duration_us":1234567,"overhead_us":42,"route":"web.example/a","service":"web","instance":"web-1","dc":"dc2","upstream":"[2001:db8::1]:80",` +
				`"upstream_target":"/x?b=c","attempts":2,"source":"spiffe://d/gateway","destination":"spiffe://d/web","serial":"1a","request_id":"r-1",` +
				`"referer":"https://x/","user_agent":"curl/8"}`, example(),
		},
		{"json, empty", "json", `{"time":"0001-01-01T00:00:00.000000Z","scheme":"http","status":0,"bytes_in":0,"bytes_out":0,"duration_us":0}`, accesslog.Entry{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := line(t, test.format, test.entry); got != test.want+"\n" {
				t.Errorf("got  %swant %s", got, test.want)
			}
		})
	}
}

func TestFormatThatCannotBeKeptIsRefused(t *testing.T) {
	tests := []struct{ format, want string }{
		{"$nope", "$nope is unknown"},
		{"$header", "$header is unknown"},
		{"$header.", "no name"},
		{"$header.Authorization", "never written"},
		{"$header.cookie", "never written"},
		{"$header.X-Consul-Token", "never written"},
		{"$header.Proxy-Authorization", "never written"},
		{"$header.X-Amz-Signature", "never written"},
		{`"$request`, "not closed"},
		{"a\nb", "control character"},
		{"$header.A$header.B$header.C$header.D$header.E$header.F$header.G$header.H$header.I", "more than 8"},
	}
	for _, test := range tests {
		_, err := accesslog.New(accesslog.Config{Output: io.Discard, Format: test.format})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: got %v, want %q", test.format, err, test.want)
		}
	}
}

func TestSecretsInTargetsAreNeverWritten(t *testing.T) {
	tests := []struct{ target, want string }{
		{"/a", "/a"},
		{"/a?token=SECRET", "/a?token=***"},
		{"/a?x=1&token=SECRET&y=2", "/a?x=1&token=***&y=2"},
		{"/a?TOKEN=SECRET", "/a?TOKEN=***"},
		{"/a?%74oken=SECRET", "/a?%74oken=***"},
		{"/a?%74%4Fken=SECRET", "/a?%74%4Fken=***"},
		{"/a?user[token]=SECRET&user.password=SECRET&token[]=SECRET", "/a?user[token]=***&user.password=***&token[]=***"},
		{"/a?user%5Btoken%5D=SECRET", "/a?user%5Btoken%5D=***"},
		{"/a?x=1;token=SECRET;SECRET&y=2", "/a?x=1;token=***&y=2"},
		{"/a?token=SECRET=SECRET?SECRET", "/a?token=***"},
		{"/a?token=SECRET#SECRET", "/a?token=***"},
		{"/a?token", "/a?token"},
		{"/a?tokens=x&mytoken=y", "/a?tokens=x&mytoken=y"},
		{"http://ann:SECRET@h/a?x=1", "http://***@h/a?x=1"},
		{"/a?token=%", "/a?token=***"},
		{"/a?%=x&%7=y", "/a?%=x&%7=y"},
		{"/a;token=SECRET/b;x=1", "/a;token=***/b;x=1"},
		{"/a;x=1;jwt=SECRET;SECRET/b", "/a;x=1;jwt=***/b"},
		{"/a;TOKEN=SECRET", "/a;TOKEN=***"},
		{"/a%3BTo%6ben%3DSECRET/b%3fx", "/a%3BTo%6ben%3D***/b%3fx"},
		{"/a%3Ftoken=SECRET%26x=1", "/a%3Ftoken=***%26x=1"},
		{"/a&token=SECRET%2FSECRET", "/a&token=***"},
		{"/token=x;y/%", "/token=x;y/%"},
	}
	for _, test := range tests {
		entry := accesslog.Entry{Target: test.target, UpstreamTarget: test.target, Referer: test.target, Upstream: netip.MustParseAddrPort("1.1.1.1:1")}
		if got, want := line(t, "$request_uri $upstream_request_uri $header.Referer", entry), test.want+" "+test.want+" "+test.want+"\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if _, query, ok := strings.Cut(test.want, "?"); ok {
			if got := line(t, `"$request_args"`, entry); got != `"`+query+"\"\n" {
				t.Errorf("arguments %q, want %q", got, query)
			}
		}
		if got := mask.New(nil).Target(test.target); got != test.want {
			t.Errorf("masked: %q, want %q", got, test.want)
		}
		for _, format := range []string{"json", "combined", "$request_url $upstream_request_url"} {
			if got := line(t, format, entry); strings.Contains(got, "SECRET") {
				t.Errorf("%s writes %q", format, got)
			}
		}
	}
}

// Whatever a client sends, the line is one line, its quotes are ours, and JSON
// says what was sent.
func FuzzLine(f *testing.F) {
	f.Add("/a", "agent", "host")
	f.Add("/\r\n127.0.0.1 - - x", "\" 200 1\n", "h\x00\u0085\u2028\xff")
	f.Add(strings.Repeat("é", 1000), `\"`, "\x1b[2J")
	f.Fuzz(func(t *testing.T, target, agent, host string) {
		entry := accesslog.Entry{Target: target, UserAgent: agent, Host: host, Headers: http.Header{"X-A": {agent}}}
		text := line(t, `"$request_uri" $request_host "$header.User-Agent" $header.X-A`, entry)
		if strings.Count(text, "\n") != 1 || strings.Count(text, `"`) != 4 {
			t.Errorf("line %q", text)
		}
		for _, c := range []byte(text[:len(text)-1]) {
			if c < ' ' || c > '~' {
				t.Fatalf("line %q", text)
			}
		}
		if outside := strings.Split(text, `"`); strings.Count(outside[2], " ") != 2 || strings.Count(outside[4], " ") != 1 {
			t.Errorf("fields of %q are not where they should be", text)
		}
		object := line(t, "json", entry)
		var read struct {
			Host  string `json:"host"`
			Agent string `json:"user_agent"`
		}
		if err := json.Unmarshal([]byte(object), &read); err != nil || strings.Count(object, "\n") != 1 {
			t.Fatalf("line %q: %v", object, err)
		}
		if len(host) <= 192 && read.Host != string([]rune(host)) {
			t.Errorf("host %q is read back as %q", host, read.Host)
		}
	})
}

func TestLongTextsAreCutAndCrowdNobodyOut(t *testing.T) {
	long := strings.Repeat("x", 5000)
	entry := example()
	entry.Target, entry.Referer, entry.UserAgent, entry.Host, entry.Reason, entry.Method = long, long, long, long, long, long
	got := line(t, `$request_method|$request_uri|$request_id|$upstream_instance|$serial`, entry)
	parts := strings.Split(strings.TrimSpace(got), "|")
	if len(parts[0]) != 192 || len(parts[1]) != 768 || strings.Join(parts[2:], " ") != "r-1 web-1 1a" {
		t.Errorf("lengths %d and %d, rest %q", len(parts[0]), len(parts[1]), parts[2:])
	}
}

func TestFlagsHaveTheirNames(t *testing.T) {
	tests := map[accesslog.Flags]string{
		0: "", accesslog.NoHealthy: "UH", accesslog.ConnectFailed: "UF", accesslog.Overflow: "UO", accesslog.UpstreamTimeout: "UT",
		accesslog.UpstreamReset: "UR", accesslog.UpstreamMalformed: "UPE", accesslog.NoRoute: "NR", accesslog.RetriesExhausted: "URX",
		accesslog.ClientGone: "DC", accesslog.ClientMalformed: "DPE", accesslog.ClientTimeout: "DT", accesslog.Denied: "DI",
		accesslog.WrongIdentity: "WI", accesslog.NotReady: "NL", accesslog.HandshakeFailed: "TF", accesslog.Refused: "CA",
		accesslog.Unauthenticated: "CU", accesslog.OtherDatacenter: "FO", accesslog.Panicked: "PM", accesslog.Drained: "DR",
		accesslog.Cut: "CT", accesslog.Hedged: "HG", accesslog.Hedged << 1: "",
		accesslog.ConnectFailed | accesslog.RetriesExhausted: "UF,URX",
	}
	for flags, want := range tests {
		if got := flags.String(); got != want {
			t.Errorf("%b is %q, want %q", flags, got, want)
		}
	}
}

// gate is an output that stands still while it is locked.
type gate struct {
	mu  sync.Mutex
	out bytes.Buffer
	err error
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return 0, g.err
	}
	return g.out.Write(p)
}

func (g *gate) text() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.out.String()
}

func TestFullRingDropsAndCountsAndNeverBlocks(t *testing.T) {
	var out gate
	log, err := accesslog.New(accesslog.Config{Output: &out, Format: "$request_id", Ring: 4})
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	for i := range 10 {
		if log.Put(&accesslog.Entry{RequestID: fmt.Sprint(i)}) {
			taken++
		}
	}
	if counters := log.Counters(); taken != 4 || counters != (accesslog.Counters{Dropped: 6}) {
		t.Errorf("took %d, counters %+v", taken, counters)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	_ = log.Run(ended)
	if got := out.text(); got != "0\n1\n2\n3\n" {
		t.Errorf("wrote %q", got)
	}
	if log.Put(&accesslog.Entry{}) {
		t.Error("an entry after the end was taken")
	}
	if counters := log.Counters(); counters != (accesslog.Counters{Written: 4, Dropped: 7}) {
		t.Errorf("counters %+v", counters)
	}
	if !(*accesslog.Log)(nil).Put(&accesslog.Entry{}) {
		t.Error("a nil log drops")
	}
}

func TestEveryEntryOfManyGoroutinesIsWrittenOnce(t *testing.T) {
	var out gate
	log, err := accesslog.New(accesslog.Config{Output: &out, Format: "$request_id", Ring: 64})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- log.Run(ctx) }()
	var writers sync.WaitGroup
	var mu sync.Mutex
	want := map[string]int{}
	for writer := range 8 {
		writers.Go(func() {
			for i := range 2000 {
				id := fmt.Sprintf("%d-%d", writer, i)
				if log.Put(&accesslog.Entry{RequestID: id}) {
					mu.Lock()
					want[id]++
					mu.Unlock()
				}
			}
		})
	}
	writers.Wait()
	cancel()
	<-done
	for id := range strings.Lines(out.text()) {
		want[strings.TrimSpace(id)]--
	}
	for id, n := range want {
		if n != 0 {
			t.Fatalf("%s was taken %+d times more than it was written", id, n)
		}
	}
	if counters := log.Counters(); counters.Written+counters.Dropped != 16000 || counters.Written == 0 {
		t.Errorf("counters %+v", counters)
	}
}

func TestLineIsWrittenWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out gate
		log, err := accesslog.New(accesslog.Config{Output: &out, Format: "$request_id", Flush: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- log.Run(ctx) }()
		log.Put(&accesslog.Entry{RequestID: "x"})
		synctest.Wait()
		if out.text() != "" {
			t.Error("written at once: a write per request costs too much")
		}
		time.Sleep(time.Second) // virtual
		synctest.Wait()
		if out.text() != "x\n" {
			t.Errorf("after a second there is %q", out.text())
		}
		cancel()
		<-done
	})
}

func TestRingTakesEntriesAgainOnceTheyAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out gate
		log, err := accesslog.New(accesslog.Config{Output: &out, Format: "$request_id", Ring: 4})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- log.Run(ctx) }()
		for lap := range 10 {
			for i := range 3 {
				if !log.Put(&accesslog.Entry{RequestID: "x"}) {
					t.Fatalf("entry %d of lap %d was dropped", i, lap)
				}
			}
			time.Sleep(time.Second) // virtual
			synctest.Wait()
		}
		if got := log.Counters(); got != (accesslog.Counters{Written: 30}) {
			t.Errorf("counters %+v", got)
		}
		cancel()
		<-done
	})
}

func TestOutputThatFailsIsToldOnceAndLinesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told bytes.Buffer
		out := &gate{err: errors.New("no space left")}
		log, err := accesslog.New(accesslog.Config{Output: out, Format: "$request_id", Logger: slog.New(slog.NewTextHandler(&told, nil))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- log.Run(ctx) }()
		for i := range 4 {
			if i == 3 {
				out.mu.Lock()
				out.err = nil
				out.mu.Unlock()
			}
			log.Put(&accesslog.Entry{RequestID: fmt.Sprint(i)})
			time.Sleep(time.Second) // virtual
			synctest.Wait()
		}
		if got := log.Counters(); got != (accesslog.Counters{Written: 1, Lost: 3}) || out.text() != "3\n" {
			t.Errorf("counters %+v, wrote %q", got, out.text())
		}
		if text := told.String(); strings.Count(text, "cannot be written") != 1 || strings.Count(text, "written again") != 1 {
			t.Errorf("told %s", text)
		}
		cancel()
		<-done
	})
}

func TestPutAllocatesNothing(t *testing.T) {
	entry := example()
	log, err := accesslog.New(accesslog.Config{Output: io.Discard, Format: `$header.X-Team $header.X-Other`, Ring: 4096})
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() { log.Put(&entry) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSecretNamesCanBeChosen(t *testing.T) {
	var out bytes.Buffer
	log, err := accesslog.New(accesslog.Config{Output: &out, Format: "$request_args", Secrets: []string{"Pin"}})
	if err != nil {
		t.Fatal(err)
	}
	log.Put(&accesslog.Entry{Target: "/?" + url.Values{"pin": {"1234"}, "token": {"x"}}.Encode()})
	ended, end := context.WithCancel(t.Context())
	end()
	_ = log.Run(ended)
	if out.String() != "pin=***&token=x\n" {
		t.Errorf("wrote %q", out.String())
	}
}

// BenchmarkPut is the work on the request's goroutine, for entries that are taken.
func BenchmarkPut(b *testing.B) {
	var out counted
	log, err := accesslog.New(accesslog.Config{Output: &out, Format: accesslog.Combined, Flush: time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- log.Run(ctx) }()
	entry := example()
	b.ReportAllocs()
	for n := 1; b.Loop(); n++ {
		if !log.Put(&entry) {
			b.Fatal("dropped")
		}
		if n%(accesslog.DefaultRing/4) == 0 {
			b.StopTimer()
			for log.Counters().Written < uint64(n) {
				time.Sleep(100 * time.Microsecond)
			}
			b.StartTimer()
		}
	}
	cancel()
	<-done
}

// counted is an output that keeps nothing.
type counted struct{ n int }

func (c *counted) Write(p []byte) (int, error) { c.n += len(p); return len(p), nil }

// BenchmarkLine is the work off the request's goroutine.
func BenchmarkLine(b *testing.B) {
	for _, format := range []string{accesslog.JSON, accesslog.Combined} {
		b.Run(format, func(b *testing.B) {
			ended, end := context.WithCancel(b.Context())
			end()
			entry := example()
			b.ReportAllocs()
			for n := 0; n < b.N; {
				b.StopTimer()
				fresh, err := accesslog.New(accesslog.Config{Output: io.Discard, Format: format})
				if err != nil {
					b.Fatal(err)
				}
				for range accesslog.DefaultRing {
					fresh.Put(&entry)
				}
				n += accesslog.DefaultRing
				b.StartTimer()
				_ = fresh.Run(ended)
			}
		})
	}
}
