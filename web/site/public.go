package site

import (
	"context"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"sluice/web/blog"
)

const (
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
