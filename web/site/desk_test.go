package site_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sluice/internal/mongotest"
	"sluice/mesh"
	"sluice/web/blog"
)

// errHung makes a library's Session wait for as long as it may.
var errHung = errors.New("hung")

var errGone = fmt.Errorf("dial: %w", mesh.ErrNoInstance)

const marked = "<strong>Read-only, from mongo-secondary</strong>"

// lose takes the primary away: the way says so, or it hangs and nobody knows. back
// undoes it.
func (d *desk) lose(way, library error) (back func()) {
	d.way.fail(way)
	d.library.forget(library)
	return func() {
		d.way.fail(nil)
		d.library.forget(nil)
	}
}

func readOnlyDesk(d *desk) {
	values := d.write("Kept by a secondary", "x")
	for name, lost := range map[string][2]error{"gone": {errGone, errHung}, "hung": {nil, errHung}, "denied": {denied("web", "mongo-primary"), denied("web", "mongo-primary")}} {
		back := d.lose(lost[0], lost[1])
		for path, text := range map[string]string{
			"/admin": "Kept by a secondary", "/admin/entries/new": `name="title"`, "/admin/entries/" + values.Get("id"): "Kept by a secondary",
			"/admin/blogs": "Field notes", "/admin/blogs/main": "Field notes", "/admin/administrators": "admin", "/admin/password": `name="old"`, "/admin/configuration": "web/debug",
		} {
			d.near.limits.begin()
			got := d.send(http.MethodGet, path, "")
			// Which member has answered is asked on a connection of the pool, which may be
			// one to another member.
			for tries := 0; tries < 5 && !strings.Contains(got.body, "read from <strong>"); tries++ {
				d.near.limits.begin()
				got = d.send(http.MethodGet, path, "")
			}
			d.wants(got, 200, text, marked, "read from <strong>"+d.member+" (mongo-secondary)")
			if span, bounded := d.near.limits.span(); !bounded || span > time.Second {
				d.Errorf("%s, primary %s: may take %s, bounded %v; want at most 1 s", path, name, span, bounded)
			}
		}
		back()
	}
	if got := d.send(http.MethodGet, "/admin", ""); strings.Contains(got.body, marked) {
		d.Error("read-only with a primary")
	}
}

// staleLogins: a secondary that has not heard of the end of a login shows pages for
// want of a primary, and that is all.
func staleLogins(d *desk) {
	form := d.open("/admin/entries/new")
	form.Set("title", "Written by a ghost")
	form.Set("body", "x")
	d.near.remember(&blog.Session{User: "admin"})
	defer d.near.remember(nil)
	ended := d.lose(nil, blog.ErrNotFound)
	for _, path := range []string{"/admin", "/admin/entries/new", "/admin/administrators"} {
		if got := d.send(http.MethodGet, path, ""); got.status != 303 || got.header.Get("Location") != "/web/admin/login" {
			d.Errorf("%s: the primary's word is %d", path, got.status)
		}
	}
	ended()
	for name, lost := range map[string][2]error{"gone": {errGone, errGone}, "failing": {nil, errors.New("no usable answer")}} {
		back := d.lose(lost[0], lost[1])
		d.wants(d.send(http.MethodGet, "/admin", ""), 200, marked)
		d.wants(d.send(http.MethodPost, "/admin/entries", form.Encode()), map[string]int{"gone": 503, "failing": 502}[name], "Nothing was saved. What you typed is below", "Written by a ghost")
		for _, path := range []string{"/admin/entries/x/delete", "/admin/blogs/main/delete", "/admin/administrators/disable", "/admin/administrators", "/admin/password", "/admin/logout"} {
			body := url.Values{"csrf": {form.Get("csrf")}, "name": {"somebody"}}
			if got := d.send(http.MethodPost, path, body.Encode()); got.status < 500 || strings.Contains(got.body, marked) {
				d.Errorf("%s, primary %s: %d %s", path, name, got.status, got.body)
			}
		}
		back()
	}
	if got := d.send(http.MethodGet, "/admin?q=ghost", ""); strings.Contains(got.body, ">Written by a ghost<") {
		d.Error("a login that nobody could check has written")
	}
}

func uncheckedLogins(d *desk) {
	back := d.lose(errGone, errGone)
	for name, err := range map[string]error{"away, too": errGone, "no such login there yet": blog.ErrNotFound} {
		d.near.fail(err)
		got := d.send(http.MethodGet, "/admin", "")
		d.near.fail(nil)
		d.wants(got, 503, "Cannot check your session now", "no primary since ", "You are not logged out.")
		if again, cookies := got.header.Get("Retry-After"), strings.Join(got.header.Values("Set-Cookie"), "; "); again != "5" || strings.Contains(cookies, "session") {
			d.Errorf("secondary %s: Retry-After %q, Set-Cookie %q", name, again, cookies)
		}
	}
	back()
	d.wants(d.send(http.MethodGet, "/admin", ""), 200, "New entry")
}

// feedInTrouble: without a primary the feed is the same, from a secondary; when
// nobody can be read it is 503, and never something that ends a subscription.
func feedInTrouble(d *desk) {
	whole := d.send(http.MethodGet, "/blog/main/feed.atom", "")
	back := d.lose(errGone, errGone)
	if got := d.send(http.MethodGet, "/blog/main/feed.atom", ""); got.status != 200 || got.body != whole.body {
		d.Errorf("without a primary: %d %s", got.status, got.body)
	}
	later := func(name string, texts ...string) {
		d.Helper()
		got := d.send(http.MethodGet, "/blog/main/feed.atom", "", "Accept", "application/atom+xml, text/html")
		d.wants(got, 503, texts...)
		if again := got.header.Get("Retry-After"); again != "30" || !strings.HasPrefix(got.header.Get("Content-Type"), "text/plain") {
			d.Errorf("%s: Retry-After %q, Content-Type %q", name, again, got.header.Get("Content-Type"))
		}
	}
	for name, err := range map[string]error{"gone": errGone, "no answer in time": mesh.ErrTimeout, "not there yet, it says": blog.ErrNotFound, "no usable answer": errors.New("x")} {
		far := err
		if errors.Is(err, blog.ErrNotFound) {
			far = errGone
		}
		d.near.fail(err)
		d.library.lose(far)
		later(name, "no primary right now")
		d.library.lose(nil)
		d.near.fail(nil)
	}
	back()
	inForce := func(status int) {
		mongotest.Wait(d.T, 5*time.Second, "the setting is in force", func(context.Context) error {
			if got := d.send(http.MethodGet, "/blog/main", ""); got.status != status {
				return fmt.Errorf("status %d", got.status)
			}
			return nil
		})
	}
	d.keys.set("maintenance", "true")
	inForce(503)
	later("maintenance", "Under maintenance")
	d.keys.set()
	inForce(200)
	d.wants(d.send(http.MethodGet, "/blog/none/feed.atom", ""), 404)
}
