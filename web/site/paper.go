package site

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/mesh"
	"sluice/web/blog"
	"sluice/web/markdown"
	"sluice/web/settings"
)

//go:embed pages
var pageFiles embed.FS

const (
	perPage      = 20
	excerptChars = 280
)

// Library is what the blog and its administration keep. *blog.Store is one.
type Library interface {
	Desk
	AddEntry(ctx context.Context, entry blog.Entry) error
	ChangeEntry(ctx context.Context, entry blog.Entry) error
	DeleteEntry(ctx context.Context, id string, now time.Time) error
	UndeleteEntry(ctx context.Context, id string, now time.Time) error

	AddBlog(ctx context.Context, b blog.Blog) error
	ChangeBlog(ctx context.Context, b blog.Blog) error
	DeleteBlog(ctx context.Context, id string, now time.Time) error
	UndeleteBlog(ctx context.Context, id string, now time.Time) error

	Login(ctx context.Context, attempt blog.Attempt) (secret string, err error)
	Logout(ctx context.Context, secret string) error

	ChangePassword(ctx context.Context, change blog.PasswordChange) (secret string, err error)
	AddAdministrator(ctx context.Context, by, name, password string, now time.Time) error
	DisableAdministrator(ctx context.Context, by, name string, now time.Time) error
	EnableAdministrator(ctx context.Context, by, name string) error
	DeleteAdministrator(ctx context.Context, by, name string, now time.Time) error
}

// paper is what a page of the blog or of its administration shows.
type paper struct {
	Title, Base, Node, Datacenter string
	Admin                         bool
	User, CSRF                    string
	Blog                          *blog.Blog
	Blogs, DeletedBlogs           []blog.Blog
	Items                         []item
	Item                          *item
	Deleted                       []goner
	Search, SearchAt              string
	Newer, Older                  string // addresses
	Draft                         draft
	BlogDraft                     blog.Blog
	Wrong                         map[string]string // by field
	Theirs                        *item
	Moves                         string // where saving moves Theirs; "" is nowhere
	TheirBlog                     *blog.Blog
	// Before says that what is stored is theirs of an earlier send of the same form.
	Before bool
	// Changed says that the password is changed, and nobody logged in.
	Changed     bool
	BlogPreview bool
	Preview     template.HTML
	Problem     *Problem
	// Beside says that the problem stands beside a page that has a heading of its own.
	Beside        bool
	Notices       []Notice
	Configuration *configuration
	Staff         *staff
	// Temporary says that one's password must be changed first.
	Temporary   bool
	MinPassword int
	// Service and Member served what is shown; Near says that a member nearby was
	// asked first, CanNear that it could be.
	Service, Member string
	Near, CanNear   bool
	// ReadOther is this page as the other preference has it.
	ReadOther string
	// ReadOnly says that the primary has no part in the page.
	ReadOnly bool
	Has      parts
}

// item is an entry with what is made of it.
type item struct {
	blog.Entry
	URL, Excerpt string
	HTML         template.HTML
}

// goner is a deleted entry that can be had back until Gone.
type goner struct {
	blog.Entry
	Gone time.Time
}

// press makes the pages.
type press struct {
	templates map[string]*template.Template
	secure    echo.MiddlewareFunc
	markdown  *markdown.Renderer
}

func newPress() (*press, error) {
	css, err := pageFiles.ReadFile("pages/blog.css")
	if err != nil {
		return nil, err
	}
	layout, err := template.New("layout.html").Funcs(template.FuncMap{
		"style": func() template.CSS { return template.CSS(css) }, "text": text, "stamp": stamp,
		"iso":   rfc3339,
		"day":   func(t time.Time) string { return t.UTC().Format("2 January 2006") },
		"clock": clock,
	}).ParseFS(pageFiles, "pages/layout.html", "pages/notices.html")
	if err != nil {
		return nil, err
	}
	p := &press{templates: map[string]*template.Template{}, markdown: markdown.New()}
	for _, name := range []string{"configuration", "index", "list", "entry", "problem", "login", "admin", "editor", "blogs", "blogform", "administrators", "password"} {
		page, err := layout.Clone()
		if err == nil {
			page, err = page.ParseFS(pageFiles, "pages/"+name+".html")
		}
		if err != nil {
			return nil, err
		}
		p.templates[name] = page
	}
	sum := sha256.Sum256(css)
	p.secure = secure("default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	return p, nil
}

// publish adds the blog and its administration to the routes.
func (s *Site) publish(timeout echo.MiddlewareFunc) {
	read := []string{http.MethodGet, http.MethodHead}
	public := s.echo.Group(s.cfg.Base+"/blog", timeout, s.choose)
	public.Match(read, "", s.listBlogs)
	public.Match(read, "/:blog", s.listEntries)
	public.Match(read, "/:blog/feed.atom", s.feed)
	public.Match(read, "/:blog/:slug", s.showEntry)
	s.administer(timeout)
}

// paper returns an empty page for a request.
func (s *Site) paper(c echo.Context, title string) paper {
	p := paper{Title: title, Base: s.cfg.Base, Node: s.cfg.Node, Datacenter: s.cfg.Datacenter}
	p.Has = s.parts()
	p.Admin = p.Has.Admin && strings.HasPrefix(c.Request().URL.Path, s.cfg.Base+"/admin")
	p.User, _ = c.Get(userKey).(string)
	p.CSRF, _ = c.Get(csrfKey).(string)
	return p
}

// print answers with a page; a problem has a status of its own.
func (s *Site) print(c echo.Context, status int, name string, p paper) error {
	if p.Problem != nil {
		status = p.Problem.Status
		p.Problem.announce(c.Response().Header())
	}
	if r, ok := c.Get(readKey).(*reading); ok {
		p.Service, p.Member, p.Near, p.CanNear = r.service, r.member, r.near != nil, s.cfg.Nearby != nil
		p.ReadOther = readOther(c.Request().URL, p.Near)
	}
	if p.ReadOnly = readOnly(c); p.ReadOnly {
		p.Service, p.Member = "mongo-secondary", s.cfg.Nearby.Member(c.Request().Context())
	}
	p.Notices = s.notices()
	p.Beside = slices.Contains([]string{"administrators", "blogform", "editor", "login"}, name)
	var body bytes.Buffer
	if err := s.press.templates[name].Execute(&body, p); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	// A form that is not valid text is shown again as far as it is.
	return c.Blob(status, "text/html; charset=utf-8", bytes.ToValidUTF8(body.Bytes(), []byte("\uFFFD")))
}

// ofPress reports whether a path belongs to the blog or its administration.
func (s *Site) ofPress(path string) bool {
	for _, part := range []string{"/blog", "/admin"} {
		if rest, ok := strings.CutPrefix(path, s.cfg.Base+part); ok && s.press != nil && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}

// printError answers a request of the blog that no handler has answered.
func (s *Site) printError(c echo.Context, err error) {
	page := s.paper(c, "")
	page.Problem = s.paperProblem(c, err)
	if c.Request().Method == http.MethodPost {
		page.Problem = s.changeProblem(c, err)
	}
	page.Problem.announce(c.Response().Header())
	if s.appOf(c.Request().URL.Path) == settings.Feed && page.Problem.Status >= http.StatusInternalServerError && page.Problem.Kind != "internal" {
		s.feedLater(c, page.Problem)
		return
	}
	page.Title = page.Problem.Title
	c.Response().Header().Set("Vary", "Accept")
	if wantsJSON(c.Request()) {
		_ = writeJSON(c, page.Problem.Status, refusal{page.Problem, s.notices()})
		return
	}
	if err := s.print(c, page.Problem.Status, "problem", page); err != nil {
		s.logOf(c.Request().Context()).Error("cannot answer", "err", err)
	}
}

// refusal is the JSON form of a page that shows why there is none.
type refusal struct {
	Problem *Problem `json:"problem"`
	Notices []Notice `json:"notices,omitempty"`
}

func (s *Site) paperProblem(c echo.Context, err error) *Problem {
	p := s.problemOf(c, err)
	s.detail(c, p, err)
	return p
}

func (s *Site) problemOf(c echo.Context, err error) *Problem {
	var unchecked *uncheckedError
	var read *secondaryError
	log := s.logOf(c.Request().Context())
	switch p := inWords(err); {
	case errors.As(err, &unchecked) && !errors.Is(err, mesh.ErrDenied):
		log.Warn("cannot check a login", "destination", "mongo-primary", "err", err)
		return unchecked.inDoubt()
	case p != nil && p.Status == http.StatusInternalServerError:
		log.Error("request failed", "err", err)
		return p
	case p != nil:
		return p
	case errors.As(err, &read):
		log.Warn("cannot use the blog", "destination", "mongo-secondary", "err", err)
		return problem("mongo-secondary", read.error)
	default:
		log.Warn("cannot use the blog", "destination", "mongo-primary", "err", err)
		return problem("mongo-primary", err)
	}
}

// errRender means that a page cannot be made of what there is.
var errRender = errors.New("cannot render")

// writeProblem is the problem of a write that failed, with what became of it.
func (s *Site) writeProblem(c echo.Context, err error) *Problem {
	return s.outcome(c, err, "Whether it is saved is not known; sending it again from this page saves it once.", "Nothing was saved.")
}

// changeProblem is the problem of a change that has no form of its own to send again.
func (s *Site) changeProblem(c echo.Context, err error) *Problem {
	var untried *untriedError
	var refused blog.Refusal
	if !errors.As(err, &untried) && inWords(err) == nil {
		return s.outcome(c, err, "Whether it is done is not known: look before you do it again.", "Nothing was changed.")
	}
	p := s.paperProblem(c, err)
	if errors.As(err, &refused) || inWords(err) == nil || configurationProblem(err) != nil {
		p.Reason = trimDot(p.Reason) + ". Nothing was changed."
	}
	return p
}

// conflictProblem is the problem of a change to what somebody else has changed, when that
// cannot be read.
func (s *Site) conflictProblem(c echo.Context, err error) *Problem {
	p := s.paperProblem(c, err)
	p.Reason = trimDot(p.Reason) + ". Nothing was saved, because it is not as it was when you began: send it again from this page to see both."
	return p
}

func (s *Site) outcome(c echo.Context, err error, unknown, refused string) *Problem {
	p := s.paperProblem(c, err)
	p.Reason = strings.TrimSuffix(p.Reason, ".") + "."
	switch blog.OutcomeOf(err) {
	case blog.Unknown:
		p.Reason += " " + unknown
		if errors.Is(err, mesh.ErrDenied) {
			p.Hint = "The denial came while the write was under way. To allow it:"
		}
	case blog.Refused:
		p.Reason += " " + refused
	case blog.Acked:
	}
	return p
}
