package site_test

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/mesh"
	"sluice/web/blog"
)

func (f *failing) ChangePassword(ctx context.Context, change blog.PasswordChange) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	secret, err := f.Library.ChangePassword(ctx, change)
	if err == nil && f.after != nil {
		return "", &blog.NoLoginError{Err: f.after}
	}
	return secret, err
}

func unanswered() error {
	return &blog.Error{Service: "mongo-primary", Way: mesh.ErrNoInstance, Driver: context.DeadlineExceeded}
}

// post sends a form and expects a way on.
func (d *desk) post(path string, form url.Values) {
	d.Helper()
	if got := d.send(http.MethodPost, path, form.Encode()); got.status != 303 {
		d.Errorf("%s: %d %s", path, got.status, got.body)
	}
}

// correctedForms: what is sent again after an unknown outcome is stored, or shown beside
// what is stored; it is never said to be saved when it is not.
func correctedForms(d *desk) {
	form := d.open("/admin/entries/new")
	form.Set("title", "Über <Meshes>") // so that its address gets an end of its own
	form.Set("body", "with a mistake")
	d.library.set(nil, unanswered())
	got := d.send(http.MethodPost, "/admin/entries", form.Encode())
	d.library.set(nil, nil)
	d.wants(got, 503, "Whether it is saved is not known")
	kept := fields(got.body)
	d.post("/admin/entries", kept)
	kept.Set("body", "without it")
	got = d.send(http.MethodPost, "/admin/entries", kept.Encode())
	d.wants(got, 409, "This form was saved before, with other words", "with a mistake", "without it")
	d.post("/admin/entries", fields(got.body))
	if stored, err := d.store.Entry(d.Context(), form.Get("id")); err != nil || stored.Body != "without it" {
		d.Errorf("stored: %+v, %v", stored, err)
	}
	named := d.open("/admin/blogs/new")
	named.Set("name", "With a mistake")
	named.Set("id", "corrected")
	d.post("/admin/blogs", named)
	named.Set("name", "Without it")
	got = d.send(http.MethodPost, "/admin/blogs", named.Encode())
	d.wants(got, 409, "This form was saved before, with other words", "With a mistake", `value="Without it"`)
	d.post("/admin/blogs", fields(got.body))
	if stored, err := d.store.Blog(d.Context(), "corrected"); err != nil || stored.Name != "Without it" {
		d.Errorf("stored: %+v, %v", stored, err)
	}
	d.post("/admin/blogs/corrected/delete", named)
	named.Set("revision", "2")
	d.wants(d.send(http.MethodPost, "/admin/blogs", named.Encode()), 410, "Somebody has deleted this blog", "Nothing was saved")
}

// undoneInVain: an undo that cannot be done says why, and that it is no fault of web.
func undoneInVain(d *desk) {
	blogs := d.open("/admin/blogs/new")
	blogs.Set("name", "Vain")
	blogs.Set("id", "vain")
	d.post("/admin/blogs", blogs)
	entry := d.open("/admin/entries/new")
	maps.Copy(entry, url.Values{"title": {"In vain"}, "body": {"x"}, "blog": {"vain"}})
	d.post("/admin/entries", entry)
	undo := "/admin/entries/" + entry.Get("id") + "/undo"
	d.post("/admin/entries/"+entry.Get("id")+"/delete", entry)
	d.post("/admin/blogs/vain/delete", blogs)
	d.wants(d.send(http.MethodPost, undo, entry.Encode()), 409, "Its blog is deleted, too", "undo the deletion of the blog first. Nothing was changed.")
	d.post("/admin/blogs/vain/undo", blogs)
	other := d.open("/admin/entries/new")
	maps.Copy(other, url.Values{"title": {"In vain"}, "body": {"another"}, "blog": {"vain"}, "slug": {"in-vain"}})
	d.post("/admin/entries", other)
	d.wants(d.send(http.MethodPost, undo, entry.Encode()), 409, "Its address is taken", "Nothing was changed.")
	d.post("/admin/entries/"+other.Get("id")+"/delete", other)
	d.post(undo, entry)
	early := time.Now().Add(-2 * blog.UndoFor)
	if err := d.store.DeleteEntry(d.Context(), entry.Get("id"), early); err != nil {
		d.Fatal(err)
	}
	d.wants(d.send(http.MethodPost, undo, entry.Encode()), 410, "It is too late", "can be had back for a minute. Nothing was changed.")
	if err := d.store.DeleteBlog(d.Context(), "vain", early); err != nil {
		d.Fatal(err)
	}
	d.wants(d.send(http.MethodPost, "/admin/blogs/vain/undo", blogs.Encode()), 410, "It is too late")
}

// untried: a change whose sender cannot be looked up was not tried, whatever the
// database says, and the page says so.
func untried(d *desk) {
	form := url.Values{"csrf": {d.open("/admin/entries/new").Get("csrf")}, "name": {"somebody"}}
	defer d.library.forget(nil)
	for _, path := range []string{"/admin/entries/x/delete", "/admin/entries/x/undo", "/admin/blogs/main/delete", "/admin/administrators", "/admin/administrators/delete", "/admin/password"} {
		d.library.forget(unanswered())
		got := d.send(http.MethodPost, path, form.Encode())
		d.wants(got, 503, "Nothing was changed.")
		if strings.Contains(got.body, "is not known") {
			d.Errorf("%s: what was not tried is said to be unknown: %s", path, got.body)
		}
		d.library.forget(blog.ErrNotFound)
		got = d.send(http.MethodPost, path, form.Encode())
		d.wants(got, 401, "Your login has ended", "Nothing was changed.")
		if strings.Contains(got.body, "send the form again") {
			d.Errorf("%s: there is no form to send again: %s", path, got.body)
		}
	}
	d.library.forget(nil)
	d.wants(d.manage("/disable", "nobody-of-this-name"), 404, "There is no such administrator, or no longer. Nothing was changed.")
}

// keptForms: a form that comes back because the login had ended is stored after a new
// login, once.
func keptForms(d *desk) {
	late := d.another(d.T)
	if got := late.login("admin", adminPassword); got.status != 303 {
		d.Fatal(got.status)
	}
	entry, named := late.open("/admin/entries/new"), late.open("/admin/blogs/new")
	maps.Copy(entry, url.Values{"title": {"Typed before the end"}, "body": {"of the login"}})
	maps.Copy(named, url.Values{"name": {"Named before the end"}, "id": {"before-the-end"}})
	late.post("/admin/logout", entry)
	kept := map[string]url.Values{}
	for path, form := range map[string]url.Values{"/admin/entries": entry, "/admin/blogs": named} {
		got := late.send(http.MethodPost, path, form.Encode())
		d.wants(got, 401, "Your login has ended", "Nothing was saved.")
		kept[path] = fields(got.body)
	}
	if got := late.login("admin", adminPassword); got.status != 303 {
		d.Fatal(got.status)
	}
	for path, form := range kept {
		late.post(path, form)
		late.post(path, form)
	}
	if stored, err := d.store.Entry(d.Context(), entry.Get("id")); err != nil || stored.Title != "Typed before the end" || stored.Body != "of the login" || stored.Revision != 1 {
		d.Errorf("stored: %+v, %v", stored, err)
	}
	if stored, err := d.store.Blog(d.Context(), "before-the-end"); err != nil || stored.Name != "Named before the end" {
		d.Errorf("stored: %+v, %v", stored, err)
	}
	late.post("/admin/blogs/before-the-end/delete", named)
}

// changedWithoutLogin: a password that is changed is not said to be as it was because no
// new login could be stored.
func changedWithoutLogin(d *desk) {
	const chosen = "another one, chosen"
	d.library.set(nil, denied("web", "mongo-primary"))
	got := d.change(adminPassword, chosen, chosen)
	d.library.set(nil, nil)
	d.wants(got, 200, "Your password is changed", "Log in with the new password.", `action="/web/admin/login"`)
	if cookies := strings.Join(got.header.Values("Set-Cookie"), "; "); !strings.Contains(cookies, "sluice_session=;") {
		d.Errorf("the login that has ended is kept: %q", cookies)
	}
	if log := d.log.String(); !strings.Contains(log, `"msg":"administrators changed"`) || !strings.Contains(log, `"outcome":"acked"`) {
		d.Errorf("the log does not say that it is changed: %s", log)
	}
	d.wants(d.login("admin", adminPassword), 401)
	if got := d.login("admin", chosen); got.status != 303 {
		d.Fatalf("with the new password: %d", got.status)
	}
	if got := d.change(chosen, adminPassword, adminPassword); got.status != 303 {
		d.Fatal("not changed back")
	}
}

// refusals returns every refusal of package blog by its name.
func refusals(t *testing.T) map[string]blog.Refusal {
	t.Helper()
	files, err := filepath.Glob("../blog/*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]blog.Refusal{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, is := n.(*ast.ValueSpec)
			if !is || !strings.HasPrefix(spec.Names[0].Name, "Err") {
				return true
			}
			kind, _ := spec.Type.(*ast.Ident)
			text, literal := spec.Values[0].(*ast.BasicLit)
			if kind == nil || kind.Name != "Refusal" || !literal {
				t.Errorf("%s: %s is no Refusal: nothing tells what became of it", name, spec.Names[0].Name)
				return true
			}
			words, err := strconv.Unquote(text.Value)
			if err != nil {
				t.Error(err)
			}
			found[spec.Names[0].Name] = blog.Refusal(words)
			return true
		})
	}
	if len(found) < 10 {
		t.Fatalf("found %v only", found)
	}
	return found
}

func TestEveryRefusalOfTheBlogHasWordsAndIsNoFaultOfWeb(t *testing.T) {
	l := start(t)
	for name, refused := range refusals(t) {
		l.primary.fail(fmt.Errorf("wrapped: %w", refused))
		got := l.post(form("Title", "Text"))
		if got.status < 400 || got.status >= 500 || strings.Contains(got.body, "This was refused") || strings.Contains(got.body, "gave no usable answer") {
			t.Errorf("%s: %d, and no words of its own: %s", name, got.status, got.body)
		}
		if outcome := blog.OutcomeOf(refused); outcome != blog.Refused {
			t.Errorf("%s: %v", name, outcome)
		}
	}
}
