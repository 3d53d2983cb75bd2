package site

import (
	"context"
	"encoding/xml"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"sluice/web/blog"
)

const (
	feedEntries = 20
	// maxPage keeps a request from making the database count without an end: it looks
	// at all that comes before a page that is counted.
	maxPage = 50
)

// listBlogs shows all blogs, or leads to the only one.
func (s *Site) listBlogs(c echo.Context) error {
	blogs, err := ask(c.Request().Context(), s.readingOf(c), func(ctx context.Context, from Reads) ([]blog.Blog, error) { return from.Blogs(ctx) })
	if err != nil {
		return err
	}
	if len(blogs) == 1 {
		return c.Redirect(http.StatusFound, s.cfg.Base+"/blog/"+blogs[0].ID)
	}
	page := s.paper(c, "Blogs")
	page.Blogs = blogs
	return s.print(c, http.StatusOK, "index", page)
}

// ofBlog returns the blog that the path names.
func (s *Site) ofBlog(c echo.Context) (*blog.Blog, error) {
	id := c.Param("blog")
	if !blog.ValidSlug(id) {
		return nil, blog.ErrNotFound
	}
	b, err := ask(c.Request().Context(), s.readingOf(c), func(ctx context.Context, from Reads) (blog.Blog, error) { return from.Blog(ctx, id) })
	return &b, err
}

// listEntries shows a page of a blog's entries.
func (s *Site) listEntries(c echo.Context) error {
	b, err := s.ofBlog(c)
	if err != nil {
		return err
	}
	page := s.paper(c, b.Name)
	page.Blog = b
	if err := s.fill(c, &page, b.ID); err != nil {
		return err
	}
	return s.print(c, http.StatusOK, "list", page)
}

// fill reads the entries that the request asks for: "q" is searched for in
// headlines, "before" and "after" are marks. blogID "" is every blog.
func (s *Site) fill(c echo.Context, page *paper, blogID string) error {
	page.SearchAt = c.Request().URL.Path
	page.Search = searchText(c.QueryParam("q"))
	query := blog.Query{Blog: blogID, Headline: page.Search, Limit: perPage}
	newest := query
	if err := place(c, &query); err != nil {
		return err
	}
	entries, err := s.entries(c, query)
	if err == nil && query.After != nil && !entries.Newer {
		entries, err = s.entries(c, newest) // the newest page is full
	}
	if err != nil {
		return err
	}
	for _, entry := range entries.Entries {
		page.Items = append(page.Items, item{Entry: entry, URL: s.address(entry), Excerpt: s.press.markdown.Excerpt(entry.Body, excerptChars)})
	}
	if n := len(entries.Entries); n > 0 && entries.More {
		page.Older = pageAddress(page.SearchAt, page.Search, "before", entries.Entries[n-1].Mark())
	}
	switch {
	case len(entries.Entries) > 0 && entries.Newer:
		page.Newer = pageAddress(page.SearchAt, page.Search, "after", entries.Entries[0].Mark())
	case entries.Newer:
		page.Newer = pageAddress(page.SearchAt, page.Search, "", blog.Mark{})
	}
	return nil
}

// entries reads as the request wants to.
func (s *Site) entries(c echo.Context, q blog.Query) (blog.Page, error) {
	return ask(c.Request().Context(), s.readingOf(c), func(ctx context.Context, from Reads) (blog.Page, error) { return from.Entries(ctx, q) })
}

// searchText returns what of a search can be in a headline.
func searchText(q string) string {
	q = strings.TrimSpace(strings.ReplaceAll(strings.ToValidUTF8(q, ""), "\x00", ""))
	if utf8.RuneCountInString(q) > MaxTitle {
		q = string([]rune(q)[:MaxTitle])
	}
	return q
}

// address is where an entry is shown; "" for one that is in no blog.
func (s *Site) address(entry blog.Entry) string {
	if entry.Blog == blog.Visitors {
		return ""
	}
	return s.cfg.Base + "/blog/" + url.PathEscape(entry.Blog) + "/" + url.PathEscape(entry.Slug)
}

// showEntry shows one entry.
func (s *Site) showEntry(c echo.Context) error {
	b, err := s.ofBlog(c)
	if err != nil {
		return err
	}
	slug := c.Param("slug")
	if !blog.ValidSlug(slug) {
		return blog.ErrNotFound
	}
	entry, err := ask(c.Request().Context(), s.readingOf(c), func(ctx context.Context, from Reads) (blog.Entry, error) { return from.EntryBySlug(ctx, b.ID, slug) })
	if err != nil {
		return err
	}
	page := s.paper(c, entry.Title)
	page.Blog = b
	html, err := s.render(entry.Body)
	if err != nil {
		return err
	}
	page.Item = &item{Entry: entry, HTML: html, URL: s.address(entry)}
	return s.print(c, http.StatusOK, "entry", page)
}

func (s *Site) render(body string) (template.HTML, error) {
	html, err := s.press.markdown.Render(body)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errRender, err)
	}
	return html, nil
}

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
		Title: b.Name, Subtitle: b.Tagline, ID: root + s.cfg.Base + "/blog/" + b.ID,
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
			Title: entry.Title, ID: root + s.cfg.Base + "/blog/" + b.ID + "#" + entry.ID, Author: or(entry.Author, "anonymous"),
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

func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }
