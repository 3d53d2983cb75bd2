package site_test

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"sluice/web/blog"
)

// another is somebody else in front of the same blog.
func (d *desk) another(t *testing.T) *desk {
	other := d.at(t)
	client := *d.client
	client.Jar, _ = cookiejar.New(nil)
	other.client = &client
	return other
}

func (d *desk) change(old, chosen, again string) answer {
	d.Helper()
	values := d.open("/admin/password")
	values.Set("old", old)
	values.Set("new", chosen)
	values.Set("again", again)
	return d.send(http.MethodPost, "/admin/password", values.Encode())
}

func passwords(d *desk) {
	other := d.another(d.T)
	if got := other.login("admin", adminPassword); got.status != 303 {
		d.Fatal(got.status)
	}
	const chosen = "a new password, chosen"
	for _, test := range []struct {
		name, old, chosen, again string
		status                   int
		want                     string
	}{
		{"another old one", "wrong", chosen, chosen, 403, "This is not your password."},
		{"no old one", "", chosen, chosen, 400, "The password that you have now is missing."},
		{"short", adminPassword, "elevenchars", "elevenchars", 400, "shorter than 12 characters"},
		{"beyond what bcrypt reads", adminPassword, strings.Repeat("ä", 37), strings.Repeat("ä", 37), 400, "74 bytes long; only 72 of them would count"},
		{"the same", adminPassword, adminPassword, adminPassword, 400, "the password that you have now"},
		{"not the same twice", adminPassword, chosen, chosen + "!", 400, "The two are not the same."},
		{"no text", adminPassword, "a password \xff of bytes", "a password \xff of bytes", 400, "not valid text"},
	} {
		got := d.change(test.old, test.chosen, test.again)
		d.wants(got, test.status, test.want)
		for _, secret := range []string{test.chosen, adminPassword} {
			if _, main, _ := strings.Cut(got.body, "<main"); strings.Contains(main, `"`+secret+`"`) {
				d.Errorf("%s: a password is on the page", test.name)
			}
		}
	}
	values := d.open("/admin/password")
	values.Set("old", adminPassword)
	values.Set("new", chosen)
	values.Set("again", chosen)
	values.Del("csrf")
	d.wants(d.send(http.MethodPost, "/admin/password", values.Encode()), 403)
	d.wants(other.send(http.MethodGet, "/admin", ""), 200)
	if got := d.change(adminPassword, chosen, chosen); got.status != 303 {
		d.Fatalf("%d %s", got.status, got.body)
	}
	d.wants(d.send(http.MethodGet, "/admin", ""), 200, "Log out admin")
	if got := other.send(http.MethodGet, "/admin", ""); got.status != 303 {
		d.Errorf("the other login goes on: %d", got.status)
	}
	d.wants(other.login("admin", adminPassword), 401)
	if got := d.change(chosen, adminPassword, adminPassword); got.status != 303 {
		d.Fatal("not changed back")
	}
}

// throttledLogins: the eleventh try from an address is refused, a right password too,
// with when to come back; so is a change of a password, which could be used to guess.
func throttledLogins(d *desk) {
	address := []string{"X-Forwarded-For", "192.0.2.77"}
	stranger := d.another(d.T)
	try := func(password string, header ...string) answer {
		d.Helper()
		values := stranger.open("/admin/login")
		values.Set("name", "admin")
		values.Set("password", password)
		return stranger.send(http.MethodPost, "/admin/login", values.Encode(), header...)
	}
	for range blog.MaxAttempts {
		d.wants(try("wrong", address...), 401, "Name or password is wrong.")
	}
	password := d.open("/admin/password")
	password.Set("old", adminPassword)
	password.Set("new", "never to be stored")
	password.Set("again", "never to be stored")
	for what, refused := range map[string]answer{
		"a login": try(adminPassword, address...), "a change": d.send(http.MethodPost, "/admin/password", password.Encode(), address...),
	} {
		d.wants(refused, 429, `role="alert"`, "Too many logins have failed. Try again in a quarter of an hour.")
		if again, cookies := refused.header.Get("Retry-After"), strings.Join(refused.header.Values("Set-Cookie"), "; "); again != "900" || strings.Contains(cookies, "sluice_session") {
			d.Errorf("%s: Retry-After %q, Set-Cookie %q", what, again, cookies)
		}
	}
	if got := try(adminPassword, "X-Forwarded-For", "192.0.2.78"); got.status != 303 {
		d.Errorf("from another address: %d", got.status)
	}
}

// manage sends a form of the page of the administrators.
func (d *desk) manage(action, name string) answer {
	d.Helper()
	form := url.Values{"csrf": {d.open("/admin/administrators").Get("csrf")}, "name": {name}}
	return d.send(http.MethodPost, "/admin/administrators"+action, form.Encode())
}

func administrators(d *desk) {
	for name, want := range map[string]string{"": "missing", "Über": "lower-case", "admin": "an administrator of this name", "a b": "lower-case", strings.Repeat("a", 65): "longer than 64"} {
		got := d.manage("", name)
		if got.status != 400 && got.status != 409 || !strings.Contains(got.body, want) {
			d.Errorf("%q: %d", name, got.status)
		}
	}
	made := d.manage("", "second")
	d.wants(made, 200, "shown this once", "has not logged in yet")
	found := regexp.MustCompile(`<pre[^>]*><code>(\w{20,})</code>`).FindStringSubmatch(made.body)
	if found == nil || made.header.Get("Cache-Control") != "no-store" {
		d.Fatalf("no password, or it may be kept: %v", made.header)
	}
	password := found[1]
	if got := d.send(http.MethodGet, "/admin/administrators", ""); strings.Contains(got.body, password) {
		d.Error("the password is shown again")
	}
	second := d.another(d.T)
	if got := second.login("second", password); got.status != 303 {
		d.Fatal(got.status)
	}
	token := second.open("/admin/password").Get("csrf")
	for _, path := range []string{"/admin", "/admin/entries/new", "/admin/administrators"} {
		if got := second.send(http.MethodGet, path, ""); got.status != 303 || got.header.Get("Location") != "/web/admin/password" {
			d.Errorf("%s before the password is changed: %d", path, got.status)
		}
	}
	early := url.Values{"csrf": {token}, "name": {"admin"}}
	if got := second.send(http.MethodPost, "/admin/administrators/disable", early.Encode()); got.header.Get("Location") != "/web/admin/password" {
		d.Errorf("a change before that: %d", got.status)
	}
	if got := second.change(password, "the second's own words", "the second's own words"); got.status != 303 {
		d.Fatalf("%d %s", got.status, got.body)
	}
	d.wants(second.send(http.MethodGet, "/admin", ""), 200, "Log out second")
	for _, do := range []string{"/disable", "/delete"} {
		d.wants(second.manage(do, "second"), 409, "Nobody disables or deletes himself")
	}
	if got := second.manage("/disable", "admin"); got.status != 303 {
		d.Fatal(got.status)
	}
	if got := d.send(http.MethodGet, "/admin", ""); got.status != 303 {
		d.Errorf("the login of somebody who is disabled: %d", got.status)
	}
	d.wants(d.login("admin", adminPassword), 401, "Name or password is wrong.")
	if got := second.manage("/enable", "admin"); got.status != 303 {
		d.Fatal(got.status)
	}
	if got := d.login("admin", adminPassword); got.status != 303 {
		d.Fatal(got.status)
	}
	form := url.Values{"csrf": {d.open("/admin/administrators").Get("csrf")}, "name": {"second"}}
	d.wants(d.send(http.MethodPost, "/admin/administrators/delete", url.Values{"name": {"second"}}.Encode()), 403)
	if got := d.send(http.MethodPost, "/admin/administrators/delete", form.Encode()); got.status != 303 {
		d.Fatal(got.status)
	}
	if got := second.send(http.MethodGet, "/admin", ""); got.status != 303 {
		d.Errorf("the login of somebody who is deleted: %d", got.status)
	}
	if left, err := d.store.Administrators(d.Context()); err != nil || len(left) != 1 || left[0] != (blog.Administrator{Name: "admin", Created: left[0].Created}) {
		d.Errorf("%+v, %v", left, err)
	}
}
