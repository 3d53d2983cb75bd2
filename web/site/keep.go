package site

import (
	"github.com/labstack/echo/v4"

	"sluice/web/blog"
)

// keepForm answers a form whose sender cannot be known now, because the database
// cannot be asked: with the same form, filled in. It shows nothing but what was sent.
func (s *Site) keepForm(c echo.Context, err error) error {
	page := s.paper(c, "Not saved")
	page.Problem = s.paperProblem(err)
	page.Problem.Reason = trimDot(page.Problem.Reason) + ". Nothing was saved. What you typed is below: send it again from here."
	s.detail(c, page.Problem, err)
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
