package site_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sluice/internal/browsertest"
	"sluice/internal/mongotest"
	"sluice/web/blog"
)

// audit is a person who looks at every page that the walk through a day's work does not
// show: with what goes wrong, and with what an operator does.
type audit struct {
	*desk
	tab *browsertest.Tab
}

// accessiblePages holds each page to the audit, in both colour schemes and at 320
// pixels, and each form to the keyboard walk.
func accessiblePages(d *desk) {
	a := audit{d, browsertest.Start(d.T, 8*time.Minute)}
	a.logIn()
	a.accounts()
	a.blogs()
	a.searches()
	a.configuration()
	a.refusals()
	a.endings()
	a.withoutAPrimary()
	a.withoutConsul()
}

func (a audit) logIn() {
	a.tab.Open(a.base + "/admin")
	a.tab.Type("#name", "admin")
	a.tab.Type("#password", adminPassword)
	a.tab.Press("main form button")
	a.tab.Shows("Log out admin")
}

// page holds a page that is open; words must be on it.
func (a audit) page(name string, words ...string) {
	a.Helper()
	a.tab.Shows(words...)
	a.tab.Accessible(name)
}

// form is page for one that takes something.
func (a audit) form(name string, words ...string) {
	a.Helper()
	a.page(name, words...)
	a.tab.KeyboardWalk(name)
}

func (a audit) at(name, path string, words ...string) {
	a.Helper()
	a.tab.Open(a.base + path)
	a.page(name, words...)
}

func (a audit) formAt(name, path string, words ...string) {
	a.Helper()
	a.tab.Open(a.base + path)
	a.form(name, words...)
}

func (a audit) accounts() {
	a.formAt("password", "/admin/password", "Change password")
	a.tab.Type("#old", "wrong")
	a.tab.Type("#new", "short")
	a.tab.Press("main .card button")
	a.form("password refused", "shorter than 12 characters")
	a.formAt("administrators", "/admin/administrators", "Add an administrator")
	a.tab.Type("#name", "Not A Name")
	a.tab.Press("form.card button")
	a.form("administrator refused", "A name is lower-case letters")
	a.tab.Fill("#name", "somebody-with-a-long-name.of-one-word@an-example-of-a-company")
	a.tab.Press("form.card button")
	a.form("administrator added", "shown this once")
	password := browsertest.Ask[string](a.tab, "document.querySelector('.notice code').textContent")
	a.tab.Press(`form[action$="/disable"] button`)
	a.form("administrator disabled", "disabled since")
	a.tab.Press(`form[action$="/enable"] button`)
	a.tab.Press("header form button") // logs out
	a.tab.Type("#name", "somebody-with-a-long-name.of-one-word@an-example-of-a-company")
	a.tab.Type("#password", password)
	a.tab.Press("main form button")
	a.form("temporary password", "was given to you")
	a.tab.Press("header form button")
	a.logIn()
	a.tab.Open(a.base + "/admin/administrators")
	a.tab.Press(`form[action$="/delete"] button`)
}

func (a audit) blogs() {
	a.tab.Open(a.base + "/admin/blogs/new")
	a.tab.Press("button[value=save]")
	a.form("blog refused", "The name is missing")
	a.tab.Fill("#name", "Notes of a second kind")
	a.tab.Fill("#tagline", "with a tagline")
	a.tab.Fill("#id", "second-kind")
	a.tab.Press("button[value=preview]")
	a.form("blog preview", "Preview: not saved yet")
	a.tab.Press("button[value=save]")
	a.at("blog index", "/blog", "Notes of a second kind", "Field notes")
	a.at("empty blog", "/blog/second-kind", "No entry yet.")
	a.tab.Open(a.base + "/admin/blogs/second-kind")
	theirs, err := a.store.Blog(a.Context(), "second-kind")
	if err != nil {
		a.Fatal(err)
	}
	theirs.Name, theirs.Edit = "Theirs", "theirs"
	if err := a.store.ChangeBlog(a.Context(), theirs); err != nil {
		a.Fatal(err)
	}
	a.tab.Press("button[value=save]")
	a.form("blog conflict", "Somebody else has changed this blog", "It is now “Theirs”")
	a.tab.Open(a.base + "/admin/blogs")
	a.tab.Press(`form[action$="/second-kind/delete"] button`)
	a.form("deleted blog", "is deleted, and can be had back for a minute")
}

func (a audit) searches() {
	a.write("A headline that is searched for", browsertest.Essay)
	a.formAt("search results", "/blog/main?q=searched", "Entries whose headline has “searched”", "A headline that is searched for")
	a.formAt("search without results", "/blog/main?q=nothing+has+that", "No headline has that.")
	a.formAt("search of the administration", "/admin?q=searched", "A headline that is searched for")
	a.at("a page that is not counted", "/blog/main?page=1000", "Pages are not counted so far")
}

// configuration shows the pages that an operator's values lead to.
func (a audit) configuration() {
	long := strings.Repeat("x", 300)
	a.keys.set("tagline", "two\nlines", "debug", "perhaps", "read_preference", long, "no_such_key_"+long[:80], "x", "allowed_hosts", "127.0.0.1 "+strings.Repeat("h", 60)+".example.org")
	a.inForce()
	a.formAt("configuration refused", "/admin/configuration", "was written and is not in force", "These keys mean nothing")
	a.keys.lose(errors.New("watch keys of web: refused by Consul's ACLs: "+long), time.Now(), true)
	a.formAt("configuration unread", "/admin/configuration", "Consul cannot be asked since")
	a.keys.lose(nil, time.Time{}, true)
	a.keys.set("maintenance", "true", "tagline", "Being worked on")
	a.inForce()
	a.at("maintenance of the blog", "/blog/main", "Under maintenance")
	a.at("maintenance of the topology", "", "Under maintenance")
	a.keys.set("installed_apps", "blog admin", "debug", "true")
	a.inForce()
	a.at("topology that is not served", "", "There is no such page here", "Request")
	a.at("an error with details", "/blog/main/none", "There is no such page here", "Request")
	a.keys.set("allowed_hosts", "example.org")
	a.inForce()
	a.at("another name, blog", "/blog", "Not served under this name")
	a.at("another name, topology", "", "Not served under this name")
	a.keys.set()
	a.inForce()
}

// inForce waits until web runs with what was written last.
func (a audit) inForce() {
	a.Helper()
	mongotest.Wait(a.T, 5*time.Second, "the settings are in force", func(context.Context) error {
		if a.live.Current().Index != a.keys.Written().Index {
			return errors.New("they are not")
		}
		return nil
	})
}

// refusals are those of who sends too much.
func (a audit) refusals() {
	from := "192.0.2.50"
	a.front.from.Store(&from)
	defer a.front.from.Store(nil)
	stranger := a.another(a.T)
	for range blog.MaxAttempts {
		a.wants(stranger.login("admin", "wrong"), 401)
	}
	other := a.tab.Another()
	visitor := audit{a.desk, other}
	a.tab.Open(a.base + "/admin/password")
	for field, text := range map[string]string{"#old": adminPassword, "#new": "a new password", "#again": "a new password"} {
		a.tab.Fill(field, text)
	}
	a.tab.Press("main .card button")
	a.form("too many changes of the password", "Too many logins have failed")
	visitor.tab.Open(a.base + "/admin/login")
	visitor.tab.Type("#name", "admin")
	visitor.tab.Type("#password", "wrong")
	visitor.tab.Press("main form button")
	visitor.form("too many logins", "Too many logins have failed. Try again in a quarter of an hour.")

	visitor.tab.Open(a.base)
	visitor.tab.Type("#title", "One too many")
	visitor.tab.Fill("#body", browsertest.Essay)
	for range 40 {
		values := url.Values{"title": {"x"}, "body": {"x"}}
		a.send(http.MethodPost, "/entries", values.Encode(), "Accept", "application/json")
	}
	visitor.tab.Press("section form button")
	visitor.form("too many entries", "429", "Too many entries came from your address")
}

// endings are pages whose form has lost what it was for.
func (a audit) endings() {
	a.tab.Open(a.base + "/admin/entries/new")
	a.tab.Fill("#title", "Typed for an hour")
	a.tab.Fill("#body", browsertest.Essay)
	a.library.forget(blog.ErrNotFound)
	a.tab.Press("button[value=save]")
	a.library.forget(nil)
	a.form("login ended", "Your login has ended", "Log in in another window")
	values := a.desk.write("Deleted by somebody", "x")
	a.tab.Open(a.base + "/admin/entries/" + values.Get("id"))
	if err := a.store.DeleteEntry(a.Context(), values.Get("id"), time.Now()); err != nil {
		a.Fatal(err)
	}
	a.tab.Press("button[value=save]")
	a.form("entry gone", "Somebody has deleted this entry")
}

// withoutAPrimary shows the notices, on every kind of page.
func (a audit) withoutAPrimary() {
	back := a.lose(denied("web", "mongo-primary"), denied("web", "mongo-primary"))
	a.notices("denied", "by intention web -> mongo-primary")
	back()
	back = a.lose(errGone, errGone)
	a.notices("no primary", "primary right now")
	a.near.fail(errGone)
	a.at("no primary, session", "/admin", "Cannot check your session now")
	a.near.fail(nil)
	a.voters.quorum.Store(&blog.Quorum{Heard: 2, Voters: 5})
	a.tab.Open(a.base)
	a.tab.Shows("no majority, 2 of 5")
	a.notices("read-only", "no majority, 2 of 5")
	a.voters.quorum.Store(nil)
	back()
}

// notices holds a page of each kind while one is shown; an editor is saved in vain.
func (a audit) notices(name, words string) {
	a.Helper()
	a.formAt(name+", topology", "", words)
	a.at(name+", blog", "/blog/main", words)
	a.at(name+", not found", "/blog/main/none", words)
	a.formAt(name+", administration", "/admin", words, "Read-only, from mongo-secondary")
	a.at(name+", configuration", "/admin/configuration", words)
	a.tab.Open(a.base + "/admin/entries/new")
	a.tab.Fill("#title", "Typed in vain?")
	a.tab.Fill("#body", "x")
	a.tab.Press("button[value=save]")
	a.form(name+", editor", "Nothing was saved", words)
	a.tab.Open(a.base + "/admin/blogs/new")
	a.tab.Fill("#name", "Named in vain?")
	a.tab.Press("button[value=save]")
	a.form(name+", form of a blog", "Nothing was saved", words)
}

func (a audit) withoutConsul() {
	away := errors.New("connection refused")
	a.consul.Store(&away)
	a.at("consul away, blog", "/blog/main", "Consul is away: running on the last known state")
	a.at("consul away, topology", "", "Consul is away: running on the last known state")
	a.consul.Store(nil)
}
