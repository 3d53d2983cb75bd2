package site_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/identity"
	"sluice/intentions"
	"sluice/internal/meshtest"
	"sluice/internal/service"
	"sluice/mesh"
	"sluice/web/blog"
	"sluice/web/settings"
	"sluice/web/site"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a Store in memory that a test can make fail.
type memory struct {
	mu      sync.Mutex
	hello   blog.Hello
	quorum  blog.Quorum
	entries []blog.Entry
	err     error
	panics  bool
	hangs   bool // when entries are read
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *memory) Hello(context.Context) (blog.Hello, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hello, m.err
}

func (m *memory) Quorum(context.Context) (blog.Quorum, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.quorum, m.err
}

func (m *memory) Newest(ctx context.Context, _ int64) ([]blog.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return append([]blog.Entry{}, m.entries...), m.err
}

func (m *memory) Add(_ context.Context, entry blog.Entry) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.panics {
		panic("a bug")
	}
	if m.err != nil {
		return false, m.err
	}
	for _, old := range m.entries {
		if old.ID == entry.ID {
			return false, nil
		}
	}
	m.entries = append([]blog.Entry{entry}, m.entries...)
	return true, nil
}

func (m *memory) Member(context.Context) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hello.Me
}

// upstream is a way with a fixed peer.
type upstream struct {
	mu      sync.Mutex
	err     error
	changed chan struct{}
	peer    *x509.Certificate
}

func (u *upstream) fail(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.err = err
	if u.changed != nil {
		close(u.changed)
		u.changed = nil
	}
}

func (u *upstream) Changed() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.changed == nil {
		u.changed = make(chan struct{})
	}
	return u.changed
}

func (u *upstream) Err() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

func (u *upstream) Last() (mesh.ConnectionInfo, *x509.Certificate, bool) {
	return mesh.ConnectionInfo{}, u.peer, u.peer != nil
}

// lab is a site behind a mesh listener with a client that comes as the gateway.
type lab struct {
	t                    *testing.T
	world                *meshtest.World
	primary, secondary   *memory
	toPrimary, toSecond  *upstream
	client               *http.Client
	leaf, gatewayLeaf    *x509.Certificate
	primaryLeaf, secLeaf *x509.Certificate
	log                  *bytes.Buffer
	consul               atomic.Pointer[error]
	keys                 *keyValues
	live                 *settings.Live
}

const host = "127.0.0.1:9999"

func leafOf(t *testing.T, source mesh.CredentialSource) *x509.Certificate {
	t.Helper()
	credentials, err := source.Credentials()
	if err != nil {
		t.Fatal(err)
	}
	return credentials.Certificate.Leaf
}

func start(t *testing.T) *lab {
	t.Helper()
	world := meshtest.New(t)
	world.Policy.Set(meshtest.Allow("gateway", "web"))
	own := world.Credentials("web")
	l := &lab{
		t: t, world: world, log: &bytes.Buffer{}, leaf: leafOf(t, own),
		primaryLeaf: leafOf(t, world.Credentials("mongo-primary")), secLeaf: leafOf(t, world.Credentials("mongo-secondary")),
		primary: &memory{hello: blog.Hello{
			Set: "consuldemo", Hosts: []string{"127.0.10.1:27017", "127.0.10.2:27017"},
			Primary: "127.0.10.2:27017", Me: "127.0.10.2:27017", IsPrimary: true,
		}},
		secondary: &memory{hello: blog.Hello{Me: "127.0.10.1:27017", IsSecondary: true}},
	}
	l.toPrimary, l.toSecond = &upstream{peer: l.primaryLeaf}, &upstream{peer: l.secLeaf}
	l.keys = &keyValues{changed: make(chan struct{})}
	l.live = settings.NewLive(l.keys, slog.New(slog.DiscardHandler), nil)
	world.Run("settings", l.live.Run)
	pages, err := site.New(site.Config{
		Base: "/web", Settings: l.live, Title: "Blog of <tests>", Node: "web-1", Datacenter: "dc1", Instance: "web-web-1", Credentials: own,
		Primary:   site.Database{Store: l.primary, Upstream: l.toPrimary},
		Secondary: site.Database{Store: l.secondary, Upstream: l.toSecond},
		Logger:    slog.New(slog.NewTextHandler(l.log, nil)),
		Consul: func() error {
			if err := l.consul.Load(); err != nil {
				return *err
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	world.Run("topology page", pages.Run)
	instance := world.Serve("web", "web-1", pages)
	dialer := world.Dialer("gateway", world.Policy)
	transport := &http.Transport{}
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := dialer.DialInstance(ctx, instance)
		if err != nil {
			return nil, err
		}
		l.gatewayLeaf = conn.LocalCertificate()
		return conn, nil
	}
	l.client = &http.Client{Transport: transport, Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return l
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (l *lab) do(request *http.Request) answer {
	l.t.Helper()
	response, err := l.client.Do(request)
	if err != nil {
		l.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(body)}
}

func (l *lab) get(target, accept string) answer {
	l.t.Helper()
	request := httptest.NewRequest(http.MethodGet, "http://"+host+target, nil)
	request.RequestURI = ""
	request.Header.Set("Accept", accept)
	return l.do(request)
}

func (l *lab) post(form url.Values, header ...string) answer {
	l.t.Helper()
	request := httptest.NewRequest(http.MethodPost, "http://"+host+"/web/entries", strings.NewReader(form.Encode()))
	request.RequestURI = ""
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "text/html")
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	return l.do(request)
}

func form(title, body string) url.Values {
	return url.Values{"id": {strings.Repeat("0123456789abcdef", 2)}, "title": {title}, "body": {body}}
}

func denied(source, destination string) error {
	rule := intentions.Rule{Source: source, Destination: destination, Action: intentions.Deny}
	return &mesh.DeniedError{
		Decision: intentions.Decision{Source: source, Destination: destination, Rule: &rule}, By: mesh.BySource,
	}
}

func TestPageShowsTheTableOfTheDemoAndWhoProvedToBeWho(t *testing.T) {
	l := start(t)
	l.post(form("Hello <b>world</b>", "first line\r\nsecond & last"))
	got := l.get("/web?from=primary", "text/html")
	if got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	for _, want := range []string{
		"Blog of &lt;tests&gt;", "<strong id=\"node\">web-1</strong>", "web-web-1", "127.0.10.1:27017", "127.0.10.2:27017",
		"Is primary", "Is secondary", "Hello &lt;b&gt;world&lt;/b&gt;", "first line\nsecond &amp; last",
		"/svc/web<", "/svc/gateway<", "/svc/mongo-primary<", "/svc/mongo-secondary<",
		fmt.Sprintf("%x", l.leaf.SerialNumber), fmt.Sprintf("%x", l.gatewayLeaf.SerialNumber),
		fmt.Sprintf("%x", l.primaryLeaf.SerialNumber), fmt.Sprintf("%x", l.secLeaf.SerialNumber),
		l.primaryLeaf.NotAfter.UTC().Format("2006-01-02 15:04:05 UTC"),
		`name="viewport"`, `<form method="post" action="/web/entries">`,
	} {
		if !strings.Contains(got.body, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	if strings.Contains(got.body, "<script ") || strings.Contains(got.body, "://127") || strings.Contains(got.body, "//cdn") {
		t.Error("the page has a script or an external asset")
	}
}

func TestContentSecurityPolicyAllowsExactlyThePagesOwnStyle(t *testing.T) {
	l := start(t)
	got := l.get("/web", "text/html")
	style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(got.body)
	if style == nil {
		t.Fatal("no style")
	}
	sum := sha256.Sum256([]byte(style[1]))
	want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "';"
	if policy := got.header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, want) || strings.Contains(policy, "unsafe") {
		t.Errorf("policy = %q, want it to start with %q", policy, want)
	}
	if strings.Contains(got.body, " style=") {
		t.Error("the page has a style attribute, which the policy forbids")
	}
}

func TestProgramsGetTheSameAsJSON(t *testing.T) {
	l := start(t)
	l.post(form("Title", "Text"))
	got := l.get("/web?from=primary", "application/json")
	var view struct {
		Instance    string       `json:"instance"`
		Node        string       `json:"node"`
		Hosts       []string     `json:"hosts"`
		Primary     string       `json:"primary"`
		Me          string       `json:"me"`
		IsPrimary   bool         `json:"is_primary"`
		IsSecondary bool         `json:"is_secondary"`
		Entries     []blog.Entry `json:"entries"`
		Edges       []site.Edge  `json:"edges"`
		Secondary   struct {
			IsSecondary bool `json:"is_secondary"`
		} `json:"secondary"`
	}
	if err := json.Unmarshal([]byte(got.body), &view); err != nil || got.status != 200 {
		t.Fatalf("%d %v: %s", got.status, err, got.body)
	}
	if view.Instance != "web-web-1" || view.Node != "web-1" || len(view.Hosts) != 2 || view.Primary != view.Me || !view.IsPrimary || view.IsSecondary ||
		len(view.Entries) != 1 || view.Entries[0].Title != "Title" || view.Entries[0].Via != "web-web-1" || !view.Secondary.IsSecondary {
		t.Errorf("view = %+v", view)
	}
	if len(view.Edges) != 3 || view.Edges[0].Source != "gateway" || !view.Edges[0].Inbound || view.Edges[0].Peer == nil || view.Edges[1].State != "open" {
		t.Errorf("edges = %+v", view.Edges)
	}
}

func TestTerminalsGetPlainText(t *testing.T) {
	l := start(t)
	l.post(form("Hello <b>world</b>", "Text"))
	l.primary.entries = append(l.primary.entries, blog.Entry{ID: "x", Title: "red \x1b[31m, one byte \u009b31m"})
	for _, accept := range []string{"*/*", "", "text/plain"} {
		got := l.get("/web?from=primary", accept)
		if kind := got.header.Get("Content-Type"); got.status != 200 || kind != "text/plain; charset=utf-8" {
			t.Fatalf("Accept %q: %d %s", accept, got.status, kind)
		}
		if lines := strings.Count(got.body, "\n"); lines > 25 || strings.ContainsAny(got.body, "\x1b\u009b") || strings.Contains(got.body, "<html") {
			t.Errorf("Accept %q: %d lines, markup or control characters:\n%s", accept, lines, got.body)
		}
		for _, want := range []string{
			"Blog of <tests>, served by web-1 in dc1", "web-web-1 on web-1", "127.0.10.1:27017 127.0.10.2:27017",
			"Is primary:             yes", "Is secondary:           no", "Read from a secondary:  works 127.0.10.1:27017",
			"gateway -> web", "web -> mongo-primary    open", "/svc/mongo-secondary", "read from mongo-primary (127.0.10.2:27017):", "Hello <b>world</b>", "red ",
		} {
			if !strings.Contains(got.body, want) {
				t.Errorf("Accept %q: no %q in\n%s", accept, want, got.body)
			}
		}
	}
	for accept, want := range map[string]string{
		"text/html,application/xhtml+xml,*/*;q=0.8": "text/html; charset=utf-8", "application/json, */*": "application/json",
	} {
		if kind := l.get("/web", accept).header.Get("Content-Type"); kind != want {
			t.Errorf("Accept %q: %s, want %s", accept, kind, want)
		}
	}

	l.primary.fail(denied("web", "mongo-primary"))
	l.toPrimary.fail(denied("web", "mongo-primary"))
	got := l.get("/web", "*/*")
	want := "503 The database is closed to us\ndenied by intention web -> mongo-primary\n"
	if got.status != 503 || !strings.Contains(got.body, want) || !strings.Contains(got.body, "\n  sluice intentions allow web mongo-primary\n") ||
		!strings.Contains(got.body, "web -> mongo-primary    denied  denied by intention") || strings.Contains(got.body, "none yet") {
		t.Errorf("denied: %d\n%s", got.status, got.body)
	}
}

func TestReadFromTheSecondary(t *testing.T) {
	l := start(t)
	l.secondary.entries = []blog.Entry{{ID: "x", Title: "as the secondary has it"}}
	l.primary.fail(denied("web", "mongo-primary"))
	got := l.get("/web?from=secondary", "text/html")
	if got.status != 200 || !strings.Contains(got.body, "as the secondary has it") || !strings.Contains(got.body, "read from mongo-secondary") {
		t.Errorf("%d %s", got.status, got.body)
	}
	l.primary.fail(nil)
	l.secondary.fail(denied("web", "mongo-secondary"))
	if got := l.get("/web", "text/html"); got.status != 200 || !strings.Contains(got.body, "denied by intention web -> mongo-secondary") {
		t.Errorf("the page depends on the secondary: %d", got.status)
	}
	if got := l.get("/web?from=secondary", "text/html"); got.status != 503 {
		t.Errorf("a denied read from the secondary: %d", got.status)
	}
}

func TestEachFailureIsAPageInWordsWithTheCommandThatHelps(t *testing.T) {
	id, err := identity.New("11111111-2222-3333-4444-555555555555.consul", "dc1", "other")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		err    error
		status int
		again  string // Retry-After
		wants  []string
	}{
		{"denied", denied("web", "mongo-primary"), 503, "5", []string{"denied by intention web -> mongo-primary", "sluice intentions allow web mongo-primary"}},
		{
			"denied by wildcard", &mesh.DeniedError{Decision: intentions.NewSet(nil, intentions.Deny).Decide("web", "mongo-primary"), By: mesh.BySource}, 503, "5",
			[]string{"no intention matches web -> mongo-primary", "sluice intentions allow web mongo-primary"},
		},
		{"no instance", &blog.Error{Service: "mongo-primary", Way: mesh.ErrNoInstance, Driver: errors.New("secret detail")}, 503, "5", []string{"No healthy instance of mongo-primary."}},
		{"wrong identity", &blog.Error{Way: &mesh.WrongIdentityError{Got: id}}, 502, "", []string{"/svc/other"}},
		{"being stopped", fmt.Errorf("%w: %w", service.ErrStopping, &blog.Error{Driver: context.Canceled}), 503, "1", []string{"This instance is being stopped", "before mongo-primary did."}},
		{"not ready", mesh.ErrNotReady, 503, "", []string{"holds no valid certificate"}},
		{"timed out", &blog.Error{Service: "mongo-primary", Driver: context.DeadlineExceeded}, 504, "", []string{"mongo-primary did not answer in time."}},
		{"other", &blog.Error{Service: "mongo-primary", Driver: errors.New("secret detail at store.go:1")}, 502, "", []string{"gave no usable answer"}},
	}
	l := start(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l.primary.fail(test.err)
			l.toPrimary.fail(test.err)
			for _, accept := range []string{"text/html", "application/json", "*/*"} {
				got := l.get("/web", accept)
				if got.status != test.status {
					t.Errorf("Accept %s: status %d, want %d", accept, got.status, test.status)
				}
				if again := got.header.Get("Retry-After"); again != test.again {
					t.Errorf("Accept %s: Retry-After %q, want %q", accept, again, test.again)
				}
				for _, want := range test.wants {
					if !strings.Contains(got.body, want) {
						t.Errorf("Accept %s: no %q in %s", accept, want, got.body)
					}
				}
				if strings.Contains(got.body, "secret detail") || strings.Contains(got.body, "goroutine") {
					t.Errorf("Accept %s: the page shows inner details", accept)
				}
			}
		})
	}
	l.primary.fail(nil)
	l.toPrimary.fail(nil)
	if got := l.get("/web", "text/html"); got.status != 200 {
		t.Errorf("after all that: %d", got.status)
	}
}

func TestAVisitorWhoLeavesTooMuchIsToldToWaitAndKeepsTheForm(t *testing.T) {
	l := start(t)
	refused := answer{}
	for i := 0; i < 100 && refused.status == 0; i++ {
		entry := form(fmt.Sprintf("Entry %d", i), "typed")
		entry.Set("id", fmt.Sprintf("%032x", i+1))
		if got := l.post(entry, "X-Forwarded-For", "192.0.2.7"); got.status != 303 {
			refused = got
		}
	}
	stored := len(l.primary.entries)
	if refused.status != 429 || refused.header.Get("Retry-After") != "2" || stored < 30 {
		t.Errorf("after %d entries: %d, Retry-After %q", stored, refused.status, refused.header.Get("Retry-After"))
	}
	if !strings.Contains(refused.body, fmt.Sprintf(`value="Entry %d"`, stored)) || !strings.Contains(refused.body, "Nothing was stored; wait a moment") {
		t.Errorf("the form is not kept: %s", refused.body)
	}
	if got := l.post(form("Another", "visitor"), "X-Forwarded-For", "192.0.2.8"); got.status != 303 {
		t.Errorf("another visitor: %d", got.status)
	}
}

func TestFormStoresOnceAndLeadsBackToThePage(t *testing.T) {
	l := start(t)
	for range 2 {
		if got := l.post(form("Title", "Text")); got.status != 303 || got.header.Get("Location") != "/web?from=primary" {
			t.Fatalf("%d to %q", got.status, got.header.Get("Location"))
		}
	}
	if len(l.primary.entries) != 1 {
		t.Errorf("%d entries after the same form twice", len(l.primary.entries))
	}
	if got := l.post(form("Title", "Text"), "Accept", "application/json"); got.status != 200 {
		t.Errorf("a program that repeats itself: %d", got.status)
	}
	if got := l.post(url.Values{"title": {"a"}, "body": {"b"}}, "Accept", "application/json"); got.status != 201 {
		t.Errorf("a program: %d %s", got.status, got.body)
	}
	if got := l.post(url.Values{"title": {"c"}, "body": {"d"}}, "Accept", "*/*"); got.status != 303 || len(l.primary.entries) != 3 {
		t.Errorf("a bare curl: %d %s", got.status, got.body)
	}
}

func TestFormFromElsewhereIsRefused(t *testing.T) {
	l := start(t)
	tests := []struct {
		name   string
		header []string
		status int
	}{
		{"another site", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"another port", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"old browser, another origin", []string{"Sec-Fetch-Site", "", "Origin", "http://evil.example"}, 403},
		{"old browser, no origin", []string{"Sec-Fetch-Site", "", "Origin", "null"}, 403},
		{"old browser, own origin", []string{"Sec-Fetch-Site", "", "Origin", "http://" + host}, 303},
		{"other form", []string{"Content-Type", "text/plain"}, 415},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before := len(l.primary.entries)
			values := form("Title", "Text")
			values.Set("id", fmt.Sprintf("%032x", before+100))
			if got := l.post(values, test.header...); got.status != test.status {
				t.Errorf("status %d, want %d", got.status, test.status)
			}
			if stored := len(l.primary.entries) > before; stored != (test.status == 303) {
				t.Errorf("stored: %v", stored)
			}
		})
	}
}

func TestBadFormIsRefusedAndKeepsWhatWasTyped(t *testing.T) {
	l := start(t)
	tests := []struct {
		name   string
		change func(url.Values)
		status int
		want   string
	}{
		{"no title", func(f url.Values) { f.Set("title", "  ") }, 400, "The title is missing."},
		{"no text", func(f url.Values) { f.Del("body") }, 400, "The text is missing."},
		{"long title", func(f url.Values) { f.Set("title", strings.Repeat("ä", site.MaxTitle+1)) }, 400, "longer than 120"},
		{"long text", func(f url.Values) { f.Set("body", strings.Repeat("ä", site.MaxBody+1)) }, 400, "longer than 4000"},
		{"control character", func(f url.Values) { f.Set("title", "a\x00b") }, 400, "control character"},
		{"line break in the title", func(f url.Values) { f.Set("title", "a\nb") }, 400, "control character"},
		{"not UTF-8", func(f url.Values) { f.Set("body", "\xff") }, 400, "not valid text"},
		{"no ID", func(f url.Values) { f.Del("id") }, 400, "no valid ID"},
		{"strange ID", func(f url.Values) { f.Set("id", "$where") }, 400, "no valid ID"},
		{"huge", func(f url.Values) { f.Set("body", strings.Repeat("x", 100<<10)) }, 413, "too large"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			values := form("typed title", "typed text")
			test.change(values)
			got := l.post(values)
			if got.status != test.status || !strings.Contains(got.body, test.want) {
				t.Errorf("%d without %q", got.status, test.want)
			}
			if values.Get("title") == "typed title" && test.status == 400 && !strings.Contains(got.body, `value="typed title"`) {
				t.Error("what was typed is gone")
			}
			if len(l.primary.entries) != 0 {
				t.Error("it was stored")
			}
		})
	}
	long := form(strings.Repeat("ä", site.MaxTitle), strings.Repeat("ä", site.MaxBody))
	if got := l.post(long); got.status != 303 {
		t.Errorf("the longest entry: %d", got.status)
	}
}

func TestFailedFormKeepsTheEntryAndItsID(t *testing.T) {
	l := start(t)
	l.primary.fail(denied("web", "mongo-primary"))
	got := l.post(form("typed title", "typed text"))
	if got.status != 503 || !strings.Contains(got.body, "denied by intention web -> mongo-primary") {
		t.Fatalf("%d %s", got.status, got.body)
	}
	for _, want := range []string{`value="typed title"`, ">typed text</textarea>", `name="id" value="` + form("", "").Get("id") + `"`} {
		if !strings.Contains(got.body, want) {
			t.Errorf("the page does not keep %s", want)
		}
	}
}

func TestUnknownPageAndBugAreAnsweredInWords(t *testing.T) {
	l := start(t)
	if got := l.get("/web/none", "text/html"); got.status != 404 || !strings.Contains(got.body, "no such page") {
		t.Errorf("%d %s", got.status, got.body)
	}
	l.primary.panics = true
	got := l.post(form("Title", "Text"))
	if got.status != 500 || strings.Contains(got.body, "a bug") || strings.Contains(got.body, "goroutine") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if !strings.Contains(l.log.String(), "a bug") {
		t.Error("the bug is not in the log")
	}
}
