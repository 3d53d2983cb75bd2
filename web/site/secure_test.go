package site_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/mesh"
	"sluice/web/blog"
	"sluice/web/site"
)

// nobody is a process without an identity.
type nobody struct{}

func (nobody) Credentials() (mesh.Credentials, error) { return mesh.Credentials{}, mesh.ErrNotReady }

// alone is a site that is asked without a network, so that its time can be a test's.
func alone(t *testing.T, primary, secondary site.Store) *site.Site {
	t.Helper()
	pages, err := site.New(site.Config{
		Base: "/web", Node: "web-1", Instance: "web-web-1", Credentials: nobody{},
		Primary: site.Database{Store: primary, Upstream: &upstream{}}, Secondary: site.Database{Store: secondary, Upstream: &upstream{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

func ask(pages http.Handler, request *http.Request, accept string) *httptest.ResponseRecorder {
	request.Header.Set("Accept", accept)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	got := httptest.NewRecorder()
	pages.ServeHTTP(got, request)
	return got
}

// slow is a store whose writes take their time.
type slow struct {
	*memory
	takes time.Duration
}

func (s slow) Add(ctx context.Context, entry blog.Entry) (bool, error) {
	select {
	case <-time.After(s.takes):
		return s.memory.Add(ctx, entry)
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func TestARequestOfTheTopologyPageIsBoundedAndAHeldWriteIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		primary := &memory{hello: blog.Hello{Me: "a:1"}, hangs: true}
		pages := alone(t, slow{primary, 20 * time.Second}, &memory{hello: blog.Hello{Me: "b:1"}})
		began := time.Now()
		got := ask(pages, httptest.NewRequest(http.MethodGet, "/web?from=primary", nil), "text/html")
		if took := time.Since(began); got.Code != http.StatusGatewayTimeout || took != 25*time.Second || !strings.Contains(got.Body.String(), "mongo-primary did not answer in time.") {
			t.Errorf("a read that hangs: %d after %s: %s", got.Code, took, got.Body)
		}
		began = time.Now()
		write := func() *httptest.ResponseRecorder {
			return ask(pages, httptest.NewRequest(http.MethodPost, "/web/entries", strings.NewReader(form("Held", "text").Encode())), "text/html")
		}
		if got := write(); got.Code != http.StatusSeeOther || time.Since(began) != 20*time.Second {
			t.Errorf("a write that is held: %d after %s", got.Code, time.Since(began))
		}
		pages = alone(t, slow{primary, time.Hour}, &memory{})
		began = time.Now()
		if got := write(); got.Code != http.StatusGatewayTimeout || time.Since(began) != 25*time.Second || !strings.Contains(got.Body.String(), `value="Held"`) {
			t.Errorf("a write that hangs: %d after %s: %s", got.Code, time.Since(began), got.Body)
		}
	})
}

// frozen is a store that does not answer.
type frozen struct{ *memory }

func (frozen) Hello(ctx context.Context) (blog.Hello, error) {
	<-ctx.Done()
	return blog.Hello{}, ctx.Err()
}

func TestARoleChangeHasItsTimeThoughAnotherMemberDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		primary := &memory{hello: blog.Hello{Primary: "a:1", Me: "a:1"}}
		pages := alone(t, primary, frozen{&memory{}})
		roleChange(t, pages, primary, time.Second)
	})
}

func TestARoleChangeHasItsTimeThoughNobodyLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		primary := &memory{hello: blog.Hello{Primary: "a:1", Me: "a:1"}}
		pages := alone(t, primary, &memory{hello: blog.Hello{Me: "b:1"}})
		roleChange(t, pages, primary, 500*time.Millisecond)
	})
}

// roleChange has a set elect another primary, and holds the page to a time of that.
func roleChange(t *testing.T, pages *site.Site, primary *memory, late time.Duration) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- pages.Run(ctx) }()
	time.Sleep(10*time.Second + time.Millisecond)
	changed := time.Now()
	primary.mu.Lock()
	primary.hello = blog.Hello{Primary: "b:1", Me: "b:1"}
	primary.mu.Unlock()
	time.Sleep(time.Minute)
	got := ask(pages, httptest.NewRequest(http.MethodGet, "/web", nil), "application/json")
	var page struct {
		Events []site.Event `json:"events"`
	}
	if err := json.Unmarshal(got.Body.Bytes(), &page); err != nil || len(page.Events) != 1 {
		t.Fatalf("%v: %s", err, got.Body)
	}
	if event := page.Events[0]; event.Text != "b:1 is primary now. It was a:1." || event.At.Sub(changed) > late {
		t.Errorf("%q, %s after it changed", event.Text, event.At.Sub(changed))
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestEveryAnswerTellsABrowserWhatItMayDo(t *testing.T) {
	primary := &memory{}
	pages := alone(t, primary, &memory{})
	large := url.Values{"body": {strings.Repeat("x", 80<<10)}}.Encode()
	for name, row := range map[string]struct {
		method, path, body, accept string
		status                     int
	}{
		"the page":           {http.MethodGet, "/web", "", "text/html", 200},
		"JSON":               {http.MethodGet, "/web", "", "application/json", 200},
		"text":               {http.MethodGet, "/web", "", "*/*", 200},
		"no such page":       {http.MethodGet, "/web/none", "", "text/html", 404},
		"no such method":     {http.MethodPut, "/web", "", "text/html", 405},
		"methods":            {http.MethodOptions, "/web", "", "text/html", 204},
		"a bad form":         {http.MethodPost, "/web/entries", "title=x", "text/html", 400},
		"a form too large":   {http.MethodPost, "/web/entries", large, "text/html", 413},
		"an entry is stored": {http.MethodPost, "/web/entries", form("Title", "Text").Encode(), "text/html", 303},
	} {
		got := ask(pages, httptest.NewRequest(row.method, row.path, strings.NewReader(row.body)), row.accept)
		if got.Code != row.status {
			t.Errorf("%s: %d, want %d: %s", name, got.Code, row.status, got.Body)
		}
		for header, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin", "Content-Security-Policy": "default-src 'none'; style-src 'sha256-",
		} {
			if value := got.Header().Get(header); !strings.HasPrefix(value, want) {
				t.Errorf("%s: %s %q, want %q", name, header, value, want)
			}
		}
	}
}

// dribble is a body whose length nobody tells.
type dribble struct{ io.Reader }

func TestAFormIsBoundedWhetherOrNotItTellsItsLength(t *testing.T) {
	primary := &memory{}
	pages := alone(t, primary, &memory{})
	for size, want := range map[int]struct {
		status int
		reason string
	}{63 << 10: {400, "The text is longer than 4000 characters."}, 65 << 10: {413, "The form is too large."}} {
		values := form("Title", strings.Repeat("x", size)).Encode()
		for name, body := range map[string]io.Reader{"told": strings.NewReader(values), "not told": dribble{strings.NewReader(values)}} {
			request := httptest.NewRequest(http.MethodPost, "/web/entries", body)
			if got := ask(pages, request, "text/html"); got.Code != want.status || !strings.Contains(got.Body.String(), want.reason) || !strings.Contains(got.Body.String(), "The entry was not stored") {
				t.Errorf("%d bytes, %s: %d %s", size, name, got.Code, got.Body)
			}
		}
	}
	if len(primary.entries) > 0 {
		t.Error("it is stored")
	}
}

func TestADenialKeepsOnTheTableWhatASecondaryKnows(t *testing.T) {
	l := start(t)
	l.secondary.mu.Lock()
	l.secondary.hello = blog.Hello{Set: "consuldemo", Hosts: []string{"127.0.10.1:27017", "127.0.10.2:27017"}, Primary: "127.0.10.2:27017", Me: "127.0.10.1:27017", IsSecondary: true}
	l.secondary.mu.Unlock()
	const hosts, address = "Mongo hosts</th><td><code>127.0.10.1:27017</code> <code>127.0.10.2:27017</code>", "Primary address</th><td><code>127.0.10.2:27017</code>"
	const unknown, apart = "Primary address</th><td>unknown", "Connected address</th><td>not connected"
	for _, row := range []struct {
		err   error
		wants map[string][]string
	}{
		{denied("web", "mongo-primary"), map[string][]string{
			"text/html": {hosts, address, apart, "Is primary</th><td>unknown"}, "application/json": {`"hosts":["127.0.10.1:27017","127.0.10.2:27017"],"primary":"127.0.10.2:27017","me":""`},
			"*/*": {"Mongo hosts:            127.0.10.1:27017 127.0.10.2:27017\nPrimary address:        127.0.10.2:27017\nConnected address:      not connected"},
		}},
		// Whom a secondary takes for the primary then is one that was.
		{mesh.ErrNoInstance, map[string][]string{"text/html": {hosts, unknown, apart}, "application/json": {`"127.0.10.2:27017"],"primary":"","me":""`}}},
	} {
		l.primary.fail(row.err)
		l.toPrimary.fail(row.err)
		l.until(l.events(), row.wants["text/html"][:3]...)
		for accept, texts := range row.wants {
			got := l.get("/web", accept)
			for _, text := range texts {
				if got.status != 503 || !strings.Contains(got.body, text) {
					t.Errorf("%v, %s: %d, no %q in %s", row.err, accept, got.status, text, got.body)
				}
			}
		}
	}
	l.secondary.fail(errors.New("no answer"))
	if got := l.get("/web", "application/json"); !strings.Contains(got.body, `"hosts":[]`) {
		t.Errorf("nobody answers: %s", got.body)
	}
}

func TestDebuggingTellsATerminalTheSame(t *testing.T) {
	l := start(t)
	for debug, want := range map[string]bool{"true": true, "false": false} {
		l.configure("debug", debug)
		l.primary.fail(errors.New("the inner \x1b[31mreason"))
		for target, status := range map[string]int{"/web": 502, "/web/none": 404} {
			got := l.get(target, "text/plain")
			id := got.header.Get("X-Request-Id")
			if told := strings.Contains(got.body, "Request "+id+": "); id == "" || got.status != status || told != want {
				t.Errorf("debug %s, %s: %d, ID %q: %s", debug, target, got.status, id, got.body)
			}
			if inner := strings.Contains(got.body, "the inner \uFFFD[31mreason"); inner != (want && status == 502) {
				t.Errorf("debug %s, %s: the inner reason: %v: %s", debug, target, inner, got.body)
			}
		}
	}
}
