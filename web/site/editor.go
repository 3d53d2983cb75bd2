package site

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/web/blog"
)

// MaxText is the greatest length of a text that an administrator writes, in
// characters.
const MaxText = 50_000

// draft is an entry as it is being written.
type draft struct {
	ID, Edit, Blog, Slug, Author, Title, Body string
	// Revision is the one that is being changed; 0 is a new entry.
	Revision int64
}

// adminEntries lists the entries of all blogs, and those that can be had back.
func (s *Site) adminEntries(c echo.Context) error {
	page := s.paper(c, "Entries")
	if err := s.fill(c, &page, ""); err != nil {
		return err
	}
	deleted, err := s.desk(c).Deleted(c.Request().Context(), s.cfg.Now())
	if err != nil {
		return err
	}
	for _, entry := range deleted {
		page.Deleted = append(page.Deleted, goner{entry, entry.Deleted.Add(blog.UndoFor)})
	}
	return s.print(c, http.StatusOK, "admin", page)
}

func (s *Site) newEntry(c echo.Context) error {
	page := s.paper(c, "New entry")
	page.Draft = draft{ID: newID(), Edit: newID(), Blog: c.QueryParam("blog")}
	return s.printEditor(c, http.StatusOK, page)
}

func (s *Site) editEntry(c echo.Context) error {
	entry, err := s.desk(c).Entry(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	page := s.paper(c, "Edit "+entry.Title)
	page.Draft = draft{
		ID: entry.ID, Edit: newID(), Blog: entry.Blog, Slug: entry.Slug, Title: entry.Title, Body: entry.Body, Revision: entry.Revision,
	}
	return s.printEditor(c, http.StatusOK, page)
}

// printEditor answers with the form. Without the database it shows the draft all
// the same.
func (s *Site) printEditor(c echo.Context, status int, page paper) error {
	ctx, cancel := s.soon(c, page.Problem)
	defer cancel()
	blogs, err := s.desk(c).Blogs(ctx)
	if err != nil && page.Problem == nil {
		page.Problem = s.paperProblem(c, err)
	}
	if err != nil {
		blogs = []blog.Blog{{ID: page.Draft.Blog, Name: page.Draft.Blog}}
	}
	page.Blogs = blogs
	return s.print(c, status, "editor", page)
}

// soon bounds what a page reads beside a problem: whoever has waited for a change does
// not wait again for less.
func (s *Site) soon(c echo.Context, beside *Problem) (context.Context, context.CancelFunc) {
	if beside == nil {
		return c.Request().Context(), func() {}
	}
	return context.WithTimeout(c.Request().Context(), checkTimeout)
}

// saveEntry answers the editor's form: it saves or shows a preview.
func (s *Site) saveEntry(c echo.Context) error {
	page := s.paper(c, "Write")
	page.Draft = readDraft(c)
	page.Wrong = checkDraft(page.Draft)
	if len(page.Wrong) > 0 {
		return s.printEditor(c, http.StatusBadRequest, page)
	}
	if c.FormValue("do") == "preview" {
		html, err := s.render(page.Draft.Body)
		if err != nil {
			return err
		}
		page.Preview = html
		return s.printEditor(c, http.StatusOK, page)
	}
	err := s.store(c, page.Draft, page.User)
	switch {
	case err == nil:
		return c.Redirect(http.StatusSeeOther, s.cfg.Base+"/admin")
	case errors.Is(err, blog.ErrSlugTaken):
		page.Wrong = map[string]string{"slug": "Another entry of this blog has this address."}
		return s.printEditor(c, http.StatusConflict, page)
	case errors.Is(err, blog.ErrNoBlog):
		page.Wrong = map[string]string{"blog": "There is no such blog, or no longer."}
		return s.printEditor(c, http.StatusBadRequest, page)
	case errors.Is(err, blog.ErrConflict):
		return s.printConflict(c, page)
	case errors.Is(err, blog.ErrNotFound):
		page.Problem = deletedEntry()
		return s.printEditor(c, http.StatusGone, page)
	default:
		page.Problem = s.writeProblem(c, err)
		return s.printEditor(c, page.Problem.Status, page)
	}
}

// store writes a draft. An address that was made of the headline gets an end of
// its own when it is taken.
func (s *Site) store(c echo.Context, d draft, user string) error {
	ctx, now := c.Request().Context(), s.cfg.Now().UTC().Truncate(time.Millisecond)
	if d.Blog == blog.Visitors {
		return blog.ErrNoBlog // for those who write without a login only
	}
	entry := blog.Entry{
		ID: d.ID, Blog: d.Blog, Slug: d.Slug, Title: d.Title, Body: d.Body, Author: user, Editor: user, Created: now, Updated: now,
		Via: s.cfg.Instance, Revision: d.Revision, Edit: d.Edit,
	}
	write := s.cfg.Library.AddEntry
	if d.Revision > 0 {
		write = s.cfg.Library.ChangeEntry
	}
	if entry.Slug != "" {
		return write(ctx, entry)
	}
	unique := "entry-" + d.ID[:min(8, len(d.ID))]
	if entry.Slug = blog.Slug(d.Title); entry.Slug == "" {
		entry.Slug = unique
	}
	err := write(ctx, entry)
	// A conflict, too: what the same form has stored before may have that end.
	if errors.Is(err, blog.ErrSlugTaken) || errors.Is(err, blog.ErrConflict) {
		entry.Slug = strings.Trim(entry.Slug[:min(len(entry.Slug), blog.MaxSlug-len(unique)-1)], "-") + "-" + strings.TrimPrefix(unique, "entry-")
		err = write(ctx, entry)
	}
	return err
}

// printConflict shows both: what somebody else has saved, and what was typed.
func (s *Site) printConflict(c echo.Context, page paper) error {
	theirs, err := s.cfg.Library.Entry(c.Request().Context(), page.Draft.ID)
	if errors.Is(err, blog.ErrNotFound) {
		page.Problem = deletedEntry()
		return s.printEditor(c, http.StatusGone, page)
	}
	if err != nil {
		page.Problem = s.conflictProblem(c, err)
		return s.printEditor(c, page.Problem.Status, page)
	}
	page.Theirs, page.Before = &item{Entry: theirs, URL: s.address(theirs)}, theirs.Edit == page.Draft.Edit
	page.Moves = moves(theirs, page.Draft)
	page.Draft.Revision, page.Draft.Edit = theirs.Revision, newID()
	return s.printEditor(c, http.StatusConflict, page)
}

// moves says where a draft would move an entry that is at another place; "" is nowhere.
func moves(entry blog.Entry, d draft) string {
	switch {
	case d.Blog == entry.Blog && or(d.Slug, blog.Slug(d.Title)) == entry.Slug:
		return ""
	case d.Slug == "":
		return d.Blog + ", to an address that is made of your headline"
	default:
		return d.Blog + "/" + d.Slug
	}
}

func readDraft(c echo.Context) draft {
	revision, err := strconv.ParseInt(c.FormValue("revision"), 10, 64)
	if err != nil {
		revision = -1
	}
	return draft{
		ID: c.FormValue("id"), Edit: c.FormValue("edit"), Revision: revision, Blog: c.FormValue("blog"),
		Slug: strings.TrimSpace(c.FormValue("slug")), Title: strings.TrimSpace(c.FormValue("title")),
		Body: strings.TrimSpace(strings.ReplaceAll(c.FormValue("body"), "\r\n", "\n")),
	}
}

// checkDraft returns what is wrong, in words, by field.
func checkDraft(d draft) map[string]string {
	wrong := map[string]string{}
	note := func(field, words string) {
		if words != "" {
			wrong[field] = words
		}
	}
	// An entry that another program has made may have any ID.
	if !isID(d.Edit) || d.Revision < 0 || d.Revision == 0 && !isID(d.ID) || checkText("ID", d.ID, 64, "") != "" {
		note("title", "This form is not valid. Open the page anew and write the entry there.")
	} else {
		note("title", checkText("headline", d.Title, MaxTitle, ""))
	}
	note("body", checkText("text", d.Body, MaxText, "\n\t"))
	if d.Slug != "" && !blog.ValidSlug(d.Slug) {
		note("slug", "An address is lower-case letters and digits, in words that single hyphens join, and at most 80 characters long.")
	}
	if !blog.ValidSlug(d.Blog) {
		note("blog", "Choose a blog.")
	}
	return wrong
}

func (s *Site) deleteEntry(c echo.Context) error {
	if err := s.cfg.Library.DeleteEntry(c.Request().Context(), c.Param("id"), s.cfg.Now()); err != nil {
		return err
	}
	return c.Redirect(http.StatusSeeOther, s.cfg.Base+"/admin")
}

func (s *Site) undeleteEntry(c echo.Context) error {
	if err := s.cfg.Library.UndeleteEntry(c.Request().Context(), c.Param("id"), s.cfg.Now()); err != nil {
		return undoing(err)
	}
	return c.Redirect(http.StatusSeeOther, s.cfg.Base+"/admin")
}
