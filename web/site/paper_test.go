package site_test

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"sluice/internal/meshtest"
	"sluice/internal/mongotest"
	"sluice/mesh"
	"sluice/web/blog"
	"sluice/web/settings"
	"sluice/web/site"
)

// openWay is a way that is always open.
type openWay struct{ never chan struct{} }

func (openWay) Err() error                 { return nil }
func (w openWay) Changed() <-chan struct{} { return w.never }

// failing is a library whose writes a test can make fail, before or after they
// are done.
type failing struct {
	site.Library
	mu            sync.Mutex
	before, after error
	unknown       error // who is logged in
	once          error // the same, for one question
	unread        error // blogs
	unshown       error // entries, one by one
	hangs         bool  // when blogs are read
	limits        *limits
}

func (f *failing) lose(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unread = err
}

func (f *failing) Blog(ctx context.Context, id string) (blog.Blog, error) {
	f.mu.Lock()
	err := f.unread
	f.mu.Unlock()
	if err = errors.Join(err, f.hung(ctx)); err != nil {
		return blog.Blog{}, err
	}
	return f.Library.Blog(ctx, id)
}

func (f *failing) Session(ctx context.Context, secret string, now time.Time) (blog.Session, error) {
	f.limits.ask()
	f.mu.Lock()
	err := errors.Join(f.once, f.unknown)
	f.once = nil
	f.mu.Unlock()
	if errors.Is(err, errHung) {
		<-ctx.Done()
		return blog.Session{}, ctx.Err()
	}
	if err != nil {
		return blog.Session{}, err
	}
	return f.Library.Session(ctx, secret, now)
}

func (f *failing) forget(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unknown = err
}

func (f *failing) forgetOnce(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.once = err
}

func (f *failing) set(before, after error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after = before, after
}

func (f *failing) DeleteEntry(ctx context.Context, id string, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.before != nil {
		return f.before
	}
	return errors.Join(f.Library.DeleteEntry(ctx, id, now), f.after)
}

func (f *failing) AddAdministrator(ctx context.Context, by, name, password string, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.Library.AddAdministrator(ctx, by, name, password, now), f.after)
}

func (f *failing) AddEntry(ctx context.Context, e blog.Entry) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.before != nil {
		return f.before
	}
	return errors.Join(f.Library.AddEntry(ctx, e), f.after)
}

const adminPassword = "correct horse battery"

// desk is a person in front of a blog on a real mongod.
type desk struct {
	*testing.T
	base    string
	client  *http.Client
	library *failing
	store   *blog.Store
	near    *nearby
	member  string
	way     *upstream // to the primary
	keys    *keyValues
	live    *settings.Live
	key     string // of the members among themselves
	log     *journal
	// instance makes another web of the same blog, and front is what leads to one.
	instance func(node, datacenter string) http.Handler
	front    *front
	// voters are what a secondary knows of them, and consul why it cannot be asked.
	voters *voters
	consul *atomic.Pointer[error]
	cut    func() // every connection to the front
}

// voters is a store of a secondary that hears as many voters as a test says.
type voters struct {
	site.Store
	quorum atomic.Pointer[blog.Quorum] // nil is what the store knows
}

func (v *voters) Quorum(ctx context.Context) (blog.Quorum, error) {
	if quorum := v.quorum.Load(); quorum != nil {
		return *quorum, nil
	}
	return v.Store.Quorum(ctx)
}

// front is a gateway in front of one web at a time.
type front struct {
	to   atomic.Pointer[http.Handler]
	from atomic.Pointer[string] // the address that requests come from; nil leaves them as they are
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if from := f.from.Load(); from != nil {
		r.Header.Set("X-Forwarded-For", *from)
	}
	(*f.to.Load()).ServeHTTP(w, r)
}

// lead sends requests to another web from now on.
func (f *front) lead(to http.Handler) { f.to.Store(&to) }

// journal is a log that may be read while it is written.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(line)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func startDesk(t *testing.T) *desk {
	t.Helper()
	world := meshtest.New(t)
	set := mongotest.Start(t, mongotest.Config{Addresses: []string{mongotest.FreeAddress(t, "127.0.0.1")}})
	address := set.Members[0].Address
	system, err := mongo.Connect(options.Client().ApplyURI("mongodb://" + address + "/?directConnection=true").
		SetAuth(options.Credential{AuthSource: "local", Username: "__system", Password: set.Key(t)}).SetTimeout(20 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = system.Disconnect(context.Background()) }()
	member := bson.A{bson.D{{Key: "_id", Value: 0}, {Key: "host", Value: address}}}
	initiate := bson.D{{Key: "replSetInitiate", Value: bson.D{{Key: "_id", Value: set.Name}, {Key: "members", Value: member}}}}
	if err := system.Database("admin").RunCommand(t.Context(), initiate).Err(); err != nil {
		t.Fatal(err)
	}
	mongotest.Wait(t, 20*time.Second, "the blog's user exists", func(ctx context.Context) error {
		return system.Database("blog").RunCommand(ctx, bson.D{
			{Key: "createUser", Value: "web"}, {Key: "pwd", Value: "x"}, {Key: "roles", Value: bson.A{"readWrite"}},
		}).Err()
	})
	store, err := blog.Open(blog.Config{Service: "mongo-primary", Address: address, Way: openWay{make(chan struct{})}, User: "web", Password: "x", PasswordCost: 4})
	if err != nil {
		t.Fatal(err)
	}
	world.Run("store", store.Run)
	first := blog.Foundation{BlogName: "Field notes", Tagline: "from the mesh", Administrator: "admin", Password: adminPassword, Now: time.Now()}
	if err := store.Prepare(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	near, err := blog.Open(blog.Config{Service: "mongo-secondary", Address: address, Way: openWay{make(chan struct{})}, User: "web", Password: "x", Secondary: true})
	if err != nil {
		t.Fatal(err)
	}
	world.Run("store nearby", near.Run)
	source := &keyValues{changed: make(chan struct{})}
	live := settings.NewLive(source, slog.New(slog.DiscardHandler), nil)
	world.Run("settings", live.Run)
	asked := &limits{}
	d := &desk{T: t, keys: source, live: live, library: &failing{Library: store, limits: asked}, store: store, near: &nearby{Desk: near, limits: asked}, member: address, way: &upstream{}, key: set.Key(t), log: &journal{}}
	d.instance = func(node, datacenter string) http.Handler {
		pages, err := site.New(site.Config{
			Base: "/web", Node: node, Datacenter: datacenter, Instance: "web-" + node, Credentials: world.Credentials("web"), Library: d.library,
			Primary: site.Database{Store: store, Upstream: d.way}, Secondary: site.Database{Store: d.voters, Upstream: &upstream{}}, Nearby: d.near, Settings: live, Consul: d.consulAway,
			Logger: slog.New(slog.NewJSONHandler(d.log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		world.Run("topology page of "+node, pages.Run)
		return pages
	}
	d.voters, d.consul, d.front = &voters{Store: near}, &atomic.Pointer[error]{}, &front{}
	d.front.lead(d.instance("web-1", "dc1"))
	server := httptest.NewServer(d.front)
	d.cut = server.CloseClientConnections
	t.Cleanup(server.Close)
	d.base = server.URL + "/web"
	jar, _ := cookiejar.New(nil)
	d.client = &http.Client{Jar: jar, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(d.client.CloseIdleConnections)
	return d
}

func (d *desk) consulAway() error {
	if err := d.consul.Load(); err != nil {
		return *err
	}
	return nil
}

// at is the same desk in a part of the test.
func (d *desk) at(t *testing.T) *desk {
	part := *d
	part.T = t
	return &part
}

func (d *desk) send(method, path, body string, header ...string) answer {
	d.Helper()
	request, err := http.NewRequestWithContext(d.Context(), method, d.base+path, strings.NewReader(body))
	if err != nil {
		d.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		if request.Header.Set(header[i], header[i+1]); header[i] == "Host" {
			request.Host = header[i+1]
		}
	}
	response, err := d.client.Do(request)
	if err != nil {
		d.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		d.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(text)}
}

// open gets a page and the fields of its last form.
func (d *desk) open(path string) url.Values {
	d.Helper()
	got := d.send(http.MethodGet, path, "")
	if got.status != 200 {
		d.Fatalf("%s: %d %s", path, got.status, got.body)
	}
	return fields(got.body)
}

// link is where the link leads that is for rel, "" if there is none.
func link(page, rel string) string {
	found := regexp.MustCompile(`<a rel="` + rel + `" href="([^"]*)"`).FindStringSubmatch(page)
	if found == nil {
		return ""
	}
	return html.UnescapeString(found[1])
}

func fields(page string) url.Values {
	values := url.Values{}
	for _, field := range regexp.MustCompile(`<input[^>]* name="(\w+)"[^>]*?value="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		values.Set(field[1], html.UnescapeString(field[2]))
	}
	if body := regexp.MustCompile(`(?s)<textarea[^>]*>(.*)</textarea>`).FindStringSubmatch(page); body != nil {
		values.Set("body", html.UnescapeString(body[1]))
	}
	values.Set("blog", "main")
	return values
}

func (d *desk) wants(got answer, status int, texts ...string) {
	d.Helper()
	_, main, _ := strings.Cut(got.body, "</style>")
	if got.status != status {
		d.Errorf("status %d, want %d: %s", got.status, status, main)
	}
	for _, text := range texts {
		if !strings.Contains(got.body, text) {
			d.Errorf("no %q in %s", text, main)
		}
	}
}

func (d *desk) login(name, password string) answer {
	d.Helper()
	values := d.open("/admin/login")
	values.Set("name", name)
	values.Set("password", password)
	return d.send(http.MethodPost, "/admin/login", values.Encode())
}

// write saves a new entry.
func (d *desk) write(title, body string) url.Values {
	d.Helper()
	values := d.open("/admin/entries/new")
	values.Set("title", title)
	values.Set("body", body)
	if got := d.send(http.MethodPost, "/admin/entries", values.Encode()); got.status != 303 {
		d.Fatalf("%d %s", got.status, got.body)
	}
	return values
}

// One mongod serves all of these, because its start is what takes time. They come
// in order: who is not logged in first.
func TestBlogAndItsAdministrationOnARealMongod(t *testing.T) {
	d := startDesk(t)
	for _, part := range []struct {
		name string
		test func(*desk)
	}{
		{"nothing inside is shown or done without a login", strangers},
		{"a login sets a cookie that scripts cannot read", logins},
		{"what is written is found on every page", written},
		{"what is written in Consul is in force at once", configured},
		{"no page leads to a part that is switched off", partsSwitchedOff},
		{"a configuration that cannot be read goes on as it was, and its page says so", configurationUnread},
		{"reads are marked with the member that served them", readsMarked},
		{"what a visitor leaves is in no blog until somebody puts it there", visitors},
		{"bad input is refused in words and what was typed is kept", badInputs},
		{"a change over a change shows both", bothShown},
		{"a change over a change shows where the entry is, and where saving moves it", placesShown},
		{"what is deleted can be had back", undone},
		{"the outcome of a failed write is told and a second form stores once", outcomes},
		{"a conflict that cannot be shown is not said to be saved, perhaps", conflictsUnread},
		{"who has waited for a write does not wait for the list of blogs", waitsOnce},
		{"a form that is corrected after an unknown outcome is not dropped", correctedForms},
		{"a blog is made and is deleted and had back with its entries", blogs},
		{"an undo that cannot be done says why", undoneInVain},
		{"a change whose sender cannot be looked up was not tried", untried},
		{"a form kept from a login that had ended is stored after the next one", keptForms},
		{"bad addresses and searches lead nowhere", badAddresses},
		{"a page tells how long it took, and a login does not", tellsItsTime},
		{"a person works with it in a browser", inABrowser},
		{"the topology page is live in a browser", liveInABrowser},
		{"every page is held to what people need who see, hear or move otherwise", accessiblePages},
		{"without a primary the blog is read, says so, and keeps what is typed", leaderless},
		{"without a primary that can be elected a page does not wait for one", readsInVain},
		{"without a primary the administration is read from a secondary, at once", readOnlyDesk},
		{"a feed says nothing of a failure but when to come back", feedInTrouble},
		{"a form waits for a primary while its login is checked", askedAgain},
		{"a login that has ended changes nothing, whatever a secondary says", staleLogins},
		{"a login that cannot be read anywhere is not ended", uncheckedLogins},
		{"a new password ends every other login and a bad one is refused in words", passwords},
		{"a password that is changed is not said to be as it was", changedWithoutLogin},
		{"too many failed logins close the door, and the page says until when", throttledLogins},
		{"administrators are made, disabled and deleted, and never by themselves", administrators},
		{"a logout ends the session for good", logouts},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.test(d.at(t)) }) {
			return // the next part builds on this one
		}
	}
}

func leaderless(d *desk) {
	entry, named := d.open("/admin/entries/new"), d.open("/admin/blogs/new")
	entry.Set("title", "Typed in vain?")
	named.Set("name", "Named in vain?")
	gone := fmt.Errorf("dial: %w", mesh.ErrNoInstance)
	d.way.fail(gone)
	d.library.forget(gone)
	defer d.way.fail(nil)
	defer d.library.forget(nil)
	d.wants(d.send(http.MethodGet, "/blog/main", ""), 200, "no primary right now", "since <time", "read from <strong>"+d.member+" (mongo-secondary)")
	for path, form := range map[string]url.Values{"/admin/entries": entry, "/admin/blogs": named} {
		d.wants(d.send(http.MethodPost, path, form.Encode()), 503, "Nothing was saved. What you typed is below", " in vain?", form.Get("edit"), "no primary right now")
	}
	d.near.fail(gone)
	defer d.near.fail(nil)
	d.wants(d.send(http.MethodGet, "/admin", "", "Accept", "application/json"), 503, `"kind":"no_primary"`, `"problem":{"status":503`, `"kind":"session"`)
}

func strangers(d *desk) {
	for _, path := range []string{"/admin", "/admin/entries/new", "/admin/entries/x", "/admin/blogs", "/admin/blogs/new"} {
		if got := d.send(http.MethodGet, path, ""); got.status != 303 || got.header.Get("Location") != "/web/admin/login" {
			d.Errorf("%s: %d to %q", path, got.status, got.header.Get("Location"))
		}
	}
	token := d.open("/admin/login")
	for _, path := range []string{"/admin/entries", "/admin/entries/x/delete", "/admin/blogs", "/admin/blogs/main/delete", "/admin/logout"} {
		d.wants(d.send(http.MethodPost, path, token.Encode()), 401, "Your login has ended")
	}
	typed := url.Values{"csrf": {token.Get("csrf")}, "title": {"Typed for an hour"}, "body": {"all of it"}, "name": {"A name"}}
	d.wants(d.send(http.MethodPost, "/admin/entries", typed.Encode()), 401, "Nothing was saved. What you typed is below", "Typed for an hour", "all of it", `href="/web/admin/login" target="_blank"`)
	d.wants(d.send(http.MethodPost, "/admin/blogs", typed.Encode()), 401, "Nothing was saved. What you typed is below", "A name")
	d.wants(d.send(http.MethodPost, "/admin/login", "name=admin&password="+url.QueryEscape(adminPassword)), 403, "sent from another site")
	d.wants(d.send(http.MethodPost, "/admin/login", token.Encode(), "Sec-Fetch-Site", "cross-site"), 403)
	d.wants(d.login("admin", "wrong"), 401, "Name or password is wrong.", `value="admin"`)
	d.wants(d.login(`{"$gt":""}`, `{"$gt":""}`), 401, "Name or password is wrong.")
	d.wants(d.login("", ""), 401)
}

func logins(d *desk) {
	got := d.login("admin", adminPassword)
	cookie := got.header.Get("Set-Cookie")
	if all := strings.Join(got.header.Values("Set-Cookie"), "\n"); got.status != 303 || !strings.Contains(all, "sluice_session=") {
		d.Fatalf("%d %s", got.status, cookie)
	}
	for _, cookie := range got.header.Values("Set-Cookie") {
		for _, want := range []string{"HttpOnly", "SameSite=Lax", "Path=/web/admin"} {
			if !strings.Contains(cookie, want) {
				d.Errorf("%s: no %s", cookie, want)
			}
		}
	}
	page := d.send(http.MethodGet, "/admin", "")
	d.wants(page, 200, "Log out admin")
	if policy := page.header.Get("Content-Security-Policy"); strings.Contains(policy, "unsafe") || !strings.Contains(policy, "script") == strings.Contains(page.body, "<script") {
		d.Errorf("policy %q", policy)
	}
	if page.header.Get("X-Frame-Options") != "DENY" || page.header.Get("X-Content-Type-Options") != "nosniff" {
		d.Errorf("headers %v", page.header)
	}
}

func written(d *desk) {
	d.write("Über <Meshes>", "# Why\n\nSome *text* & <script>alert(1)</script> [x](javascript:alert(1))")
	entry := d.send(http.MethodGet, "/blog/main/ueber-meshes", "")
	d.wants(entry, 200, "Über &lt;Meshes&gt;", "<h2>Why</h2>", "<em>text</em>", "admin", "stored by web-web-1")
	if strings.Contains(entry.body, "<script") || strings.Contains(entry.body, "javascript:") {
		d.Error("a script is on the page")
	}
	d.wants(d.send(http.MethodGet, "/blog/main", ""), 200, "Field notes", "from the mesh", "Über &lt;Meshes&gt;", "/web/blog/main/ueber-meshes")
	d.wants(d.send(http.MethodGet, "/blog/main?q=MESH", ""), 200, "Über &lt;Meshes&gt;", `value="MESH"`)
	if got := d.send(http.MethodGet, "/blog", ""); got.status != 302 || got.header.Get("Location") != "/web/blog/main" {
		d.Errorf("%d to %q", got.status, got.header.Get("Location"))
	}
	got := d.send(http.MethodGet, "/blog/main/feed.atom", "")
	var feed struct {
		ID      string `xml:"id"`
		Updated string `xml:"updated"`
		Entries []struct {
			ID      string `xml:"id"`
			Title   string `xml:"title"`
			Content string `xml:"content"`
			Link    struct {
				Href string `xml:"href,attr"`
			} `xml:"link"`
		} `xml:"entry"`
	}
	if err := xml.Unmarshal([]byte(got.body), &feed); err != nil || len(feed.Entries) != 1 || feed.Entries[0].Title != "Über <Meshes>" ||
		!strings.Contains(feed.Entries[0].Content, "<em>text</em>") || feed.Entries[0].Link.Href != d.base+"/blog/main/ueber-meshes" {
		d.Errorf("%v: %s", err, got.body)
	}
	if _, err := time.Parse(time.RFC3339, feed.Updated); err != nil {
		d.Errorf("updated: %v", err)
	}
	wellNamed := regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	if len(feed.Entries) != 1 || !wellNamed.MatchString(feed.ID) || !wellNamed.MatchString(feed.Entries[0].ID) || feed.ID == feed.Entries[0].ID {
		d.Errorf("IDs in %s", got.body)
	}
	other := d.send(http.MethodGet, "/blog/main/feed.atom", "", "Host", "another.name.example")
	if again := regexp.MustCompile(`<id>[^<]*</id>`); !slices.Equal(again.FindAllString(got.body, -1), again.FindAllString(other.body, -1)) || !strings.Contains(other.body, "another.name.example") {
		d.Errorf("by another name the feed has other IDs: %s", other.body)
	}
	for i := range 22 {
		d.write(fmt.Sprintf("Paged %02d", i), "text")
	}
	d.wants(d.send(http.MethodGet, "/blog/main?q=paged", ""), 200, "Paged 21", "Paged 02", `rel="next" href="/web/blog/main?before=`)
	second := d.send(http.MethodGet, "/blog/main?q=paged&page=2", "")
	d.wants(second, 200, "Paged 01", "Paged 00", `rel="prev" href="/web/blog/main?after=`, `href="?page=2&amp;q=paged&amp;read=primary"`)
	if back := link(second.body, "prev"); back != "" {
		d.wants(d.send(http.MethodGet, strings.TrimPrefix(back, "/web"), ""), 200, "Paged 21", "Paged 02")
	}
	if strings.Contains(second.body, "Paged 02") || strings.Contains(second.body, "Older") {
		d.Error("the second page shows more than the rest")
	}
}

func badInputs(d *desk) {
	long := strings.Repeat("ä", site.MaxTitle+1)
	for _, test := range []struct {
		name   string
		change map[string]string
		header []string
		status int
		want   string
	}{
		{"no headline", map[string]string{"title": " "}, nil, 400, "The headline is missing."},
		{"no text", map[string]string{"body": ""}, nil, 400, "The text is missing."},
		{"long headline", map[string]string{"title": long}, nil, 400, "longer than 120"},
		{"long text", map[string]string{"body": strings.Repeat("ä", site.MaxText+1)}, nil, 400, "longer than 50000"},
		{"oversized", map[string]string{"body": strings.Repeat("x", 600<<10)}, nil, 413, "too large"},
		{"not UTF-8", map[string]string{"body": "a\xffb"}, nil, 400, "not valid text"},
		{"NUL in the headline", map[string]string{"title": "a\x00b"}, nil, 400, "control character"},
		{"a path as address", map[string]string{"slug": "../../etc/passwd"}, nil, 400, "An address is"},
		{"an operator as address", map[string]string{"slug": `{"$gt":""}`}, nil, 400, "An address is"},
		{"an address that is taken", map[string]string{"slug": "ueber-meshes"}, nil, 409, "Another entry of this blog has this address."},
		{"an operator as ID", map[string]string{"id": `{"$gt":""}`}, nil, 400, "not valid"},
		{"an operator as blog", map[string]string{"blog": `{"$ne":1}`}, nil, 400, "Choose a blog."},
		{"a blog that is not there", map[string]string{"blog": "none"}, nil, 400, "no such blog"},
		{"a revision below all", map[string]string{"revision": "-1"}, nil, 400, "not valid"},
		{"a revision that is none", map[string]string{"revision": "$inc"}, nil, 400, "not valid"},
		{"another content type", nil, []string{"Content-Type", "application/json"}, 415, "application/x-www-form-urlencoded"},
		{"no token", map[string]string{"csrf": ""}, nil, 403, "another site"},
		{"a wrong token", map[string]string{"csrf": "x"}, nil, 403, "another site"},
		{"from another site", nil, []string{"Sec-Fetch-Site", "cross-site"}, 403, "another site"},
	} {
		d.Run(test.name, func(t *testing.T) {
			d := d.at(t)
			values := d.open("/admin/entries/new")
			values.Set("title", `kept "headline"`)
			values.Set("body", "kept <text>")
			for key, value := range test.change {
				values.Set(key, value)
			}
			got := d.send(http.MethodPost, "/admin/entries", values.Encode(), test.header...)
			d.wants(got, test.status, test.want)
			if test.status == 400 || test.status == 409 {
				if test.change["title"] == "" && !strings.Contains(got.body, `kept &#34;headline&#34;`) && test.name != "no headline" {
					d.Error("the headline is gone")
				}
				if _, changed := test.change["body"]; !changed && !strings.Contains(got.body, "kept &lt;text&gt;") {
					d.Error("the text is gone")
				}
			}
		})
	}
	if page, err := d.store.Entries(d.Context(), blog.Query{Headline: "kept", Limit: 5}); err != nil || len(page.Entries) != 0 {
		d.Errorf("stored: %+v, %v", page, err)
	}
	d.write("Über <Meshes>", "the same headline gets an address of its own")
	values := d.open("/admin/entries/new")
	values.Set("title", "A preview")
	values.Set("body", "**bold**")
	values.Set("do", "preview")
	d.wants(d.send(http.MethodPost, "/admin/entries", values.Encode()), 200, "<strong>bold</strong>", "not saved yet", `value="A preview"`)
}

func bothShown(d *desk) {
	id := d.write("Shared", "as it was").Get("id")
	mine, theirs := d.open("/admin/entries/"+id), d.open("/admin/entries/"+id)
	theirs.Set("body", "as they left it")
	if got := d.send(http.MethodPost, "/admin/entries", theirs.Encode()); got.status != 303 {
		d.Fatal(got.status)
	}
	if got := d.send(http.MethodPost, "/admin/entries", theirs.Encode()); got.status != 303 {
		d.Errorf("the same form again: %d", got.status)
	}
	mine.Set("body", "as I want it")
	got := d.send(http.MethodPost, "/admin/entries", mine.Encode())
	d.wants(got, 409, "Somebody else has changed this entry", "as they left it", "as I want it")
	again := fields(got.body)
	if again.Get("body") != "as I want it" {
		d.Fatalf("the form has %q", again.Get("body"))
	}
	if got := d.send(http.MethodPost, "/admin/entries", again.Encode()); got.status != 303 {
		d.Errorf("knowingly: %d", got.status)
	}
	d.wants(d.send(http.MethodGet, "/blog/main/shared", ""), 200, "as I want it")
}

func undone(d *desk) {
	values := d.write("Fleeting", "text")
	id := values.Get("id")
	open := d.open("/admin/entries/" + id)
	if got := d.send(http.MethodPost, "/admin/entries/"+id+"/delete", values.Encode()); got.status != 303 {
		d.Fatal(got.status)
	}
	d.wants(d.send(http.MethodGet, "/blog/main/fleeting", ""), 404, "no such page")
	d.wants(d.send(http.MethodPost, "/admin/entries", open.Encode()), 410, "Somebody has deleted this entry")
	d.wants(d.send(http.MethodGet, "/admin", ""), 200, "“Fleeting” is deleted", "/web/admin/entries/"+id+"/undo")
	if got := d.send(http.MethodPost, "/admin/entries/"+id+"/undo", values.Encode()); got.status != 303 {
		d.Fatal(got.status)
	}
	d.wants(d.send(http.MethodGet, "/blog/main/fleeting", ""), 200, "Fleeting")
}

func outcomes(d *desk) {
	defer d.library.set(nil, nil)
	values := d.open("/admin/entries/new")
	values.Set("title", "Uncertain")
	values.Set("body", "text")
	d.library.set(denied("web", "mongo-primary"), nil)
	d.wants(d.send(http.MethodPost, "/admin/entries", values.Encode()), 503,
		"denied by intention web -> mongo-primary. Nothing was saved.", `value="Uncertain"`, values.Get("id"))
	d.library.set(nil, &blog.Error{Service: "mongo-primary", Way: mesh.ErrNoInstance, Driver: context.DeadlineExceeded})
	d.wants(d.send(http.MethodPost, "/admin/entries", values.Encode()), 503,
		"Whether it is saved is not known", values.Get("id"), values.Get("edit"))
	d.library.set(nil, nil)
	if got := d.send(http.MethodPost, "/admin/entries", values.Encode()); got.status != 303 {
		d.Errorf("again: %d %s", got.status, got.body)
	}
	if page, err := d.store.Entries(d.Context(), blog.Query{Headline: "Uncertain", Limit: 5}); err != nil || len(page.Entries) != 1 {
		d.Errorf("stored %d times, %v", len(page.Entries), err)
	}
	id := values.Get("id")
	d.library.set(denied("web", "mongo-primary"), nil)
	d.wants(d.send(http.MethodPost, "/admin/entries/"+id+"/delete", values.Encode()), 503, "denied by intention web -> mongo-primary. Nothing was changed.")
	unanswered := &blog.Error{Service: "mongo-primary", Way: mesh.ErrNoInstance, Driver: context.DeadlineExceeded}
	d.library.set(nil, unanswered)
	d.wants(d.send(http.MethodPost, "/admin/entries/"+id+"/delete", values.Encode()), 503, "Whether it is done is not known: look before you do it again.")
	added := d.send(http.MethodPost, "/admin/administrators", url.Values{"csrf": values["csrf"], "name": {"in-doubt"}}.Encode())
	d.wants(added, 503, "Whether the account is stored is not known. If it is, this is its password.", "in-doubt")
	d.library.set(nil, nil)
	password := regexp.MustCompile(`<code>([A-Z2-7]{26})</code>`).FindStringSubmatch(added.body)
	if password == nil {
		d.Fatalf("no password in %s", added.body)
	}
	if got := d.another(d.T).login("in-doubt", password[1]); got.status != 303 {
		d.Errorf("the account that was in doubt cannot log in: %d %s", got.status, got.body)
	}
	if got := d.send(http.MethodPost, "/admin/administrators/delete", url.Values{"csrf": values["csrf"], "name": {"in-doubt"}}.Encode()); got.status != 303 {
		d.Error(got.status)
	}
	d.keys.set("debug", "true")
	defer d.keys.set()
	mongotest.Wait(d.T, 5*time.Second, "a form tells the mesh's reason while debugging", func(context.Context) error {
		d.library.set(nil, unanswered)
		got := d.send(http.MethodPost, "/admin/entries", values.Encode(), "X-Request-Id", "one-of-ours")
		if !strings.Contains(got.body, "Request <code>one-of-ours</code>: <code>use mongo-primary: "+mesh.ErrNoInstance.Error()) {
			return errors.New(got.body)
		}
		return nil
	})
	if !strings.Contains(d.log.String(), `"msg":"cannot use the blog","request_id":"one-of-ours","destination":"mongo-primary"`) {
		d.Errorf("no line of the log has the request's ID: %s", d.log)
	}
}

func blogs(d *desk) {
	values := d.open("/admin/blogs/new")
	values.Set("name", "Side notes")
	values.Set("id", "")
	if got := d.send(http.MethodPost, "/admin/blogs", values.Encode()); got.status != 303 {
		d.Fatalf("%d %s", got.status, got.body)
	}
	d.wants(d.send(http.MethodGet, "/blog", ""), 200, "Field notes", "Side notes", "/web/blog/side-notes")
	values.Set("edit", strings.Repeat("0", 32))
	d.wants(d.send(http.MethodPost, "/admin/blogs", values.Encode()), 409, "Another blog has this address.", `value="Side notes"`)
	change := d.open("/admin/blogs/side-notes")
	change.Set("tagline", "as <I> want it")
	preview := maps.Clone(change)
	preview.Set("do", "preview")
	d.wants(d.send(http.MethodPost, "/admin/blogs", preview.Encode()), 200, "not saved yet", `<p class="tagline">as &lt;I&gt; want it</p>`, `value="as &lt;I&gt; want it"`)
	d.wants(d.send(http.MethodGet, "/blog/side-notes", ""), 200, "Side notes")
	theirs := maps.Clone(change)
	theirs.Set("tagline", "as they want it")
	theirs.Set("edit", strings.Repeat("7", 32))
	for _, form := range []url.Values{theirs, change} {
		form.Set("do", "save")
	}
	if got := d.send(http.MethodPost, "/admin/blogs", theirs.Encode()); got.status != 303 {
		d.Fatalf("%d %s", got.status, got.body)
	}
	conflict := d.send(http.MethodPost, "/admin/blogs", change.Encode())
	d.wants(conflict, 409, "Somebody else has changed this blog", "as they want it", `value="as &lt;I&gt; want it"`)
	if got := d.send(http.MethodGet, "/blog/side-notes", ""); !strings.Contains(got.body, "as they want it") || strings.Contains(got.body, "I&gt; want") {
		d.Errorf("the blog is not as they saved it: %s", got.body)
	}
	values.Set("name", strings.Repeat("x", 61))
	d.wants(d.send(http.MethodPost, "/admin/blogs", values.Encode()), 400, "longer than 60")
	inside := d.open("/admin/entries/new")
	for name, value := range map[string]string{"title": "Inside", "body": "text", "blog": "side-notes"} {
		inside.Set(name, value)
	}
	if got := d.send(http.MethodPost, "/admin/entries", inside.Encode()); got.status != 303 {
		d.Fatalf("%d %s", got.status, got.body)
	}
	for _, step := range []struct {
		do     string
		status int
	}{{"delete", 404}, {"undo", 200}, {"delete", 404}} {
		if got := d.send(http.MethodPost, "/admin/blogs/side-notes/"+step.do, values.Encode()); got.status != 303 {
			d.Errorf("%s: %d", step.do, got.status)
		}
		d.wants(d.send(http.MethodGet, "/blog/side-notes", ""), step.status)
		d.wants(d.send(http.MethodGet, "/blog/side-notes/inside", ""), step.status)
	}
	d.wants(d.send(http.MethodGet, "/admin/blogs", ""), 200, "“Side notes” is deleted with 1 entry")
	inside.Set("id", strings.Repeat("9", 32))
	d.wants(d.send(http.MethodPost, "/admin/entries", inside.Encode()), 400, "There is no such blog, or no longer.")
}

func badAddresses(d *desk) {
	for path, want := range map[string]int{
		"/blog/none": 404, "/blog/main/none": 404, "/blog/..%2f..%2fetc/passwd": 404, "/blog/main/%7B%22$gt%22:%22%22%7D": 404,
		"/blog/main/%ff": 404, "/blog/MAIN": 404, "/blog/main/a%00b": 404, "/admin/entries/%7B%22$gt%22:1%7D": 404, "/admin/none": 404,
		"/blog/main?page=-1": 200, "/blog/main?page=99999999999999999999": 200, "/blog/main?page=100000": 404, "/blog/main?page=51": 404, "/blog/main?page=50": 200, "/blog/main?before=x": 200, "/blog/main?before=1.%ff": 200, "/blog/main?after=99999999999999999999.a": 200, "/blog/main?before=-99999999999999.%7B%22$gt%22:1%7D": 200, "/blog/main?q=%ff%00": 200,
		"/blog/main?q[$gt]=": 200, "/blog/main?q=(a*)*%5B": 200, "/blog/main/feed.atom?q=%ff": 200,
	} {
		if got := d.send(http.MethodGet, path, ""); got.status != want {
			d.Errorf("%s: %d, want %d", path, got.status, want)
		}
	}
	d.wants(d.send(http.MethodPut, "/blog/main", "x"), 405)
	d.wants(d.send(http.MethodGet, "/none", "", "Accept", "text/html"), 404, "The blog is at /web/blog.")
}

func logouts(d *desk) {
	base, _ := url.Parse(d.base + "/admin")
	before := d.client.Jar.Cookies(base)
	values := d.open("/admin/entries/new")
	if got := d.send(http.MethodPost, "/admin/logout", values.Encode()); got.status != 303 {
		d.Fatal(got.status)
	}
	d.client.Jar.SetCookies(base, before)
	if got := d.send(http.MethodGet, "/admin", ""); got.status != 303 {
		d.Errorf("with the old cookie: %d", got.status)
	}
}
