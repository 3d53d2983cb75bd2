package proxy_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/gateway/override"
	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
)

// page is the operator's view of a gateway.
func page(l *lab, changes bool) *proxy.Admin {
	return l.Admin(proxy.AdminConfig{
		Node: "gateway-1", Datacenter: "dc1", Version: "v1.2.3", Codec: "own", Changes: changes,
		Overrides: func() proxy.OverrideState {
			return proxy.OverrideState{Key: "fabio/config", Commands: 2, Problems: []override.Problem{
				{Source: "fabio/config", Line: 3, Text: `"route ad <i>"`, Reason: "no such command"},
			}}
		},
		Listeners: func() []proxy.ListenerState {
			return []proxy.ListenerState{{Address: "127.0.0.1:9999", Proto: "http", Open: 3, MaxConn: 10}}
		},
	})
}

func fetch(t *testing.T, handler http.Handler, target string) *httptest.ResponseRecorder {
	t.Helper()
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, target, nil))
	if answer.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", target, answer.Code, answer.Body)
	}
	return answer
}

func contains(t *testing.T, text string, wanted ...string) {
	t.Helper()
	text = regexp.MustCompile(`(?s)<(script|style)>.*?</(script|style)>`).ReplaceAllString(text, "")
	for _, want := range wanted {
		if !strings.Contains(text, want) {
			t.Errorf("without %q:\n%s", want, text)
		}
	}
}

func TestThePageTellsWhatThereIsWithoutAnyScript(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(meshtest.Deny("gateway", "web"), meshtest.Allow("gateway", "shop"))
	world.Serve("web", "web-1", http.HandlerFunc(hello), "urlprefix-/web")
	shop := world.Serve("shop", "shop-1", http.HandlerFunc(hello), "urlprefix-shop.example/ strip=/x strategy=rr", "urlprefix-/closed allow=ip:300.0.0.0/8")
	l := start(t, world, nil)
	l.get("/", "Host", "shop.example")
	html := fetch(t, page(l, false).Index(), "/?ask=http://shop.example/x/1").Body.String()
	contains(t, html,
		"gateway-1", "dc1", "v1.2.3", "none: read only",
		"web-web-1", "denied by intention gateway -&gt; web", shop.ID.String(), shop.Address, "strip=/x", "eligible", "100 %", ">rr<",
		"Nobody may use it", "its route is closed", "300.0.0.0", // the quarantined guard
		"fabio/config, line 3", "no such command", "127.0.0.1:9999", "3 of 10 connections",
		`class="kind route"`, "new: shop-shop-1 on shop-1",
		"The only eligible instance answers.", `class="taken"`,
		`href="/routes"`, `href="/metrics"`,
	)
	if strings.Contains(html, "<dialog") {
		t.Error("a page that can change nothing asks for a token")
	}
	contains(t, fetch(t, page(l, true).Index(), "/").Body.String(), "<dialog", `data-instance="shop-shop-1"`)
}

func TestThePolicyOfThePageAllowsItsOwnScriptAndStyleAlone(t *testing.T) {
	l := start(t, meshtest.New(t), nil)
	answer := fetch(t, page(l, true).Index(), "/")
	policy, html := answer.Header().Get("Content-Security-Policy"), answer.Body.String()
	contains(t, policy, "default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'")
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "script-src 'self'") {
		t.Errorf("policy %s", policy)
	}
	for _, element := range []string{"script", "style"} {
		blocks := regexp.MustCompile(`(?s)<`+element+`>(.*?)</`+element+`>`).FindAllStringSubmatch(html, -1)
		if len(blocks) != 1 {
			t.Fatalf("%d elements %s, want one", len(blocks), element)
		}
		sum := sha256.Sum256([]byte(blocks[0][1]))
		contains(t, policy, element+"-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	}
	if found := regexp.MustCompile(`(?i) (style|on[a-z]+)=`).FindString(regexp.MustCompile(`(?s)<(script|style)>.*?</(script|style)>`).ReplaceAllString(html, "")); found != "" {
		t.Errorf("the page has an attribute %q, which the policy forbids", found)
	}
}

func TestTheColorsOfThePageAreFarEnoughApart(t *testing.T) {
	const least = 4.5 // WCAG 2.2, AA for text
	html := fetch(t, page(start(t, meshtest.New(t), nil), true).Index(), "/").Body.String()
	schemes := regexp.MustCompile(`:root\{[^}]*\}`).FindAllString(html, -1)
	if len(schemes) != 2 {
		t.Fatalf("%d schemes, want light and dark", len(schemes))
	}
	for _, scheme := range schemes {
		colors := map[string]float64{}
		for _, m := range regexp.MustCompile(`--(\w+):#([0-9a-f]+)`).FindAllStringSubmatch(scheme, -1) {
			colors[m[1]] = luminance(t, m[2])
		}
		for _, pair := range strings.Fields("ink/bg ink/card ink/code dim/bg dim/card dim/code accent/bg accent/card on/accent good/goodbg good/card bad/badbg bad/card bad/code warn/warnbg warn/card") {
			front, back, _ := strings.Cut(pair, "/")
			light, dark := max(colors[front], colors[back]), min(colors[front], colors[back])
			if got := (light + 0.05) / (dark + 0.05); got < least {
				t.Errorf("%s has a contrast of %.1f in %.40s", pair, got, scheme)
			}
		}
	}
}

// luminance is the relative luminance of a color in hexadecimal, by WCAG 2.2.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	rgb, err := strconv.ParseUint(hex, 16, 24)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for i, weight := range []float64{0.0722, 0.7152, 0.2126} {
		c := float64(rgb>>(8*i)&255) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

func TestWhatOthersWroteIsTextOnThePage(t *testing.T) {
	const evil = `<img/src=x onerror=alert(1)>"'`
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	world.Serve("web", "web-1", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }),
		"urlprefix-/web", "urlprefix-"+evil, "urlprefix-/x "+evil)
	l := start(t, world, nil)
	l.get("/web/" + url.PathEscape(evil))
	p := page(l, true)
	for _, target := range []string{"/?q=" + url.QueryEscape(evil), "/?ask=" + url.QueryEscape(evil), "/?ask=/web/" + url.QueryEscape(evil), "/?ask=" + url.QueryEscape("/%zz"+evil), "/?ask=/&client=" + url.QueryEscape(evil), "/?ask=/&method=" + url.QueryEscape(evil)} {
		for name, handler := range map[string]http.Handler{"page": p.Index(), "parts": p.Parts(), "answer": p.Answer()} {
			html := fetch(t, handler, target).Body.String()
			if strings.Contains(html, "<img") || strings.Contains(html, `onerror=alert(1)>"`) {
				t.Errorf("%s of %s holds what a stranger wrote, as markup:\n%s", name, target, html)
			}
		}
	}
	contains(t, fetch(t, p.Index(), "/").Body.String(), "&lt;img/src=x", "502")
}

func TestSearchFindsRoutesByEveryWord(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb, meshtest.Allow("gateway", "shop"))
	web := world.Serve("web", "node-w", http.HandlerFunc(hello), "urlprefix-/web", "urlprefix-www.example/a strip=/a", "urlprefix-www.example/b deny=nonsense")
	world.Serve("shop", "node-s", http.HandlerFunc(hello), "urlprefix-shop.example/a", "urlprefix-db.example proto=tcp")
	l := start(t, world, nil)
	meshtest.Wait(t, "all are there", func() bool { return l.Table().Len() == 5 })
	for query, want := range map[string]string{
		"":                     "/web db.example proto=tcp shop.example/a www.example/a www.example/b match=segment",
		"WWW":                  "www.example/a www.example/b match=segment",
		"path:/a":              "shop.example/a www.example/a",
		"path:/a service:web":  "www.example/a",
		"host:shop":            "shop.example/a",
		"option:strip":         "www.example/a",
		"instance:node-s":      "db.example proto=tcp shop.example/a",
		web.Address:            "/web www.example/a",
		"is:closed":            "www.example/b match=segment",
		"is:tcp":               "db.example proto=tcp",
		"is:gone":              "",
		"is:draining":          "",
		"www.example/a":        "www.example/a",
		"nothing of this kind": "",
	} {
		var got []string
		found := l.Search(query, 10)
		for _, r := range found.Routes {
			got = append(got, r.Route)
		}
		if text := strings.Join(got, " "); text != want || found.Matches != len(got) || found.Total != 5 {
			t.Errorf("%q finds %d: %q, want %q", query, found.Matches, text, want)
		}
	}
	if found := l.Search("", 2); len(found.Routes) != 2 || found.More() != 3 {
		t.Errorf("the first two: %d, %d more", len(found.Routes), found.More())
	}
}

func TestInstancesHaveTheirLastMinute(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	broken := false
	world.Serve("web", "web-1", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}), "urlprefix-/web")
	l := start(t, world, nil)
	for range 9 {
		l.get("/web")
	}
	broken = true
	l.get("/web")
	meshtest.Wait(t, "ten are counted", func() bool {
		i := l.Routes().Routes[0].Instances[0]
		return i.PerSecond > 0 && i.P50 > 0 && i.P99 >= i.P50 && i.Failed == 1
	})
	failed := l.Failed(10)
	if len(failed) != 1 || failed[0].Status != http.StatusServiceUnavailable {
		t.Fatalf("failed: %+v", failed)
	}
	contains(t, fetch(t, page(l, false).Answer(), "/parts/answer?ask="+failed[0].ID).Body.String(), "Try by try", "web-web-1", "origin failure", "503")
	var routes map[string]any
	list := fetch(t, l.RoutesHandler(), "/routes")
	if err := json.Unmarshal(list.Body.Bytes(), &routes); err != nil {
		t.Fatal(err)
	}
	instance := routes["routes"].([]any)[0].(map[string]any)["instances"].([]any)[0].(map[string]any)
	for _, name := range []string{"identity", "datacenter", "share", "in_flight", "eligible", "why", "requests_per_second", "p50_ns", "p99_ns", "failed_last_minute"} {
		if _, ok := instance[name]; !ok {
			t.Errorf("/routes has no %q: %v", name, instance)
		}
	}
}

// events reads a stream; next returns the ID and the event of the next change.
type events struct{ lines *bufio.Scanner }

func open(t *testing.T, server, lastID string) *events {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	request, _ := http.NewRequestWithContext(ctx, http.MethodGet, server+"/events", nil)
	if lastID != "" {
		request.Header.Set("Last-Event-ID", lastID)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = response.Body.Close() })
	if kind := response.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Fatalf("content type %q", kind)
	}
	return &events{bufio.NewScanner(response.Body)}
}

func (e *events) next() (id, name string, change proxy.Event, err error) {
	for e.lines.Scan() {
		field, value, _ := strings.Cut(e.lines.Text(), ": ")
		switch field {
		case "id":
			id = value
		case "event":
			name = value
		case "data":
			return id, name, change, json.Unmarshal([]byte(value), &change)
		}
	}
	return "", "", change, errors.Join(e.lines.Err(), errors.New("the stream has ended"))
}

func TestAStreamOfEventsIsPromptAndResumesWhereItWasCut(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	world.Serve("web", "web-1", http.HandlerFunc(hello), "urlprefix-/web")
	l := start(t, world, nil)
	server := httptest.NewServer(l.EventsHandler())
	t.Cleanup(server.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)

	stream := open(t, server.URL, "")
	seen := ""
	for range l.Events() {
		id, _, _, err := stream.next()
		if err != nil {
			t.Fatal(err)
		}
		seen = id
	}
	began := time.Now()
	world.Serve("web", "web-2", http.HandlerFunc(hello), "urlprefix-/new")
	id, name, change, err := stream.next()
	if err != nil || name != "change" || change.Kind != "route" || change.Subject != "/new" || time.Since(began) > time.Second {
		t.Fatalf("after %v: %q %+v, %v; want the route /new within a second", time.Since(began), name, change, err)
	}
	if again, _, change, err := open(t, server.URL, seen).next(); err != nil || again != id || change.Subject != "/new" {
		t.Errorf("after %s comes %s, %+v, %v; want %s, no more and no less", seen, again, change, err, id)
	}
	if _, name, _, err := open(t, server.URL, "other-"+strings.SplitN(id, "-", 2)[1]).next(); err != nil || name != "restart" {
		t.Errorf("the ID of another process: %q, %v; want to be told of the restart", name, err)
	}
	if _, _, change, err := open(t, server.URL, "1").next(); err != nil || change.Number != 2 {
		t.Errorf("after the number 1 comes %+v, %v", change, err)
	}
}

func TestDrainingIsForThoseWithTheTokenAndStopsThePicking(t *testing.T) {
	const secret = "s3cret"
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	for _, node := range []string{"web-1", "web-2"} {
		world.Serve("web", node, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, node) }), "urlprefix-/web")
	}
	l := start(t, world, nil)
	meshtest.Wait(t, "both are there", func() bool { return len(l.Routes().Routes[0].Instances) == 2 })
	token := func() (string, error) { return secret, nil }
	good := []string{"Authorization", "Bearer " + secret}
	first := "service=web&instance=web-web-1&on=true"
	for _, test := range []struct {
		name    string
		token   func() (string, error)
		query   string
		headers []string
		status  int
		text    string
	}{
		{"no token file", nil, first, good, 403, "-admin-token-file"},
		{"another origin", token, first, append([]string{"Sec-Fetch-Site", "cross-site"}, good...), 403, "origin"},
		{"another origin, old browser", token, first, append([]string{"Origin", "http://evil.example"}, good...), 403, "origin"},
		{"no token", token, first, nil, 401, "Bearer"},
		{"wrong token", token, first, []string{"Authorization", "Bearer s3creT"}, 401, "Bearer"},
		{"part of the token", token, first, []string{"Authorization", "Bearer s3c"}, 401, "Bearer"},
		{"another scheme", token, first, []string{"Authorization", "Basic " + secret}, 401, "Bearer"},
		{"an empty token", func() (string, error) { return "", nil }, first, []string{"Authorization", "Bearer "}, 401, "Bearer"},
		{"unreadable token", func() (string, error) { return "", errors.New("/secret/path") }, first, good, 503, "the log says why"},
		{"on is missing", token, "service=web&instance=web-web-1", good, 400, "on=true"},
		{"nobody", token, "service=web&instance=web-3&on=true", good, 404, "no such instance"},
		{"another node", token, first + "&node=web-9", good, 404, "no such instance"},
	} {
		answer := drain(l, test.token, test.query, test.headers...)
		var refused struct{ Error string }
		if err := json.Unmarshal(answer.Body.Bytes(), &refused); err != nil || answer.Code != test.status || !strings.Contains(refused.Error, test.text) || strings.Contains(refused.Error, "/secret") {
			t.Errorf("%s: %d %s; want %d with %q", test.name, answer.Code, answer.Body, test.status, test.text)
		}
	}
	if found := l.Search("is:draining", 1); found.Matches != 0 {
		t.Fatal("somebody without the right drained an instance")
	}

	answer := drain(l, token, first, good...)
	var drained proxy.Drained
	if err := json.Unmarshal(answer.Body.Bytes(), &drained); err != nil || !drained.Draining || drained.Node != "web-1" || answer.Code != 200 {
		t.Fatalf("%d %s, %v", answer.Code, answer.Body, err)
	}
	for range 20 {
		if got := l.get("/web"); got.body != "web-2" {
			t.Fatalf("%d %q answers while web-1 drains", got.status, got.body)
		}
	}
	html := fetch(t, page(l, true).Index(), "/?q=is:draining").Body.String()
	contains(t, html, "1 of 1 routes fit", `data-drain="false"`, ">Resume<", `class="kind drain"`, "draining: it is picked no more")
	drain(l, token, "service=web&instance=web-web-1&on=false&node=web-1", good...)
	meshtest.Wait(t, "web-1 answers again", func() bool { return l.get("/web").body == "web-1" })
}

func drain(l *lab, token func() (string, error), query string, headers ...string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodPost, "/drain?"+query, nil)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	answer := httptest.NewRecorder()
	l.DrainHandler(token).ServeHTTP(answer, request)
	return answer
}

// BenchmarkAdminPage makes the part of the page that is asked for every three
// seconds, of 10,000 routes.
func BenchmarkAdminPage(b *testing.B) {
	world := meshtest.New(b)
	world.Policy.Set(allowWeb)
	for i := range 100 {
		tags := make([]string, 100)
		for j := range tags {
			tags[j] = fmt.Sprintf("urlprefix-host-%d.example/path-%d strip=/path", i, j)
		}
		world.Catalog.Add(world.Instance("web", fmt.Sprintf("web-%d", i), fmt.Sprintf("127.0.0.1:%d", 10000+i), tags...))
	}
	p := proxy.New(proxy.Config{Catalog: world.Catalog, Dialer: world.Dialer("gateway", nil), Policy: world.Policy})
	world.Run("gateway", p.Run)
	meshtest.Wait(b, "the routes are there", func() bool { return p.Table().Len() == 10000 })
	handler := p.Admin(proxy.AdminConfig{}).Parts()
	for _, query := range []string{"", "host-7", "nothing"} {
		b.Run("q="+query, func(b *testing.B) {
			size := 0
			for b.Loop() {
				answer := httptest.NewRecorder()
				handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/parts?q="+query, nil))
				size = answer.Body.Len()
			}
			b.ReportMetric(float64(size), "bytes")
		})
	}
}
