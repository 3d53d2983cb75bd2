package site

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"sluice/web/blog"
)

// loginEnded is the answer to a form of somebody who is not logged in any more; login is
// where to log in.
type loginEnded struct{ login string }

func (*loginEnded) Error() string { return "the login has ended" }

func (e *loginEnded) problem() *Problem {
	return &Problem{
		Status: http.StatusUnauthorized, Kind: "form", Title: "Your login has ended",
		Reason: "Nothing was changed. Log in again, and then do it anew.", Login: e.login,
	}
}

// untriedError is why nobody knows who has sent a change: it was not tried.
type untriedError struct{ error }

func (e *untriedError) Unwrap() error { return e.error }

// keepForm answers a form whose sender is not known, because the login has ended or
// the database cannot be asked: with the same form, filled in. It shows nothing but what
// was sent. Other forms are not shown again: what they hold is a password or a name.
func (s *Site) keepForm(c echo.Context, err error) error {
	entries, blogs := s.cfg.Base+"/admin/entries", s.cfg.Base+"/admin/blogs"
	if c.Path() != entries && c.Path() != blogs {
		return &untriedError{err}
	}
	page := s.paper(c, "Not saved")
	page.Problem = s.paperProblem(c, err)
	reason := trimDot(page.Problem.Reason) + "."
	if errors.As(err, new(*loginEnded)) {
		reason = "Log in in another window, then send the form again."
	}
	page.Problem.Reason = reason + " Nothing was saved. What you typed is below: send it again from here."
	if c.Path() == entries {
		page.Draft = readDraft(c)
		page.Blogs = []blog.Blog{{ID: page.Draft.Blog, Name: page.Draft.Blog}}
		return s.print(c, page.Problem.Status, "editor", page)
	}
	page.BlogDraft = s.readBlogDraft(c)
	return s.print(c, page.Problem.Status, "blogform", page)
}
