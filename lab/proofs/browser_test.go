package proofs_test

import (
	"crypto/rand"
	"os"
	"strings"
	"time"

	"sluice/internal/browsertest"
)

// browserReadsAndWrites uses the page as a person does, with a real browser that
// runs no script.
func browserReadsAndWrites(p *proof) {
	tab := browsertest.Start(p, 5*time.Minute)
	entry := "entry " + rand.Text()
	url := p.lab.URL(9999, "/web")
	tab.WithoutScripts()
	tab.Open(url)
	text := tab.Text()
	for _, word := range []string{"web-", "127.0.10.1:27017", "Primary address", "Is primary", "Is secondary", "spiffe://", "serial", "expires"} {
		if !strings.Contains(text, word) {
			p.Errorf("the page does not show %q:\n%s", word, text)
		}
	}
	tab.Type("#title", entry)
	tab.Type("#body", "written without JavaScript")
	tab.Press("main form button")
	tab.Shows(entry, "written without JavaScript")
	tab.Open(url + "/blog/main")
	tab.Shows("Served by web-")
	tab.Lacks(entry)
	tab.Open(url + "/admin")
	tab.Type("#name", "admin")
	tab.Type("#password", p.adminPassword())
	tab.Press("main form button")
	tab.Shows("Log out admin", entry)

	p.lab.Must("intentions", "deny", "web", "mongo-primary")
	tab.Open(url)
	tab.Shows("denied by intention web -> mongo-primary", "sluice intentions allow web mongo-primary")
	tab.Accessible("a denied page")
	p.lab.Must("intentions", "deny", "gateway", "web")
	tab.Open(url)
	tab.Shows("denied by intention gateway -> web")
}

// adminPassword is that of the blog's first administrator, whom `up` has made.
func (p *proof) adminPassword() string {
	p.Helper()
	password, err := os.ReadFile(p.secret("blog-admin.password"))
	if err != nil {
		p.Fatal(err)
	}
	return strings.TrimSpace(string(password))
}

// browserWithKeysOnly logs in and writes an entry without a mouse, edits it in two
// tabs at once, and takes its deletion back.
func browserWithKeysOnly(p *proof) {
	tab := browsertest.Start(p, 5*time.Minute)
	url, headline := p.lab.URL(9999, "/web"), "keys "+rand.Text()
	tab.Open(url + "/admin")
	tab.Accessible("login")
	tab.KeyboardWalk("login")
	tab.Open(url + "/admin")
	tab.TabTo("#name")
	tab.Keys("admin")
	tab.TabTo("#password")
	tab.Keys(p.adminPassword())
	tab.EnterLeads()
	tab.Shows("Log out admin")
	tab.TabTo("main a[href$=\"/entries/new\"]")
	tab.EnterLeads()
	tab.TabTo("#title")
	tab.Keys(headline)
	tab.TabTo("#body")
	tab.Keys("A first line.\n\nWritten with **keys**.")
	tab.TabTo("button[value=save]")
	tab.EnterLeads()
	tab.Shows(headline, "Log out admin")

	edit := browsertest.Ask[string](tab, "[...document.querySelectorAll('.row h2 a')].find(a => a.textContent === '"+headline+"').href")
	other := tab.Another()
	for _, t := range []*browsertest.Tab{tab, other} {
		t.Open(edit)
		t.Shows("Edit entry")
	}
	other.Fill("#body", "Theirs came first.")
	other.Press("button[value=save]")
	other.Shows(headline)
	tab.Fill("#body", "Mine came second.")
	tab.Press("button[value=save]")
	tab.Shows("Somebody else has changed this entry", "Theirs came first.")
	if mine := browsertest.Ask[string](tab, "document.querySelector('#body').value"); mine != "Mine came second." {
		p.Errorf("the form does not keep what was typed: %q", mine)
	}
	tab.Press("button[value=save]")
	tab.Open(url + "/blog/main?read=primary")
	tab.Press(".teaser h2 a")
	tab.Shows(headline, "Mine came second.")

	other.Open(url + "/admin?q=" + strings.TrimPrefix(headline, "keys "))
	other.Press(".row .danger")
	other.Shows("“" + headline + "” is deleted, and gone for good at")
	tab.Open(url + "/blog/main")
	tab.Lacks(headline)
	other.Press(".notice button")
	tab.Open(url + "/blog/main")
	tab.Shows(headline)
}

// browserIsTold keeps the topology page open while the mesh and the replica set
// change, and an editor over a change of the primary.
func browserIsTold(p *proof) {
	tab := browsertest.Start(p, 5*time.Minute)
	url := p.lab.URL(9999, "/web")
	editor := tab.Another()
	editor.Open(url + "/admin")
	editor.Type("#name", "admin")
	editor.Type("#password", p.adminPassword())
	editor.Press("main form button")
	editor.Open(url + "/admin/entries/new")
	headline := "across a hand-over " + rand.Text()
	editor.Type("#title", headline)
	editor.Fill("#body", "Typed while another member was primary.")

	tab.Open(url)
	tab.Shows("Live: what changes shows here at once.")
	browsertest.Ask[bool](tab, `(window.said = [], new MutationObserver(() => said.push(document.getElementById('news').textContent)).observe(document.getElementById('news'), {childList: true}), true)`)
	began := monotonic()
	p.lab.Must("intentions", "deny", "web", "mongo-primary")
	tab.Shows("web -> mongo-primary is denied: denied by intention web -> mongo-primary.")
	p.Logf("the open page tells of a deny %s after its command began", (monotonic() - began).Round(time.Millisecond))
	p.lab.Must("intentions", "allow", "web", "mongo-primary")
	tab.Shows("web -> mongo-primary works again after")

	before, _ := p.members()
	began = monotonic()
	p.lab.Must("mongo", "stepdown")
	tab.Shows("is primary now. It was " + p.memberAddress(before.Name) + ".")
	p.Logf("the open page tells of the new primary %s after the command began", (monotonic() - began).Round(time.Millisecond))
	// A page that was loaded anew would have forgotten what its stream brought.
	said := browsertest.Ask[string](tab, "window.said ? said.join(' | ') : ''")
	for _, words := range []string{"is denied", "works again", "is primary now. It was"} {
		if !strings.Contains(said, words) {
			p.Errorf("a screen reader is not told %q: %q", words, said)
		}
	}
	tab.Accessible("topology")
	editor.Press("button[value=save]")
	editor.Shows(headline, "Log out admin")
}

// memberAddress is the name of a node's member in the replica set.
func (p *proof) memberAddress(node string) string {
	return "127.0.10." + strings.TrimPrefix(node, "mongo-") + ":27017"
}
