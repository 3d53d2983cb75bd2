package site

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"sluice/web/blog"
)

const (
	sessionCookie = "sluice_session"
	csrfCookie    = "sluice_csrf"
	userKey       = "user"
	csrfKey       = "csrf"
	temporaryKey  = "temporary"
	throttled     = "Too many logins have failed. Try again in a quarter of an hour."
	maxDraft      = "512KiB"
	maxID         = 80 // characters
)

// administer adds the administration to the routes.
func (s *Site) administer(shared ...echo.MiddlewareFunc) {
	read := []string{http.MethodGet, http.MethodHead}
	admin := s.echo.Group(s.cfg.Base+"/admin", append(shared, middleware.BodyLimit(maxDraft), onlyForms, s.csrf)...)
	admin.Match(read, "/login", s.askLogin)
	admin.POST("/login", s.login)

	inside := admin.Group("", s.signedIn, plainID)
	inside.POST("/logout", s.logout)
	inside.Match(read, "", s.adminEntries)
	inside.Match(read, "/entries/new", s.newEntry)
	inside.Match(read, "/entries/:id", s.editEntry)
	inside.POST("/entries", s.saveEntry)
	inside.POST("/entries/:id/delete", s.deleteEntry)
	inside.POST("/entries/:id/undo", s.undeleteEntry)
	inside.Match(read, "/configuration", s.showConfiguration)
	inside.Match(read, "/password", s.askPassword)
	inside.POST("/password", s.changePassword)
	s.routeAdministrators(inside, read)
	inside.Match(read, "/blogs", s.adminBlogs)
	inside.Match(read, "/blogs/new", s.newBlog)
	inside.Match(read, "/blogs/:id", s.editBlog)
	inside.POST("/blogs", s.saveBlog)
	inside.POST("/blogs/:id/delete", s.deleteBlog)
	inside.POST("/blogs/:id/undo", s.undeleteBlog)
}

// routeAdministrators adds what administrators do to each other's accounts.
func (s *Site) routeAdministrators(inside *echo.Group, read []string) {
	library := s.cfg.Library
	inside.Match(read, "/administrators", s.showAdministrators)
	inside.POST("/administrators", s.addAdministrator)
	inside.POST("/administrators/disable", s.alterAdministrator("disable", func(ctx context.Context, by, name string) error {
		return library.DisableAdministrator(ctx, by, name, s.cfg.Now())
	}))
	inside.POST("/administrators/enable", s.alterAdministrator("enable", library.EnableAdministrator))
	inside.POST("/administrators/delete", s.alterAdministrator("delete", func(ctx context.Context, by, name string) error {
		return library.DeleteAdministrator(ctx, by, name, s.cfg.Now())
	}))
}

// plainID lets no ID through that no document can have: one that is no text would
// be another one to the database.
func plainID(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if id := c.Param("id"); id != "" && checkText("ID", id, maxID, "") != "" {
			return blog.ErrNotFound
		}
		return next(c)
	}
}

// onlyForms refuses a change that is not sent as our own pages send it.
func onlyForms(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if c.Request().Method == http.MethodPost {
			kind, _, _ := strings.Cut(c.Request().Header.Get(echo.HeaderContentType), ";")
			if strings.TrimSpace(kind) != echo.MIMEApplicationForm {
				return &badForm{status: http.StatusUnsupportedMediaType, reason: "The form must be sent as " + echo.MIMEApplicationForm + "."}
			}
			if err := c.Request().ParseForm(); err != nil {
				var known *echo.HTTPError
				if errors.As(err, &known) {
					return known // too large
				}
				return &badForm{status: http.StatusBadRequest, reason: "The form cannot be read."}
			}
			if wrong := ambiguous(c.Request().PostForm, c.Request().URL.Query()); wrong != "" {
				return &badForm{status: http.StatusBadRequest, reason: wrong}
			}
			c.Request().Form = c.Request().PostForm // what is in the address fills no field
		}
		return next(c)
	}
}

// csrf is Echo's protection, by Sec-Fetch-Site where a browser sends it and by a
// token where it does not: over plain HTTP and not from this machine.
func (s *Site) csrf(next echo.HandlerFunc) echo.HandlerFunc {
	protect := func(secure bool) echo.HandlerFunc {
		return middleware.CSRFWithConfig(middleware.CSRFConfig{
			TokenLookup: "form:csrf", ContextKey: csrfKey, CookieName: csrfCookie, CookiePath: s.cfg.Base + "/admin",
			CookieHTTPOnly: true, CookieSameSite: http.SameSiteLaxMode, CookieSecure: secure,
			ErrorHandler: func(error, echo.Context) error { return echo.NewHTTPError(http.StatusForbidden) },
		})(next)
	}
	secured, plain := protect(true), protect(false)
	return func(c echo.Context) error {
		if c.Scheme() == "https" {
			return secured(c)
		}
		return plain(c)
	}
}

// signedIn lets only those in who are logged in.
func (s *Site) signedIn(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		var err error = blog.ErrNotFound
		limited, cancel := context.WithTimeout(blog.Traced(c.Request().Context()), deskTimeout)
		defer cancel()
		if cookie, missing := c.Cookie(sessionCookie); missing == nil && len(cookie.Value) < 100 {
			var session blog.Session
			session, err = s.session(limited, c, cookie.Value)
			c.Set(userKey, session.User)
			c.Set(temporaryKey, session.Temporary)
		}
		own := c.Path() == s.cfg.Base+"/admin/password"
		switch {
		case err == nil && c.Get(temporaryKey) == true && !own && c.Path() != s.cfg.Base+"/admin/logout":
			return c.Redirect(http.StatusSeeOther, s.cfg.Base+"/admin/password")
		case err == nil && readOnly(c):
			return without(c, next)
		case err == nil:
			return next(c)
		case !errors.Is(err, blog.ErrNotFound) && c.Request().Method == http.MethodPost:
			return s.keepForm(c, err)
		case !errors.Is(err, blog.ErrNotFound):
			return err
		case c.Request().Method == http.MethodPost:
			return s.keepForm(c, &loginEnded{s.cfg.Base + "/admin/login"})
		default:
			return c.Redirect(http.StatusSeeOther, s.cfg.Base+"/admin/login")
		}
	}
}

func (s *Site) askLogin(c echo.Context) error {
	return s.print(c, http.StatusOK, "login", s.paper(c, "Log in"))
}

func (s *Site) login(c echo.Context) error {
	page := s.paper(c, "Log in")
	page.Draft.Author = c.FormValue("name")
	attempt := blog.Attempt{Name: page.Draft.Author, Password: c.FormValue("password"), Address: clientAddress(c.Request()), Now: s.cfg.Now()}
	refuse := func(status int, reason string) error {
		s.logOf(c.Request().Context()).Warn("login refused", "address", attempt.Address, "reason", reason)
		page.Wrong = map[string]string{"login": reason}
		return s.print(c, status, "login", page)
	}
	if checkText("name", attempt.Name, 64, "") != "" || len(attempt.Password) > 1024 {
		return refuse(http.StatusUnauthorized, "Name or password is wrong.")
	}
	secret, err := s.cfg.Library.Login(c.Request().Context(), attempt)
	switch {
	case errors.Is(err, blog.ErrLogin):
		return refuse(http.StatusUnauthorized, "Name or password is wrong.")
	case errors.Is(err, blog.ErrThrottled):
		s.retryLater(c)
		return refuse(http.StatusTooManyRequests, throttled)
	case err != nil:
		page.Problem = s.paperProblem(c, err)
		return s.print(c, page.Problem.Status, "login", page)
	}
	s.setSession(c, secret, int(blog.SessionFor.Seconds()))
	return c.Redirect(http.StatusSeeOther, s.cfg.Base+"/admin")
}

func (s *Site) retryLater(c echo.Context) {
	c.Response().Header().Set("Retry-After", strconv.Itoa(int(blog.AttemptsFor.Seconds())))
}

func (s *Site) logout(c echo.Context) error {
	cookie, err := c.Cookie(sessionCookie)
	if err != nil {
		return err
	}
	if err := s.cfg.Library.Logout(c.Request().Context(), cookie.Value); err != nil {
		return err
	}
	s.setSession(c, "", -1)
	return c.Redirect(http.StatusSeeOther, s.cfg.Base+"/admin/login")
}

func (s *Site) setSession(c echo.Context, secret string, seconds int) {
	c.SetCookie(&http.Cookie{
		Name: sessionCookie, Value: secret, Path: s.cfg.Base + "/admin", MaxAge: seconds,
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: c.Scheme() == "https",
	})
}

// scheme is what the browser's side speaks, as the gateway says, which alone is let
// in. Anything but "https" is not taken over: it ends in cookies and addresses.
func scheme(r *http.Request) string {
	if strings.EqualFold(r.Header.Get(echo.HeaderXForwardedProto), "https") {
		return "https"
	}
	return "http"
}

// clientAddress is where a request came from, as the gateway says, which alone is
// let in and which removes what clients claim: the last address of the list.
func clientAddress(r *http.Request) string {
	list := strings.Join(r.Header.Values(echo.HeaderXForwardedFor), ",")
	last := strings.TrimSpace(list[strings.LastIndexByte(list, ',')+1:])
	if last == "" {
		return "unknown"
	}
	return strings.ToValidUTF8(last[:min(len(last), 64)], "")
}
