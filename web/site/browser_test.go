package site_test

import (
	"errors"
	"time"

	"sluice/internal/browsertest"
	"sluice/web/blog"
)

// inABrowser logs in, writes, edits, meets a conflict, deletes and undoes.
func inABrowser(d *desk) {
	b := browsertest.Start(d.T, 5*time.Minute)
	held := func(page string, words ...string) {
		d.Helper()
		b.Shows(words...)
		b.Accessible(page)
	}
	b.Open(d.base + "/admin")
	held("login", "Log in")
	b.KeyboardWalk("login")
	b.Type("#name", "admin")
	b.Type("#password", "wrong")
	b.Press("main form button")
	held("login refused", "Name or password is wrong.")
	b.Type("#password", adminPassword)
	b.Press("main form button")
	b.Shows("Entries", "Log out admin")

	b.Press("main .button")
	b.Press("button[value=save]") // empty
	held("editor with errors", "The headline is missing.", "The text is missing.")
	b.Type("#title", "Cutting a connection that is open")
	b.Fill("#body", browsertest.Essay)
	b.Press("button[value=preview]")
	held("preview", "Preview: not saved yet", "What happens on the wire")
	b.Press("button[value=save]")
	held("admin", "Cutting a connection that is open")

	entry, err := d.store.EntryBySlug(d.Context(), blog.MainBlog, "cutting-a-connection-that-is-open")
	if err != nil {
		d.Fatal(err)
	}
	b.Open(d.base + "/admin/entries/" + entry.ID)
	b.Type("#title", "Mine: ")
	theirs := entry
	theirs.Title, theirs.Edit, theirs.Editor = "Cutting a connection, theirs", "theirs", "bea"
	if err := d.store.ChangeEntry(d.Context(), theirs); err != nil {
		d.Fatal(err)
	}
	b.Press("button[value=save]")
	held("conflict", "Somebody else has changed this entry", "This is how bea left it", "Cutting a connection, theirs")
	b.KeyboardWalk("conflict")
	b.Press("button[value=save]")
	b.Shows("Mine: Cutting a connection that is open")

	b.Press(".row .danger")
	held("deleted", "is deleted, and gone for good at")
	b.KeyboardWalk("deleted")
	b.Press(".notice button")
	b.Open(d.base + "/blog/main/cutting-a-connection-that-is-open")
	held("entry", "What happens on the wire", "Try it with")
	b.Open(d.base + "/blog")
	held("list", "Mine: Cutting a connection that is open", "Older")
	b.KeyboardWalk("list")
	b.Open(d.base + "/blog/main/there-is-none")
	held("not found", "There is no such page here")
	for page, words := range map[string]string{
		"/admin/blogs": "Field notes", "/admin/blogs/new": "New blog", "/admin/configuration": "web/tagline", "/no-such-page": "There is no such page here",
	} {
		b.Open(d.base + page)
		held(page, words)
	}
}

// liveInABrowser leaves the topology page open while the mesh changes.
func liveInABrowser(d *desk) {
	b := browsertest.Start(d.T, 5*time.Minute)
	b.Open(d.base)
	b.Shows("Live: what changes shows here at once.", d.member, "Nothing has changed")
	b.Accessible("topology")
	b.KeyboardWalk("topology")
	d.way.fail(denied("web", "mongo-primary"))
	b.Shows("web -> mongo-primary is denied: denied by intention web -> mongo-primary.")
	b.Accessible("topology-denied")
	d.way.fail(nil)
	b.Shows("web -> mongo-primary works again after")
	b.Click("#pause")
	b.Shows("Paused.", "Go on")
	d.way.fail(errors.New("gone"))
	b.Click("#pause")
	b.Shows("web -> mongo-primary fails", "Live: what changes")
	d.way.fail(nil)
	b.Shows("works again")

	// The stream goes on from an instance in another datacenter.
	browsertest.Ask[bool](b, "(window.same = true)")
	d.front.lead(d.instance("web-3", "dc2"))
	d.cut()
	b.Shows("web-web-3 on web-3", "Served by web-3 in dc2")
	b.Until("the page was not loaded anew, and its table has the other datacenter, too",
		`window.same && [...document.querySelectorAll('#live th')].find(e => e.textContent === 'Datacenter').nextElementSibling.textContent === 'dc2'`)
	d.front.lead(d.instance("web-1", "dc1"))
	d.cut()
	b.Shows("Served by web-1 in dc1")
}
