package proofs_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"sluice/internal/browsertest"
	"sluice/internal/labtest"
)

// listed is how many entries the page has that is measured: as many as one page
// shows.
const listed = 20

// BenchmarkListPage measures the list of a blog with 20 entries in a lab: through
// the gateway and the mesh, and beside that straight from web over the mesh, and a
// page of web through the gateway that asks no database. The rows take turns, so
// that what else the machine does meets all of them. db-share is the part of web's
// own time that its commands to the database took. Run it with -benchtime 5x: each
// round is 400 requests of one client and 3200 of 16.
func BenchmarkListPage(b *testing.B) {
	shared := labtest.New(b, labtest.Variant{Engine: "netns"}, offset)
	shared.Up()
	p := newProof(b, shared)
	p.writeEntries()
	web := p.node("web-1").Address + ":8000"
	list, login := p.lab.URL(9999, "/web/blog/main"), p.lab.URL(9999, "/web/admin/login")
	type row struct {
		name string
		load
	}
	var rows []row
	for _, clients := range []int{1, 16} {
		requests := 400
		if clients > 1 {
			requests = 200
		}
		for _, r := range []row{
			{"gateway-list", load{URL: list}},
			{"gateway-no-db", load{URL: login}},
			{"direct-list", load{URL: "http://web/web/blog/main", Address: web}},
		} {
			r.name, r.Clients, r.Requests = fmt.Sprintf("%s-%d", r.name, clients), clients, requests
			rows = append(rows, r)
		}
	}
	results := map[string][]loadResult{}
	for b.Loop() {
		for _, r := range rows {
			results[r.name] = append(results[r.name], p.measured(r.load))
		}
	}
	for _, r := range rows {
		sum, rounds := loadResult{}, results[r.name]
		for _, result := range rounds {
			sum.PerSecond += result.PerSecond / float64(len(rounds))
			sum.P50, sum.P99 = sum.P50+result.P50/time.Duration(len(rounds)), max(sum.P99, result.P99)
			sum.Database, sum.Total, sum.Bytes = sum.Database+result.Database, sum.Total+result.Total, result.Bytes
		}
		b.Logf("%-17s %6.0f requests/s, p50 %7.2f ms, p99 (worst round) %7.2f ms, database %3.0f %% of web's %.2f ms, %d bytes", r.name, sum.PerSecond,
			sum.P50.Seconds()*1e3, sum.P99.Seconds()*1e3, 100*sum.Database.Seconds()/sum.Total.Seconds(),
			sum.Total.Seconds()*1e3/float64(len(rounds)*r.Clients*r.Requests), sum.Bytes)
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkConfiguration measures how long a change of web's configuration takes in a
// lab, from before its write to Consul until each of both webs has answered through the
// gateway with a page that is made with it. Run it with -benchtime 5x: each round is 40
// changes.
func BenchmarkConfiguration(b *testing.B) {
	shared := labtest.New(b, labtest.Variant{Engine: "netns"}, offset)
	shared.Up()
	p := newProof(b, shared)
	var all sample
	for b.Loop() {
		all = append(all, p.changes(40)...)
	}
	b.Logf("written -> in effect in both webs, %d changes: %s", len(all), all)
	for name, at := range map[string]float64{"p50-ms": 0.5, "p99-ms": 0.99, "max-ms": 1} {
		b.ReportMetric(all.quantile(at).Seconds()*1e3, name)
	}
	b.ReportMetric(0, "ns/op")
}

// measured puts a load on the gateway from here, or on web from the gateway's node.
func (p *proof) measured(l load) loadResult {
	p.Helper()
	if l.Address == "" {
		result, err := l.run(p.bounded(time.Minute), nil)
		if err != nil {
			p.Fatal(err)
		}
		return result
	}
	events := p.ask("gateway-1", order{Service: "gateway", TokenFile: p.token("gateway", "gateway-1"), Load: &l})
	var result loadResult
	if len(events) != 1 {
		p.Fatalf("the probe says %v", events)
	}
	if err := json.Unmarshal([]byte(events[0].Detail), &result); err != nil {
		p.Fatal(err)
	}
	return result
}

// writeEntries fills the first page of the blog, as a browser would.
func (p *proof) writeEntries() {
	p.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		p.Fatal(err)
	}
	client := &http.Client{Jar: jar, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	send := func(path string, form url.Values) {
		p.Helper()
		request, err := http.NewRequestWithContext(p.Context(), http.MethodPost, p.lab.URL(9999, path), strings.NewReader(form.Encode()))
		if err != nil {
			p.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Sec-Fetch-Site", "same-origin")
		response, err := client.Do(request)
		if err != nil {
			p.Fatal(err)
		}
		if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusSeeOther {
			p.Fatalf("%s: status %d, %v", path, response.StatusCode, err)
		}
	}
	send("/web/admin/login", url.Values{"name": {"admin"}, "password": {p.adminPassword()}})
	for i := range listed {
		send("/web/admin/entries", url.Values{
			"id": {fmt.Sprintf("%032x", i)}, "edit": {fmt.Sprintf("%032x", i)}, "revision": {"0"}, "blog": {"main"}, "do": {"save"},
			"title": {fmt.Sprintf("Entry %d of the list", i)}, "body": {browsertest.Essay},
		})
	}
	client.CloseIdleConnections()
}
