package site

import (
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	uuid "github.com/hashicorp/go-uuid"
	"github.com/labstack/echo/v4"

	"sluice/web/blog"
)

const feedEntries = 20

// The Atom feed: RFC 4287.
type atomFeed struct {
	XMLName  xml.Name    `xml:"http://www.w3.org/2005/Atom feed"`
	Title    string      `xml:"title"`
	Subtitle string      `xml:"subtitle,omitempty"`
	ID       string      `xml:"id"`
	Updated  string      `xml:"updated"`
	Links    []atomLink  `xml:"link"`
	Entries  []atomEntry `xml:"entry"`
}

type atomLink struct {
	Rel  string `xml:"rel,attr"`
	Type string `xml:"type,attr"`
	Href string `xml:"href,attr"`
}

type atomEntry struct {
	Title     string   `xml:"title"`
	ID        string   `xml:"id"`
	Published string   `xml:"published"`
	Updated   string   `xml:"updated"`
	Author    string   `xml:"author>name"`
	Link      atomLink `xml:"link"`
	Content   atomText `xml:"content"`
}

type atomText struct {
	Type string `xml:"type,attr"`
	Text string `xml:",chardata"`
}

// feed answers with the newest entries as Atom.
func (s *Site) feed(c echo.Context) error {
	seen, _ := s.lookout.current()
	ctx, cancel := s.patience(c.Request().Context(), s.lookout.ways(seen).sight)
	defer cancel()
	c.SetRequest(c.Request().WithContext(ctx))
	b, err := s.ofBlog(c)
	if err != nil {
		return err
	}
	entries, err := s.entries(c, blog.Query{Blog: b.ID, Limit: feedEntries})
	if err != nil {
		return err
	}
	root := c.Scheme() + "://" + c.Request().Host
	updated := b.Updated
	feed := atomFeed{
		Title: b.Name, Subtitle: b.Tagline, ID: feedID("blog", b.ID, rfc3339(b.Created)),
		Links: []atomLink{
			{Rel: "self", Type: "application/atom+xml", Href: root + c.Request().URL.EscapedPath()},
			{Rel: "alternate", Type: "text/html", Href: root + s.cfg.Base + "/blog/" + b.ID},
		},
	}
	for _, entry := range entries.Entries {
		html, err := s.render(entry.Body)
		if err != nil {
			return err
		}
		feed.Entries = append(feed.Entries, atomEntry{
			Title: entry.Title, ID: feedID("entry", entry.ID), Author: or(entry.Author, "anonymous"),
			Published: rfc3339(entry.Created), Updated: rfc3339(entry.Updated),
			Link: atomLink{Rel: "alternate", Type: "text/html", Href: root + s.address(entry)}, Content: atomText{Type: "html", Text: string(html)},
		})
		if entry.Updated.After(updated) {
			updated = entry.Updated
		}
	}
	feed.Updated = rfc3339(updated)
	body, err := xml.MarshalIndent(feed, "", " ")
	if err != nil {
		return fmt.Errorf("%w: %w", errRender, err)
	}
	c.Response().Header().Set("Cache-Control", "no-cache")
	return c.Blob(http.StatusOK, "application/atom+xml; charset=utf-8", append([]byte(xml.Header), body...))
}

// feedID names a thing for ever, by whatever name web is reached and whichever blog
// an entry is moved to: a UUID made of what never changes of it (RFC 9562, version
// 8). With another ID a reader would show the entry as new.
func feedID(of ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(of, "\x00")))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	text, _ := uuid.FormatUUID(sum[:16]) // fails with another length alone
	return "urn:uuid:" + text
}

func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// feedLater answers a program that reads the feed when it cannot be had. Of all there
// is to say it understands one thing: to come back later. What an entry would say,
// it would keep for ever, and other errors it may take for the end of the feed.
func (s *Site) feedLater(c echo.Context, p *Problem) {
	var body strings.Builder
	fmt.Fprintf(&body, "%s\n%s\n", p.Title, p.Reason)
	for _, n := range s.notices() {
		fmt.Fprintf(&body, "! %s\n  %s\n", n.Title, n.Text)
	}
	c.Response().Header().Set("Retry-After", strconv.Itoa(retryAfter))
	c.Response().Header().Set("Cache-Control", "no-store")
	if err := c.String(http.StatusServiceUnavailable, body.String()); err != nil {
		s.logOf(c.Request().Context()).Error("cannot answer", "err", err)
	}
}
