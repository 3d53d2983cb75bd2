package site_test

import (
	"bufio"
	"context"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"sluice/web/blog"
)

// intruder is a desk from which bytes can be sent that no browser sends, with a view
// of all that the database keeps.
type intruder struct {
	*desk
	database *mongo.Database
	token    string
	count    int
}

func startIntruder(t *testing.T) *intruder {
	t.Helper()
	d := startDesk(t)
	client, err := mongo.Connect(options.Client().ApplyURI("mongodb://" + d.member + "/?directConnection=true").
		SetAuth(options.Credential{AuthSource: "blog", Username: "web", Password: "x"}).SetTimeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	if got := d.login("admin", adminPassword); got.status != 303 {
		t.Fatal(got.status)
	}
	d.write("A first entry", "its text")
	return &intruder{desk: d, database: client.Database("blog"), token: d.open("/admin/entries/new").Get("csrf")}
}

// stored is every document but those of failed logins, as text.
func (i *intruder) stored(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, name := range []string{"entries", "blogs", "users"} {
		cursor, err := i.database.Collection(name).Find(t.Context(), bson.D{}, options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}))
		if err != nil {
			t.Fatal(err)
		}
		var documents []bson.Raw
		if err := cursor.All(t.Context(), &documents); err != nil {
			t.Fatal(err)
		}
		for _, document := range documents {
			fmt.Fprintln(&all, name, document)
		}
	}
	return all.String()
}

// sent is a request as it goes over the wire.
type sent struct {
	method, target, body string
	header               []string // names and values; an empty value leaves one of ours out
}

// raw sends a request as it stands, logged in unless it brings its own cookie.
func (i *intruder) raw(t *testing.T, r sent) answer {
	t.Helper()
	i.count++
	base, _ := url.Parse(i.base)
	header := map[string]string{
		"Host": base.Host, "Connection": "close", "Accept": "text/html", "X-Forwarded-For": fmt.Sprint("192.0.2.", i.count%250),
	}
	var cookies []string
	for _, cookie := range i.client.Jar.Cookies(base.JoinPath("admin")) {
		cookies = append(cookies, cookie.String())
	}
	header["Cookie"] = strings.Join(cookies, "; ")
	if r.method != http.MethodGet {
		header["Content-Type"], header["Content-Length"] = "application/x-www-form-urlencoded", fmt.Sprint(len(r.body))
	}
	for n := 0; n < len(r.header); n += 2 {
		header[r.header[n]] = r.header[n+1]
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s HTTP/1.1\r\n", r.method, r.target)
	for name, value := range header {
		if value != "" {
			fmt.Fprintf(&text, "%s: %s\r\n", name, value)
		}
	}
	conn, err := net.Dial("tcp", base.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	_, _ = io.WriteString(conn, text.String()+"\r\n"+r.body) // may be answered before all is written
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: r.method})
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(body)}
}

// harmless fails if an answer holds what a browser would run or what nobody may
// see, or is no text.
func harmless(t *testing.T, got answer, absent ...string) {
	t.Helper()
	_, shown, _ := strings.Cut(got.body, "</style>")
	for _, bad := range append([]string{"<script>alert", "javascript:", "<img", "<b onclick", "goroutine ", "root:x:", "mongo.", "$2a$"}, absent...) {
		if strings.Contains(strings.ToLower(shown), bad) {
			t.Errorf("the answer holds %q: %s", bad, shown)
		}
	}
	if !utf8.ValidString(got.body) {
		t.Error("the answer is not valid UTF-8")
	}
}

func TestBadInputIsRefusedAndLeavesNoTrace(t *testing.T) {
	i := startIntruder(t)
	t.Run("request", func(t *testing.T) { badRequests(t, i) })
	t.Run("field", func(t *testing.T) { badFields(t, i) })
	t.Run("markdown", func(t *testing.T) { badMarkdown(t, i) })
	t.Run("ten thousand entries", func(t *testing.T) { manyEntries(t, i) })
	// The last, because it changes what every request gets.
	t.Run("host", func(t *testing.T) { badHosts(t, i) })
}

// entryForm is a new entry that would be taken.
func (i *intruder) entryForm(more ...string) url.Values {
	return with(url.Values{
		"csrf": {i.token}, "id": {strings.Repeat("a", 32)}, "edit": {strings.Repeat("b", 32)}, "revision": {"0"}, "blog": {"main"},
		"slug": {"bad-input"}, "title": {"Bad input"}, "body": {"text"},
	}, more...)
}

func with(form url.Values, more ...string) url.Values {
	for n := 0; n < len(more); n += 2 {
		form.Set(more[n], more[n+1])
	}
	return form
}

func badRequests(t *testing.T, i *intruder) {
	post := func(target string, form url.Values, header ...string) sent {
		return sent{http.MethodPost, target, form.Encode(), header}
	}
	get := func(target string, header ...string) sent { return sent{http.MethodGet, target, "", header} }
	visitor := url.Values{"id": {strings.Repeat("c", 32)}, "title": {"t"}, "body": {"b"}}
	entries, public := "/web/admin/entries", "/web/entries"
	for _, row := range []struct {
		name   string
		send   sent
		status int
		allow  string
	}{
		{"oversized entry", post(entries, i.entryForm("body", strings.Repeat("x", 600<<10))), 413, ""},
		{"oversized entry of a visitor", post(public, with(url.Values{"id": {strings.Repeat("c", 32)}, "title": {"t"}}, "body", strings.Repeat("x", 70<<10))), 413, ""},
		{"oversized login", post("/web/admin/login", url.Values{"csrf": {i.token}, "name": {strings.Repeat("x", 600<<10)}}), 413, ""},
		{"oversized header", get("/web", "X-Long", strings.Repeat("x", 2<<20)), 431, ""},
		{"a body without its length", sent{http.MethodPost, entries, "csrf=x", []string{"Content-Length", "x"}}, 400, ""},
		{"a length below zero", sent{http.MethodPost, entries, "csrf=x", []string{"Content-Length", "-1"}}, 400, ""},

		{"JSON", sent{http.MethodPost, entries, `{"title":{"$gt":""}}`, []string{"Content-Type", "application/json"}}, 415, ""},
		{"JSON from a visitor", sent{http.MethodPost, public, `{"title":{"$gt":""}}`, []string{"Content-Type", "application/json"}}, 415, ""},
		{"multipart", sent{http.MethodPost, entries, "--b\r\n\r\n", []string{"Content-Type", "multipart/form-data; boundary=b"}}, 415, ""},
		{"no content type", post(entries, i.entryForm(), "Content-Type", ""), 415, ""},
		{"a form that cannot be read", sent{http.MethodPost, entries, "title=%zz", nil}, 400, ""},
		{"a form with semicolons", sent{http.MethodPost, public, "title=a;body=b", nil}, 400, ""},

		{"no token", post(entries, i.entryForm("csrf", "")), 403, ""},
		{"another token", post(entries, i.entryForm("csrf", strings.Repeat("x", 32))), 403, ""},
		{"no token for a deletion", post(entries+"/x/delete", url.Values{}), 403, ""},
		{"no token for a blog", post("/web/admin/blogs", url.Values{"name": {"n"}}), 403, ""},
		{"a token in the address", post(entries+"?csrf="+url.QueryEscape(i.token), url.Values{"title": {"t"}}), 403, ""},
		{"from another site", post(entries, i.entryForm(), "Sec-Fetch-Site", "cross-site"), 403, ""},
		{"a visitor's from another site", post(public, visitor, "Origin", "http://evil.example"), 403, ""},

		{"no cookie", post(entries, i.entryForm(), "Cookie", ""), 403, ""},
		{"a session that nobody has", post(entries, i.entryForm(), "Cookie", "sluice_csrf="+i.token+"; sluice_session=x"), 401, ""},
		{"an operator as session", get("/web/admin", "Cookie", `sluice_session={"$gt":""}`), 303, ""},
		{"a long session", get("/web/admin", "Cookie", "sluice_session="+strings.Repeat("x", 4000)), 303, ""},
		{"a session that is no text", get("/web/admin", "Cookie", "sluice_session=\xff\xfe"), 303, ""},
		{"a script as token", get("/web/admin/login", "Cookie", "sluice_csrf=<script>alert(1)</script>"), 200, ""},
		{"a bad read preference", get("/web/blog/main", "Cookie", "sluice_read=$where"), 200, ""},

		{"a number of a page below zero", get("/web/blog/main?page=-1"), 200, ""},
		{"a huge number of a page", get("/web/blog/main?page=9223372036854775807"), 404, ""},
		{"a number that is none", get("/web/blog/main?page=99999999999999999999999"), 200, ""},
		{"an operator as page", get("/web/blog/main?page[$gt]=1"), 200, ""},
		{"a page that is there twice", get("/web/blog/main?page=1&page=2&q=a&q=b"), 200, ""},
		{"an operator as search", get("/web/blog/main?q=%7B%22$gt%22:%22%22%7D"), 200, ""},
		{"a pattern as search", get("/web/blog/main?q=" + url.QueryEscape(strings.Repeat("(a*)*", 20))), 200, ""},
		{"a script as search", get("/web/blog/main?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E"), 200, ""},
		{"a search that is no text", get("/web/blog/main?q=%ff%00"), 200, ""},
		{"an address that cannot be read", get("/web/blog/main?q=%zz"), 200, ""},
		{"a blog that is no text", get("/web/admin/entries/new?blog=%ff%3Cscript%3Ealert(1)"), 200, ""},
		{"a scheme of one's own", get("/web/blog/main/feed.atom", "X-Forwarded-Proto", "javascript"), 200, ""},
		{"an ID that forges the log", get("/web", "X-Request-Id", "<script>alert(1)</script>"), 200, ""},

		{"dots", get("/web/blog/../../etc/passwd"), 404, ""},
		{"dots that lead to the administration", get("/web/blog/../admin", "Cookie", ""), 404, ""},
		{"dots in hexadecimal", get("/web/blog/%2e%2e/%2e%2e/etc/passwd"), 404, ""},
		{"a slash in hexadecimal", get("/web/blog/..%2f..%2fetc%2fpasswd"), 404, ""},
		{"a NUL", get("/web/blog/main%00/x"), 404, ""},
		{"an empty part", get("/web//blog"), 404, ""},
		{"an empty first part", get("//web/admin"), 404, ""},
		{"backslashes", get(`/web/blog/..\..\etc\passwd`), 404, ""},
		{"backslashes in hexadecimal", get("/web/blog/..%5c..%5cetc"), 404, ""},
		{"a very long name", get("/web/blog/" + strings.Repeat("a", 20_000)), 404, ""},
		{"a very long ID", get("/web/admin/entries/" + strings.Repeat("a", 20_000)), 404, ""},
		{"an entry that is no text", get("/web/admin/entries/%ff"), 404, ""},
		{"a blog of a path that is no text", get("/web/admin/blogs/%ff%00"), 404, ""},
		{"an operator as entry", get("/web/admin/entries/%7B%22$gt%22:%22%22%7D"), 404, ""},
		{"a slug in upper case", get("/web/blog/main/A-FIRST-ENTRY"), 404, ""},
		{"deletion of what is no text", post("/web/admin/entries/%FF/delete", url.Values{"csrf": {i.token}}), 404, ""},
		{"undo of what is no text", post("/web/admin/blogs/%FF/undo", url.Values{"csrf": {i.token}}), 404, ""},
		{"another host in the address", get("http://evil.example/web/none"), 404, ""},

		{"PUT", sent{http.MethodPut, "/web/blog/main", "x", nil}, 405, "OPTIONS, GET, HEAD"},
		{"DELETE", sent{http.MethodDelete, "/web/admin/entries/x", "", nil}, 405, "OPTIONS, GET, HEAD"},
		{"GET of a change", get("/web/admin/entries/x/delete"), 405, "OPTIONS, POST"},
		{"GET of the visitors' form", get(public), 405, "OPTIONS, POST"},
		{"POST to the page", post("/web", visitor), 405, "OPTIONS, GET, HEAD"},
		{"a method of one's own", sent{"BREW", "/web/admin", "", nil}, 405, "OPTIONS, GET, HEAD"},
		{"TRACE", sent{http.MethodTrace, "/web/blog", "", nil}, 405, "OPTIONS, GET, HEAD"},
		{"a method that is none", sent{"GE(T", "/web", "", nil}, 400, ""},
		{"OPTIONS", sent{http.MethodOptions, "/web/admin/entries", "", nil}, 204, "OPTIONS, POST"},
		{"PUT of what is not there", sent{http.MethodPut, "/web/admin/none", "", nil}, 403, ""},

		{"a slug that is taken", post(entries, i.entryForm("slug", "a-first-entry")), 409, ""},
		{"a blog that is taken", post("/web/admin/blogs", url.Values{"csrf": {i.token}, "edit": {strings.Repeat("b", 32)}, "revision": {"0"}, "id": {"main"}, "name": {"n"}}), 409, ""},
		{"no host", get("/web", "Host", ""), 400, ""},
		{"a host that is none", get("/web", "Host", "a b<script>"), 400, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := i.stored(t)
			got := i.raw(t, row.send)
			if got.status != row.status {
				t.Errorf("status %d, want %d: %.1000s", got.status, row.status, got.body[max(0, strings.Index(got.body, "<main")):])
			}
			if allow := got.header.Get("Allow"); !sameWords(allow, row.allow) {
				t.Errorf("Allow: %q, want %q", allow, row.allow)
			}
			harmless(t, got)
			if after := i.stored(t); after != before {
				t.Errorf("it left a trace:\n%s\nwas\n%s", after, before)
			}
		})
	}
}

// sameWords compares two lists regardless of their order.
func sameWords(a, b string) bool {
	x, y := strings.Split(a, ", "), strings.Split(b, ", ")
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

// badFields tries everything in every field of every form.
func badFields(t *testing.T, i *intruder) {
	forms := []struct {
		target string
		fields url.Values
	}{
		{"/web/entries", url.Values{"id": {strings.Repeat("d", 32)}, "title": {"t"}, "body": {"b"}}},
		{"/web/admin/login", url.Values{"csrf": {i.token}, "name": {"nobody"}, "password": {"wrong"}}},
		{"/web/admin/entries", i.entryForm()},
		{"/web/admin/password", url.Values{"csrf": {i.token}, "old": {"wrong"}, "new": {"a password of some length"}, "again": {"a password of some length"}}},
		{"/web/admin/administrators", url.Values{"csrf": {i.token}, "name": {"second"}}},
		{"/web/admin/administrators/disable", url.Values{"csrf": {i.token}, "name": {"admin"}}},
		{"/web/admin/administrators/delete", url.Values{"csrf": {i.token}, "name": {"admin"}}},
		{"/web/admin/blogs", url.Values{"csrf": {i.token}, "edit": {strings.Repeat("b", 32)}, "revision": {"0"}, "id": {"new-blog"}, "name": {"n"}, "tagline": {"t"}}},
	}
	// kept are the fields that may hold any text.
	kept := []string{"title", "body", "name", "tagline", "password"}
	// optional are the fields that may be missing.
	optional := []string{"/web/admin/entries/slug", "/web/admin/blogs/tagline", "/web/admin/blogs/id"}
	for _, form := range forms {
		for field := range form.fields {
			for _, bad := range []struct {
				name  string
				value string
				// send changes the field in the form, as it goes over the wire.
				send func(fields url.Values) string
			}{
				{"operator", `{"$gt":""}`, nil},
				{"code", `';return true;//`, nil},
				{"script", `"><script>alert(1)</script><img src=x onerror=alert(1)>`, nil},
				{"template", "{{.}}", nil},
				{"not text", "a\xffb", nil},
				{"NUL", "a\x00b", nil},
				{"nothing", "", nil},
				{"operator in the name", "", func(fields url.Values) string {
					fields.Set(field+"[$ne]", fields.Get(field))
					fields.Del(field)
					return fields.Encode()
				}},
				{"twice", "", func(fields url.Values) string { return fields.Encode() + "&" + field + "=x" }},
			} {
				t.Run(form.target+"/"+field+"/"+bad.name, func(t *testing.T) {
					fields := url.Values{}
					for name, values := range form.fields {
						fields[name] = slices.Clone(values)
					}
					fields.Set(field, bad.value)
					body := fields.Encode()
					if bad.send != nil {
						fields[field] = slices.Clone(form.fields[field])
						body = bad.send(fields)
					}
					before := i.stored(t)
					got := i.raw(t, sent{http.MethodPost, form.target, body, nil})
					harmless(t, got)
					after := i.stored(t)
					taken := after != before || got.status == 201 || got.status == 303 && form.target != "/web/admin/administrators/delete"
					mayBe := slices.Contains(kept, field) && slices.Contains([]string{"operator", "code", "script", "template"}, bad.name) ||
						slices.Contains(optional, form.target+"/"+field) && strings.Contains("nothing operator in the name", bad.name)
					switch {
					case got.status >= 500:
						t.Errorf("status %d: %s", got.status, got.body)
					case taken && !mayBe:
						t.Error("it was taken")
					case !taken && after != before:
						t.Errorf("refused with %d, and left a trace:\n%s", got.status, after)
					}
					i.forget(t)
				})
			}
		}
	}
}

// forget takes away what a form has stored, so that the next can store the same;
// what is stored must be text in every field that a form fills in.
func (i *intruder) forget(t *testing.T) {
	t.Helper()
	for name, ids := range map[string][]string{"entries": {strings.Repeat("a", 32), strings.Repeat("d", 32)}, "blogs": {"new-blog", "n"}} {
		for _, id := range ids {
			document, err := i.database.Collection(name).FindOneAndDelete(t.Context(), bson.D{{Key: "_id", Value: id}}).Raw()
			if err != nil {
				continue
			}
			for _, field := range []string{"title", "body", "slug", "blog", "name", "tagline"} {
				if value, err := document.LookupErr(field); err == nil && value.Type != bson.TypeString {
					t.Errorf("%s is stored as %s", field, value)
				}
			}
		}
	}
}

// badMarkdown is taken, and does nothing to whoever reads it.
func badMarkdown(t *testing.T, i *intruder) {
	for name, body := range map[string]string{
		"script":          "<script>alert(1)</script>",
		"script in parts": "<scr<script>ipt>alert(1)</scr</script>ipt>",
		"handler":         `<img src=x onerror=alert(1)> <b onclick=alert(1)>x</b>`,
		"link":            "[x](javascript:alert(1)) [y](JaVaScRiPt:alert(1)) [z](java\tscript:alert(1))",
		"link in code":    "[x](&#106;avascript:alert(1)) [y](javascript&colon;alert(1))",
		"reference":       "[x]\n\n[x]: javascript:alert(1)",
		"autolink":        "<javascript:alert(1)>",
		"data":            "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==) ![y](data:image/svg+xml,x)",
		"vbscript":        "[x](vbscript:msgbox(1))",
		"attribute":       `[x](http://a.example/"onclick="alert(1))`,
		"title":           `[x](http://a.example/ "\" onclick=alert(1) \"")`,
		"frame":           `<iframe src="javascript:alert(1)"></iframe><object data=x></object><svg onload=alert(1)>`,
		"style":           `<style>*{display:none}</style><p style="x:expression(alert(1))">x</p>`,
		"form":            `<form action=http://evil.example><input name=password></form>`,
		"meta":            `<meta http-equiv=refresh content="0;url=http://evil.example">`,
		"table":           "|a|\n|-|\n|<script>alert(1)</script>|",
		"comment":         "<!--><script>alert(1)</script>-->",
	} {
		t.Run(name, func(t *testing.T) {
			got := i.raw(t, sent{http.MethodPost, "/web/admin/entries", i.entryForm("body", body).Encode(), nil})
			if got.status != 303 {
				t.Fatalf("status %d", got.status)
			}
			defer i.forget(t)
			for _, target := range []string{"/web/blog/main/bad-input", "/web/blog/main", "/web/blog/main/feed.atom", "/web"} {
				got := i.raw(t, sent{http.MethodGet, target, "", nil})
				if got.status != 200 {
					t.Errorf("%s: status %d", target, got.status)
				}
				_, main, _ := strings.Cut(got.body, `<main`)
				main, _, _ = strings.Cut(main, `</main>`) // the topology page has a script of its own behind it
				if strings.HasSuffix(target, ".atom") {
					main = html.UnescapeString(got.body) // as a reader of the feed shows it
				}
				if !strings.Contains(main, "Bad input") {
					t.Errorf("%s does not have the entry", target)
				}
				for _, bad := range []string{
					"<script", "href=\"javascript", "href=\"java", "href=\"data", "href=\"vbscript", "src=\"data",
					"<img", "<iframe", "<object", "<svg", "<style", " style=\"", "<meta", "<b ", `" onclick`,
				} {
					if strings.Contains(strings.ToLower(main), bad) {
						t.Errorf("%s holds %q: %s", target, bad, main)
					}
				}
				if policy := got.header.Get("Content-Security-Policy"); strings.HasPrefix(got.header.Get("Content-Type"), "text/html") && (!strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe")) {
					t.Errorf("%s: policy %q", target, policy)
				}
			}
		})
	}
}

// manyEntries pages through 10,000 entries: no page shows what another shows, and
// the last costs no more than in proportion to what is before it.
func manyEntries(t *testing.T, i *intruder) {
	const entries, perPage = 10_000, 20
	many := make([]any, entries)
	for n := range many {
		many[n] = blog.Entry{
			ID: fmt.Sprintf("%032d", n), Title: fmt.Sprintf("Number %d.", n), Body: "text", Blog: "many", Slug: fmt.Sprint("number-", n),
			Created: time.UnixMilli(int64(n)), Updated: time.UnixMilli(int64(n)), Revision: 1,
		}
	}
	if _, err := i.database.Collection("entries").InsertMany(t.Context(), many); err != nil {
		t.Fatal(err)
	}
	if err := i.store.AddBlog(t.Context(), blog.Blog{ID: "many", Name: "Many", Edit: "e"}); err != nil {
		t.Fatal(err)
	}
	get := func(address string) (answer, int64) {
		before := i.looked(t)
		got := i.raw(t, sent{http.MethodGet, address, "", nil})
		return got, i.looked(t) - before
	}
	address, last := "/web/blog/many", entries/perPage
	for number := 1; number <= last; number++ {
		if address == "" {
			t.Fatalf("no way on from page %d", number-1)
		}
		got, looked := get(address)
		for n := range perPage {
			if title := fmt.Sprintf(">Number %d.<", entries-1-perPage*(number-1)-n); strings.Count(got.body, title) != 1 {
				t.Fatalf("page %d: not once %q in %s", number, title, got.body)
			}
		}
		if looked > entries/10 { // others work there, too
			t.Errorf("for page %d the database looked at %d documents of %d", number, looked, entries)
		}
		address = link(got.body, "next")
	}
	if address != "" {
		t.Errorf("the last page leads on to %s", address)
	}
	counted, looked := get("/web/blog/many?page=50")
	if !strings.Contains(counted.body, fmt.Sprintf(">Number %d.<", entries-1-49*perPage)) || looked > entries/5 {
		t.Errorf("a page that is counted: the database looked at %d documents: %s", looked, counted.body)
	}
	if beyond, looked := get(fmt.Sprint("/web/blog/many?page=", last)); beyond.status != 404 || looked > entries/10 || !strings.Contains(beyond.body, "Pages have numbers up to 50 only") {
		t.Errorf("a page beyond those that are counted: %d, and the database looked at %d documents: %s", beyond.status, looked, beyond.body)
	}
}

// looked is how many documents the database has looked at for queries, ever.
func (i *intruder) looked(t *testing.T) int64 {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI("mongodb://" + i.member + "/?directConnection=true").
		SetAuth(options.Credential{AuthSource: "local", Username: "__system", Password: i.key}).SetTimeout(20 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Disconnect(context.Background()) }()
	status, err := client.Database("admin").RunCommand(t.Context(), bson.D{{Key: "serverStatus", Value: 1}}).Raw()
	if err != nil {
		t.Fatal(err)
	}
	return status.Lookup("metrics", "queryExecutor", "scannedObjects").AsInt64()
}

func badHosts(t *testing.T, i *intruder) {
	i.keys.set("allowed_hosts", ".example.org")
	defer i.keys.set()
	deadline := time.Now().Add(10 * time.Second)
	for i.raw(t, sent{http.MethodGet, "/web", "", nil}).status != 421 {
		if time.Now().After(deadline) {
			t.Fatal("the list of hosts is not in force")
		}
	}
	for host, status := range map[string]int{
		"example.org": 200, "a.example.org:80": 200, "EXAMPLE.ORG.": 200, "evilexample.org": 421, "example.org.evil.example": 421,
		"127.0.0.1": 421, "[::1]:80": 421, "example.org@evil.example": 400, "localhost": 421,
	} {
		before := i.stored(t)
		got := i.raw(t, sent{http.MethodGet, "/web", "", []string{"Host", host}})
		if got.status != status {
			t.Errorf("%s: status %d, want %d", host, got.status, status)
		}
		if form := i.raw(t, sent{http.MethodPost, "/web/entries", "id=" + strings.Repeat("e", 32) + "&title=t&body=b", []string{"Host", host}}); status != 200 && form.status != status {
			t.Errorf("%s: the form has status %d, want %d", host, form.status, status)
		}
		if after := i.stored(t); status != 200 && after != before {
			t.Errorf("%s left a trace", host)
		}
		harmless(t, got)
	}
}
