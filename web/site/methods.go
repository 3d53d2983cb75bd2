package site

import (
	"net/http"
	"net/url"

	"github.com/labstack/echo/v4"
)

// methods tells a page that is not there from one that does not take a method.
// Echo cannot below a group with middleware, because such a group catches all that
// no route has.
type methods struct{ router *echo.Router }

// learn takes the routes that e has now.
func (m *methods) learn(e *echo.Echo) {
	shadow := echo.New()
	for _, route := range e.Routes() {
		if route.Method != echo.RouteNotFound {
			shadow.Router().Add(route.Method, route.Path, echo.NotFoundHandler)
		}
	}
	m.router = shadow.Router()
}

// check is middleware that answers a method that a page does not take with 405 and
// those that it does take, before anything else looks at the request.
func (m *methods) check(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		found := c.Echo().NewContext(r, c.Response())
		m.router.Find(r.Method, echo.GetPath(r), found)
		allow, _ := found.Get(echo.ContextKeyHeaderAllow).(string)
		if allow == "" {
			return next(c)
		}
		c.Response().Header().Set(echo.HeaderAllow, allow)
		if r.Method == http.MethodOptions {
			return c.NoContent(http.StatusNoContent)
		}
		return echo.ErrMethodNotAllowed
	}
}

// ambiguous returns what makes a form ambiguous, in words, or "": a field that is
// there twice, or in the address, means one thing to one reader and another to the
// next.
func ambiguous(form, query url.Values) string {
	for name, values := range form {
		if len(values) > 1 {
			return "A field is in the form twice."
		}
		if query.Has(name) {
			return "A field must be in the form, not in the address."
		}
	}
	return ""
}

// methodProblem says that a page does not take a method; the answer's Allow names
// those that it takes.
func methodProblem() *Problem {
	return &Problem{
		Status: http.StatusMethodNotAllowed, Kind: "request", Title: http.StatusText(http.StatusMethodNotAllowed),
		Reason: "This page is here, and cannot be asked for in this way.",
	}
}
