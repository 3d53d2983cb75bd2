package site

import (
	"errors"

	"github.com/labstack/echo/v4"

	"sluice/web/blog"
)

// errLoginEnded is the answer to a form of somebody who is not logged in any more.
var errLoginEnded = errors.New("the login has ended")

// keepForm answers a form whose sender is not known, because the login has ended or
// the database cannot be asked: with the same form, filled in. It shows nothing but what
// was sent.
func (s *Site) keepForm(c echo.Context, err error) error {
	page := s.paper(c, "Not saved")
	page.Problem = s.paperProblem(c, err)
	page.Problem.Reason = trimDot(page.Problem.Reason) + ". Nothing was saved. What you typed is below: send it again from here."
	switch c.Path() {
	case s.cfg.Base + "/admin/entries":
		page.Draft = readDraft(c)
		page.Blogs = []blog.Blog{{ID: page.Draft.Blog, Name: page.Draft.Blog}}
		return s.print(c, page.Problem.Status, "editor", page)
	case s.cfg.Base + "/admin/blogs":
		page.BlogDraft = s.readBlogDraft(c)
		return s.print(c, page.Problem.Status, "blogform", page)
	default:
		return err
	}
}
