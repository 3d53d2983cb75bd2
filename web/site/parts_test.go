package site_test

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"sluice/internal/mongotest"
)

// partOf is the part of web that an address belongs to.
func partOf(address string) string {
	switch {
	case strings.HasPrefix(address, "/web/admin"):
		return "admin"
	case strings.HasSuffix(address, "/feed.atom"):
		return "feed"
	case strings.HasPrefix(address, "/web/blog"):
		return "blog"
	default:
		return "topology"
	}
}

// partsSwitchedOff looks at pages under every choice of parts. Neither links nor words
// lead to one that is switched off, and the words of a page that is not there lead to
// one that is.
func partsSwitchedOff(d *desk) {
	defer d.keys.set()
	address := regexp.MustCompile(`["\s…](/web\b[^"\s<?&]*)`)
	for apps, way := range map[string]string{
		"admin": "The administration is at /web/admin.", "blog": "The blog is at /web/blog.", "topology": "The topology page is at /web.",
		"blog admin": "The blog is at /web/blog.", "admin topology": "The topology page is at /web.", "blog feed": "The blog is at /web/blog.",
		"blog topology": "The blog is at /web/blog.", "admin feed": "The administration is at /web/admin.", "blog admin topology": "The blog is at /web/blog.",
	} {
		d.keys.set("installed_apps", apps)
		mongotest.Wait(d.T, 5*time.Second, "the setting is in force", func(context.Context) error {
			if d.live.Current().Index != d.keys.Written().Index {
				return errors.New("it is not")
			}
			return nil
		})
		for _, path := range []string{
			"", "/none", "/blog", "/blog/main", "/blog/main/ueber-meshes", "/blog/main?q=nothing+has+that", "/blog/none", "/blog/none/feed.atom",
			"/admin", "/admin/blogs", "/admin/blogs/none", "/admin/entries/new", "/admin/login", "/admin/password", "/admin/configuration",
		} {
			for _, accept := range []string{"text/html", "application/json", "*/*"} {
				got := d.send(http.MethodGet, path, "", "Accept", accept)
				for _, found := range address.FindAllStringSubmatch(got.body, -1) {
					if part := partOf(found[1]); !slices.Contains(strings.Fields(apps), part) {
						d.Errorf("with %q, %s (%s, %d) leads to %s", apps, path, accept, got.status, found[1])
					}
				}
				if path == "/none" && !strings.Contains(got.body, way) {
					d.Errorf("with %q, no %q in %s", apps, way, got.body)
				}
			}
		}
	}
}

// placesShown has somebody move an entry while somebody else changes its text.
func placesShown(d *desk) {
	form := d.open("/admin/blogs/new")
	form.Set("name", "Elsewhere")
	d.wants(d.send(http.MethodPost, "/admin/blogs", form.Encode()), 303)
	id := d.write("Moved meanwhile", "text").Get("id")
	for name, row := range map[string]struct{ blog, slug, mySlug, at, saving string }{
		"to another address":         {"main", "another", "moved-meanwhile", "main/another", "Saving yours moves it to main/moved-meanwhile."},
		"to another blog":            {"elsewhere", "moved-meanwhile", "moved-meanwhile", "elsewhere/moved-meanwhile", "Saving yours moves it to main/moved-meanwhile."},
		"where the headline puts it": {"elsewhere", "moved-meanwhile", "", "elsewhere/moved-meanwhile", "Saving yours moves it to main, to an address that is made of your headline."},
		"nowhere":                    {"main", "moved-meanwhile", "moved-meanwhile", "main/moved-meanwhile", ""},
		"nowhere, by its headline":   {"main", "moved-meanwhile", "", "main/moved-meanwhile", ""},
	} {
		mine, theirs := d.open("/admin/entries/"+id), d.open("/admin/entries/"+id)
		theirs.Set("blog", row.blog)
		theirs.Set("slug", row.slug)
		d.wants(d.send(http.MethodPost, "/admin/entries", theirs.Encode()), 303)
		mine.Set("slug", row.mySlug)
		got := d.send(http.MethodPost, "/admin/entries", mine.Encode())
		d.wants(got, 409, "<code>"+row.at+"</code>", row.saving)
		if row.saving == "" && strings.Contains(got.body, "Saving yours moves it") {
			d.Errorf("%s: saving moves it: %s", name, got.body)
		}
		knowingly := fields(got.body)
		knowingly.Set("slug", "moved-meanwhile")
		d.wants(d.send(http.MethodPost, "/admin/entries", knowingly.Encode()), 303)
	}
	d.wants(d.send(http.MethodPost, "/admin/entries/"+id+"/delete", form.Encode()), 303)
	d.wants(d.send(http.MethodPost, "/admin/blogs/elsewhere/delete", form.Encode()), 303)
}

// askedAgain has the primary come back while a form's login is checked.
func askedAgain(d *desk) {
	form := d.open("/admin/entries/new")
	form.Set("title", "Held while its login was checked")
	form.Set("body", "text")
	d.library.forgetOnce(errGone)
	d.wants(d.send(http.MethodPost, "/admin/entries", form.Encode()), 303)
}
