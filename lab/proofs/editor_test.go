package proofs_test

import (
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// editor is an administrator with the form of a new entry before him.
type editor struct {
	*proof
	client *http.Client
	form   url.Values
}

// opensEditor logs in through the gateway and opens the form of a new entry.
func (p *proof) opensEditor(headline string) *editor {
	p.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		p.Fatal(err)
	}
	e := &editor{proof: p, client: &http.Client{
		Jar: jar, Timeout: 40 * time.Second, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	login := fieldsOf(e.ask(http.MethodGet, "/web/admin/login", nil).body)
	login.Set("name", "admin")
	login.Set("password", p.adminPassword())
	if got := e.ask(http.MethodPost, "/web/admin/login", login); got.err != nil || got.status != http.StatusSeeOther {
		p.Fatalf("the login: %v: %d: %s", got.err, got.status, excerpt(got.body))
	}
	e.form = fieldsOf(e.ask(http.MethodGet, "/web/admin/entries/new", nil).body)
	for name, value := range map[string]string{"title": headline, "body": "typed & kept", "blog": "main", "do": "save"} {
		e.form.Set(name, value)
	}
	return e
}

// saves sends the form as it is.
func (e *editor) saves() written { return e.ask(http.MethodPost, "/web/admin/entries", e.form) }

func (e *editor) ask(method, path string, form url.Values) written {
	request, err := http.NewRequestWithContext(e.Context(), method, e.lab.URL(9999, path), strings.NewReader(form.Encode()))
	if err != nil {
		return written{err: err}
	}
	if request.Header.Set("Accept", "text/html"); form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	began := monotonic()
	response, err := e.client.Do(request)
	if err != nil {
		return written{err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	return written{response.StatusCode, response.Header.Get("Retry-After"), string(body), monotonic() - began, err}
}

// fieldsOf are the inputs of a page's forms.
func fieldsOf(page string) url.Values {
	fields := url.Values{}
	for _, field := range regexp.MustCompile(`<input[^>]* name="(\w+)"[^>]*? value="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		fields.Set(field[1], html.UnescapeString(field[2]))
	}
	return fields
}

// refusedEditor holds an editor to what becomes of it without a primary: it is held as
// long as a visitor's entry, and comes back filled in.
func (p *proof) refusedEditor(e *editor, got written) {
	p.Helper()
	p.Logf("an editor without a primary: %d after %s", got.status, got.took.Round(time.Millisecond))
	if got.err != nil || got.status != http.StatusServiceUnavailable || got.again == "" || got.took < 9*time.Second || got.took > 20*time.Second {
		p.Errorf("%v: an editor: %d after %s, Retry-After %q; want 503 after 10 s", got.err, got.status, got.took, got.again)
	}
	for _, words := range []string{"Nothing was saved. What you typed is below", e.form.Get("id"), e.form.Get("edit"), e.form.Get("title"), "typed &amp; kept"} {
		if !strings.Contains(got.body, words) {
			p.Errorf("no %q on the editor's page: %s", words, excerpt(got.body))
		}
	}
}

// savedEditor holds an editor to what becomes of it when a primary comes back, and sends
// it again.
func (p *proof) savedEditor(e *editor, got written) {
	p.Helper()
	p.Logf("an editor with one that comes back: %d after %s", got.status, got.took.Round(time.Millisecond))
	if got.err != nil || got.status != http.StatusSeeOther || got.took < 500*time.Millisecond {
		p.Errorf("%v: an editor: %d after %s, want 303 once somebody is primary: %s", got.err, got.status, got.took, excerpt(got.body))
	}
	if again := e.saves(); again.err != nil || again.status != http.StatusSeeOther {
		p.Errorf("the editor sent again: %v: %d: %s", again.err, again.status, excerpt(again.body))
	}
}
