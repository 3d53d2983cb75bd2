package site_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/mongotest"
	"sluice/web/blog"
	"sluice/web/settings"
	"sluice/web/site"
)

func (f *failing) Entry(ctx context.Context, id string) (blog.Entry, error) {
	f.mu.Lock()
	err := f.unshown
	f.mu.Unlock()
	if err != nil {
		return blog.Entry{}, err
	}
	return f.Library.Entry(ctx, id)
}

// hung waits for as long as a page lets it, while a database hangs.
func (f *failing) hung(ctx context.Context) error {
	f.mu.Lock()
	hangs := f.hangs
	f.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (f *failing) Blogs(ctx context.Context) ([]blog.Blog, error) {
	if err := f.hung(ctx); err != nil {
		return nil, err
	}
	return f.Library.Blogs(ctx)
}

func (f *failing) hide(entries error, hangs bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unshown, f.hangs = entries, hangs
}

// conflictsUnread: what somebody else has changed was not saved, and the page knows it
// although it cannot show theirs.
func conflictsUnread(d *desk) {
	defer d.library.hide(nil, false)
	id := d.write("Changed by two", "as it was").Get("id")
	mine, theirs := d.open("/admin/entries/"+id), d.open("/admin/entries/"+id)
	theirs.Set("body", "as they left it")
	d.post("/admin/entries", theirs)
	mine.Set("body", "as I want it")
	for _, row := range []struct {
		err    error
		status int
		words  string
	}{{unanswered(), 503, "Nothing was saved, because it is not as it was when you began"}, {blog.ErrNotFound, 410, "Somebody has deleted this entry"}} {
		d.library.hide(row.err, false)
		got := d.send(http.MethodPost, "/admin/entries", mine.Encode())
		d.wants(got, row.status, row.words, "as I want it", mine.Get("edit"))
		if strings.Contains(got.body, "is not known") {
			d.Errorf("what is known is said to be unknown: %s", got.body)
		}
	}
	d.library.hide(nil, false)
	d.wants(d.send(http.MethodPost, "/admin/entries", mine.Encode()), 409, "as they left it", "as I want it")
	// The form of a new entry, sent again after somebody has changed what it stored.
	first := d.open("/admin/entries/new")
	maps.Copy(first, url.Values{"title": {"Stored once"}, "body": {"as it was"}})
	d.post("/admin/entries", first)
	theirs = d.open("/admin/entries/" + first.Get("id"))
	theirs.Set("body", "as they left it")
	d.post("/admin/entries", theirs)
	got := d.send(http.MethodPost, "/admin/entries", first.Encode())
	d.wants(got, 409, "Somebody else has changed this entry", "as they left it", "as it was")
	d.post("/admin/entries", fields(got.body))
}

// waitsOnce has a database that does not answer: a write waits for it, and the page
// that says so does not wait again.
func waitsOnce(d *desk) {
	defer d.library.set(nil, nil)
	defer d.library.hide(nil, false)
	form := d.open("/admin/entries/new")
	maps.Copy(form, url.Values{"title": {"Waited for"}, "body": {"text"}})
	d.library.set(unanswered(), nil)
	d.library.hide(nil, true)
	d.wants(d.send(http.MethodPost, "/admin/entries", form.Encode()), 503, "Waited for", form.Get("edit"), `<option value="main" selected>`)
}

// readsInVain: a page of the blog does not wait as if a primary were about to be elected.
func readsInVain(d *desk) {
	d.voters.quorum.Store(&blog.Quorum{Heard: 2, Voters: 5})
	defer d.voters.quorum.Store(nil)
	d.way.fail(errGone)
	defer d.way.fail(nil)
	mongotest.Wait(d.T, 5*time.Second, "the page says that none can be elected", func(context.Context) error {
		if got := d.send(http.MethodGet, "/blog/none", ""); !strings.Contains(got.body, "no majority, 2 of 5") {
			return errors.New("it does not")
		}
		return nil
	})
	d.near.fail(errGone)
	defer d.near.fail(nil)
	d.library.hide(nil, true)
	defer d.library.hide(nil, false)
	d.wants(d.send(http.MethodGet, "/blog/main", ""), 504, "mongo-primary did not answer in time.", "no majority, 2 of 5")
}

func TestWhatIsNotServedTellsNothingOfTheMesh(t *testing.T) {
	l := start(t)
	l.until(l.events(), "127.0.10.2:27017")
	for _, row := range []struct {
		key, value, words string
		status            int
	}{
		{"installed_apps", "blog", "There is no such page here.", 404},
		{"allowed_hosts", "example.org", "The name in the address is not one that this site answers to.", 421},
		{"maintenance", "true", "This is being worked on and will be back soon.", 503},
	} {
		l.configure(row.key, row.value)
		for _, accept := range []string{"text/html", "application/json", "*/*"} {
			got := l.get("/web", accept)
			if got.status != row.status || !strings.Contains(got.body, row.words) {
				t.Errorf("%s, %s: %d %s", row.key, accept, got.status, got.body)
			}
			for _, inner := range []string{"spiffe://", "/svc/", "127.0.10.", "gateway", "mongo-primary", "27017"} {
				if strings.Contains(got.body, inner) {
					t.Errorf("%s, %s: tells of %s: %s", row.key, accept, inner, got.body)
				}
			}
		}
		got := l.post(form("typed title", "typed text"))
		if got.status != row.status || !strings.Contains(got.body, "Nothing was stored") || strings.Contains(got.body, "Nothing is lost") {
			t.Errorf("%s, a form: %d %s", row.key, got.status, got.body)
		}
	}
}

func TestAPageThatRefusesAFormShowsTheStateThatIs(t *testing.T) {
	l := start(t)
	events := l.events()
	l.until(events, "127.0.10.2:27017")
	l.toSecond.fail(denied("web", "mongo-secondary"))
	l.until(events, "web -> mongo-secondary is denied")
	empty := form("", "text")
	refused := map[string]func() answer{
		"a bad form":   func() answer { return l.post(empty) },
		"no such page": func() answer { return l.get("/web/none", "text/html") },
		"a failed write": func() answer {
			l.primary.fail(errors.New("no answer"))
			defer l.primary.fail(nil)
			return l.post(form("Title", "Text"))
		},
	}
	for name, refuse := range refused {
		got := refuse()
		for _, want := range []string{"Connected address</th><td><code>127.0.10.2:27017</code>", "web -> mongo-secondary is denied", `<span class="badge bad">no</span> denied by intention`} {
			if name == "a failed write" && strings.HasPrefix(want, "Connected") {
				continue // the lookout may have been told, too
			}
			if got.status < 400 || !strings.Contains(got.body, want) {
				t.Errorf("%s: %d, no %q in %s", name, got.status, want, got.body)
			}
		}
		if strings.Contains(got.body, "Nothing has changed since") {
			t.Errorf("%s: nothing has changed, it says", name)
		}
	}
}

func TestALivePageEndsWhenItIsNotServedAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, pair := range [][]string{{"maintenance", "true"}, {"installed_apps", "blog"}, {"allowed_hosts", "other.example"}} {
			keys := &keyValues{changed: make(chan struct{})}
			live := settings.NewLive(keys, slog.New(slog.DiscardHandler), nil)
			pages, err := site.New(site.Config{
				Base: "/web", Node: "web-1", Instance: "web-web-1", Credentials: nobody{}, Settings: live,
				Primary: site.Database{Store: &memory{}, Upstream: &upstream{}}, Secondary: site.Database{Store: &memory{}, Upstream: &upstream{}},
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			followed, streamed := make(chan error, 1), make(chan *httptest.ResponseRecorder, 1)
			go func() { followed <- live.Run(ctx) }()
			go func() {
				streamed <- ask(pages, httptest.NewRequestWithContext(ctx, http.MethodGet, "/web/events", nil), "text/event-stream")
			}()
			time.Sleep(time.Minute)
			keys.set(pair...)
			changed := time.Now()
			select {
			case got := <-streamed:
				if took := time.Since(changed); took > 16*time.Second || !strings.Contains(got.Body.String(), "event: topology") {
					t.Errorf("%v: ended after %s: %s", pair, took, got.Body)
				}
			case <-time.After(time.Hour):
				t.Errorf("%v: the page is live an hour later", pair)
			}
			stop()
			if err := <-followed; err != nil {
				t.Error(err)
			}
		}
	})
}
