package site_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"sluice/internal/mongotest"
	"sluice/web/blog"
	"sluice/web/settings"
	"sluice/web/site"
)

// nearby is a member nearby that a test can make fail.
type nearby struct {
	site.Desk
	mu      sync.Mutex
	err     error
	session *blog.Session // whom it holds for logged in; nil is what it has
	limits  *limits
}

func (n *nearby) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = err
}

func (n *nearby) remember(session *blog.Session) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.session = session
}

func (n *nearby) Session(ctx context.Context, secret string, now time.Time) (blog.Session, error) {
	n.limits.read(ctx)
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.err != nil:
		return blog.Session{}, n.err
	case n.session != nil:
		return *n.session, nil
	default:
		return n.Desk.Session(ctx, secret, now)
	}
}

func (n *nearby) Blog(ctx context.Context, id string) (blog.Blog, error) {
	n.limits.read(ctx)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return blog.Blog{}, n.err
	}
	return n.Desk.Blog(ctx, id)
}

func readsMarked(d *desk) {
	d.wants(d.send(http.MethodGet, "/blog/main", ""), 200, "read from <strong>"+d.member+" (mongo-secondary)</strong>", `href="?read=primary"`)
	d.wants(d.send(http.MethodGet, "/blog/main?read=primary", ""), 200, "read from <strong>"+d.member+" (mongo-primary)</strong>", `href="?read=nearest"`)
	d.wants(d.send(http.MethodGet, "/blog/main", ""), 200, "(mongo-primary)") // it is remembered
	d.wants(d.send(http.MethodGet, "/blog/main?read=nearest", ""), 200, "(mongo-secondary)")
	for name, err := range map[string]error{"denied": denied("web", "mongo-secondary"), "not there yet": blog.ErrNotFound} {
		d.near.fail(err)
		got := d.send(http.MethodGet, "/blog/main", "")
		d.near.fail(nil)
		if got.status != 200 {
			d.Errorf("%s nearby: %d, want what the primary has", name, got.status)
		}
	}
}

func visitors(d *desk) {
	id := strings.Repeat("ab", 16)
	left := url.Values{"id": {id}, "title": {"Left by a visitor"}, "body": {"on the topology page"}}
	if got := d.send(http.MethodPost, "/entries", left.Encode()); got.status != 303 {
		d.Fatalf("%d %s", got.status, got.body)
	}
	d.wants(d.send(http.MethodGet, "", "", "Accept", "text/html"), 200, "Left by a visitor", "("+"<code>"+d.member+"</code>)")
	if got := d.send(http.MethodGet, "/blog/main?q=visitor", ""); strings.Contains(got.body, ">Left by a visitor<") {
		d.Error("anybody may write to the blog")
	}
	d.wants(d.send(http.MethodGet, "/admin", ""), 200, "left by a visitor, in no blog yet")
	values := d.open("/admin/entries/" + id) // the form has a blog chosen
	if got := d.send(http.MethodPost, "/admin/entries", values.Encode()); got.status != 303 {
		d.Fatalf("%d %s", got.status, got.body)
	}
	d.wants(d.send(http.MethodGet, "/blog/main?q=visitor", ""), 200, ">Left by a visitor<")
	form := d.open("/admin/blogs/new")
	form.Set("name", "Visitors")
	form.Set("id", blog.Visitors)
	d.wants(d.send(http.MethodPost, "/admin/blogs", form.Encode()), 409)
}

// keyValues are the settings as a test writes them.
type keyValues struct {
	mu      sync.Mutex
	written settings.Written
	changed chan struct{}
}

func (k *keyValues) Written() settings.Written {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.written
}

func (k *keyValues) Changed() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.changed
}

func (k *keyValues) set(pairs ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.written.Known, k.written.Values = true, map[string][]byte{}
	for i := 0; i < len(pairs); i += 2 {
		k.written.Values["web/"+pairs[i]] = []byte(pairs[i+1])
	}
	k.written.Index++
	close(k.changed)
	k.changed = make(chan struct{})
}

// lose makes the keys unreadable; known says that they have been read before.
func (k *keyValues) lose(err error, since time.Time, known bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.written.Err, k.written.FailingSince, k.written.Known = err, since, known
}

// configurationUnread: the page says since when the keys cannot be read, and why, and
// what is in force is what was.
func configurationUnread(d *desk) {
	d.keys.set("tagline", "The last good line")
	mongotest.Wait(d.T, 5*time.Second, "the setting is in force", func(context.Context) error {
		if got := d.send(http.MethodGet, "", "", "Accept", "text/html"); !strings.Contains(got.body, "The last good line") {
			return errors.New("it is not")
		}
		return nil
	})
	since := time.Date(2026, 11, 3, 4, 5, 6, 0, time.UTC)
	for known, words := range map[bool]string{true: "and the last good configuration goes on", false: "and the defaults go on"} {
		d.keys.lose(errors.New("refused <by> Consul's ACLs"), since, known)
		d.wants(d.send(http.MethodGet, "/admin/configuration", ""), 200, "The last good line",
			`Consul cannot be asked since <time datetime="2026-11-03T04:05:06Z">2026-11-03 04:05:06 UTC</time>, `+words+": refused &lt;by> Consul")
	}
	d.keys.lose(nil, time.Time{}, true)
	if got := d.send(http.MethodGet, "/admin/configuration", ""); got.status != 200 || strings.Contains(got.body, "cannot be asked") {
		d.Errorf("%d, or it says that Consul cannot be asked, which it can", got.status)
	}
	d.keys.set()
}

func configured(d *desk) {
	becomes := func(path string, status int, texts ...string) {
		d.Helper()
		mongotest.Wait(d.T, 5*time.Second, "the setting is in force", func(context.Context) error {
			got := d.send(http.MethodGet, path, "", "Accept", "text/html")
			for _, text := range texts {
				if !strings.Contains(got.body, text) {
					return fmt.Errorf("no %q in %s", text, got.body)
				}
			}
			if got.status != status {
				return fmt.Errorf("status %d", got.status)
			}
			return nil
		})
	}
	d.keys.set("tagline", "Words <through> tunnels", "read_preference", "primary")
	becomes("", 200, "Words &lt;through&gt; tunnels")
	becomes("/blog/main", 200, "(mongo-primary)")
	d.keys.set("maintenance", "true", "tagline", "Words <through> tunnels")
	becomes("/blog/main", 503, "Under maintenance")
	becomes("", 503, "Under maintenance")
	if got := d.send(http.MethodGet, "", ""); got.header.Get("Retry-After") != "30" {
		d.Error("no Retry-After")
	}
	becomes("/admin/configuration", 200, "web/maintenance", "<code>true</code>", "index 2")
	d.keys.set("installed_apps", "blog admin", "tagline", "line\nbreak")
	becomes("", 404)
	becomes("/blog/main", 200)
	becomes("/blog/main/feed.atom", 404)
	whole := d.send(http.MethodGet, "/blog/main", "", "Accept", "text/html").body
	if strings.Contains(whole, `href="/web"`) || strings.Contains(whole, "feed.atom") || !strings.Contains(whole, `href="/web/admin"`) {
		d.Errorf("the page leads to what is not served: %s", whole)
	}
	d.keys.set("installed_apps", "blog", "tagline", "line\nbreak")
	becomes("/admin", 404)
	if whole := d.send(http.MethodGet, "/blog/main?q=nothing+has+that", "", "Accept", "text/html").body; strings.Contains(whole, "/web/admin") {
		d.Errorf("the page leads to an administration that is not served: %s", whole)
	}
	d.keys.set("installed_apps", "blog admin", "tagline", "line\nbreak")
	becomes("/admin/configuration", 200, "was written and is not in force: holds a control character", "Words &lt;through&gt; tunnels", "blog admin")
	d.keys.set("allowed_hosts", ".example.org", "debug", "true")
	becomes("/blog/main", 421, "Not served under this name", "Request <code>")
	d.wants(d.send(http.MethodPost, "/admin/blogs/main/delete", "csrf=x"), 421, "not one that this site answers to. Nothing was changed.")
	d.keys.set("debug", "true")
	becomes("/blog/none", 404, "Request <code>")
	d.near.fail(denied("web", "mongo-secondary"))
	becomes("/blog/main", 200, "(mongo-primary)")
	d.library.lose(errGone)
	becomes("/blog/main", 503, "Request <code>", "</code>: <code>"+errGone.Error())
	d.library.lose(nil)
	d.near.fail(nil)
	d.keys.set()
	becomes("/blog/main", 200)
	becomes("", 200, "What happened")
	becomes("/admin/configuration", 200, "(default)")
}
