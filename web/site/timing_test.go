package site_test

import (
	"net/http"
	"net/url"
	"regexp"
)

// tellsItsTime: the list reads from the database, and the login page does not.
func tellsItsTime(d *desk) {
	for path, want := range map[string]string{
		"/blog/main":   `^db;dur=(0\.\d*[1-9]|[1-9]\d*\.)\d*, total;dur=[\d.]+$`,
		"/admin/login": `^db;dur=0\.000, total;dur=[\d.]+$`,
	} {
		if got := d.send(http.MethodGet, path, "").header.Get("Server-Timing"); !regexp.MustCompile(want).MatchString(got) {
			d.Errorf("%s: Server-Timing is %q, want %s", path, got, want)
		}
	}
	form := url.Values{"name": {"nobody"}, "password": {"wrong"}}.Encode()
	answer := d.send(http.MethodPost, "/admin/login", form, "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
	if answer.status != http.StatusUnauthorized || answer.header.Get("Server-Timing") != "" {
		d.Errorf("a login is answered with %d, Server-Timing %q", answer.status, answer.header.Get("Server-Timing"))
	}
}
