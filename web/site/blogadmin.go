package site

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/web/blog"
)

const (
	maxName    = 60
	maxTagline = 120
)

func (s *Site) adminBlogs(c echo.Context) error {
	page := s.paper(c, "Blogs")
	var err error
	if page.Blogs, err = s.desk(c).Blogs(c.Request().Context()); err != nil {
		return err
	}
	if page.DeletedBlogs, err = s.desk(c).DeletedBlogs(c.Request().Context(), s.cfg.Now()); err != nil {
		return err
	}
	return s.print(c, http.StatusOK, "blogs", page)
}

func (s *Site) newBlog(c echo.Context) error {
	page := s.paper(c, "New blog")
	page.BlogDraft.Edit = newID()
	return s.print(c, http.StatusOK, "blogform", page)
}

func (s *Site) editBlog(c echo.Context) error {
	b, err := s.desk(c).Blog(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	page := s.paper(c, "Edit "+b.Name)
	page.BlogDraft, page.BlogDraft.Edit = b, newID()
	return s.print(c, http.StatusOK, "blogform", page)
}

// saveBlog answers the form of a blog.
func (s *Site) saveBlog(c echo.Context) error {
	page := s.paper(c, "Blog")
	page.BlogDraft = s.readBlogDraft(c)
	if page.BlogDraft.ID == "" {
		page.BlogDraft.ID = blog.Slug(page.BlogDraft.Name)
	}
	if page.Wrong = checkBlog(page.BlogDraft); len(page.Wrong) > 0 {
		return s.print(c, http.StatusBadRequest, "blogform", page)
	}
	if c.FormValue("do") == "preview" {
		page.BlogPreview = true
		return s.print(c, http.StatusOK, "blogform", page)
	}
	write := s.cfg.Library.AddBlog
	if page.BlogDraft.Revision > 0 {
		write = s.cfg.Library.ChangeBlog
	}
	err := write(c.Request().Context(), page.BlogDraft)
	switch {
	case err == nil:
		return c.Redirect(http.StatusSeeOther, s.cfg.Base+"/admin/blogs")
	case errors.Is(err, blog.ErrSlugTaken):
		page.Wrong = map[string]string{"id": "Another blog has this address. One that is deleted keeps it for a minute or two."}
		return s.print(c, http.StatusConflict, "blogform", page)
	case errors.Is(err, blog.ErrConflict):
		return s.printBlogConflict(c, page)
	case errors.Is(err, blog.ErrNotFound):
		page.Problem = deletedBlog()
		return s.print(c, http.StatusGone, "blogform", page)
	default:
		page.Problem = s.writeProblem(c, err)
		return s.print(c, page.Problem.Status, "blogform", page)
	}
}

// printBlogConflict shows both, as printConflict does.
func (s *Site) printBlogConflict(c echo.Context, page paper) error {
	theirs, err := s.cfg.Library.Blog(c.Request().Context(), page.BlogDraft.ID)
	switch {
	case errors.Is(err, blog.ErrNotFound):
		page.Problem = deletedBlog()
	case err != nil:
		page.Problem = s.conflictProblem(c, err)
	default:
		page.TheirBlog, page.Before = &theirs, theirs.Edit == page.BlogDraft.Edit
		page.BlogDraft.Revision, page.BlogDraft.Edit = theirs.Revision, newID()
	}
	return s.print(c, http.StatusConflict, "blogform", page)
}

func (s *Site) readBlogDraft(c echo.Context) blog.Blog {
	revision, err := strconv.ParseInt(c.FormValue("revision"), 10, 64)
	if err != nil {
		revision = -1
	}
	now := s.cfg.Now().UTC().Truncate(time.Millisecond)
	return blog.Blog{
		ID: strings.TrimSpace(c.FormValue("id")), Name: strings.TrimSpace(c.FormValue("name")), Tagline: strings.TrimSpace(c.FormValue("tagline")),
		Edit: c.FormValue("edit"), Revision: revision, Created: now, Updated: now,
	}
}

// checkBlog returns what is wrong, in words, by field.
func checkBlog(b blog.Blog) map[string]string {
	wrong := map[string]string{}
	if words := checkText("name", b.Name, maxName, ""); words != "" {
		wrong["name"] = words
	}
	if b.Tagline != "" {
		if words := checkText("tagline", b.Tagline, maxTagline, ""); words != "" {
			wrong["tagline"] = words
		}
	}
	if !blog.ValidSlug(b.ID) {
		wrong["id"] = "An address is lower-case letters and digits, in words that single hyphens join, and at most 80 characters long."
	}
	if !isID(b.Edit) || b.Revision < 0 {
		wrong["name"] = "This form is not valid. Open the page anew."
	}
	return wrong
}

func (s *Site) deleteBlog(c echo.Context) error {
	if err := s.cfg.Library.DeleteBlog(c.Request().Context(), c.Param("id"), s.cfg.Now()); err != nil {
		return err
	}
	return c.Redirect(http.StatusSeeOther, s.cfg.Base+"/admin/blogs")
}

func (s *Site) undeleteBlog(c echo.Context) error {
	if err := s.cfg.Library.UndeleteBlog(c.Request().Context(), c.Param("id"), s.cfg.Now()); err != nil {
		return undoing(err)
	}
	return c.Redirect(http.StatusSeeOther, s.cfg.Base+"/admin/blogs")
}
