package site

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page and its style
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

//go:embed live.js
var liveJS string

// pages renders the page.
type pages struct {
	template *template.Template
	secure   echo.MiddlewareFunc
}

func newPages() *pages {
	hash := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return &pages{
		template: template.Must(template.Must(template.New("page").Funcs(template.FuncMap{
			"style":  func() template.CSS { return template.CSS(pageCSS) },
			"script": func() template.JS { return template.JS(liveJS) },
			"text":   text,
			"until":  until,
			"stamp":  stamp,
			"clock":  clock,
			"iso":    rfc3339,
			"yesno":  yesno,
		}).ParseFS(pageFiles, "pages/notices.html")).Parse(pageHTML)),
		secure: secure("default-src 'none'; style-src " + hash(pageCSS) + "; script-src " + hash(liveJS) + "; connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"),
	}
}

// text escapes for the inside of an element. It leaves ">" alone, which is
// harmless there, so that "web -> mongo-primary" reads the same in the source.
func text(s string) template.HTML {
	return template.HTML(strings.ReplaceAll(template.HTMLEscapeString(s), "&gt;", ">"))
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func clock(t time.Time) string { return t.UTC().Format("15:04:05 UTC") }

func yesno(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// until says how far away a moment is.
func until(t, now time.Time) string {
	left := t.Sub(now)
	switch {
	case left <= 0:
		return "expired"
	case left < 2*time.Minute:
		return fmt.Sprintf("in %d s", int(left.Seconds()))
	case left < 2*time.Hour:
		return fmt.Sprintf("in %d min", int(left.Minutes()))
	default:
		return fmt.Sprintf("in %d h", int(left.Hours()))
	}
}

func wantsHTML(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

func wantsJSON(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "application/json") && !wantsHTML(r)
}

// writeJSON leaves ">" as it is, so that a person can read the reasons; nobody
// takes this type for HTML.
func writeJSON(c echo.Context, status int, value any) error {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	return c.Blob(status, "application/json", body.Bytes())
}

// write answers with the view: the page to a browser, JSON to a program that
// asks for it, plain text to a terminal. The status is the problem's.
func (s *Site) write(c echo.Context, view View) error {
	header := c.Response().Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Vary", "Accept")
	status := http.StatusOK
	if view.Problem != nil {
		status = view.Problem.Status
		view.Problem.announce(header)
	}
	if wantsJSON(c.Request()) {
		return writeJSON(c, status, view)
	}
	var body bytes.Buffer
	if !wantsHTML(c.Request()) {
		view.plain(&body)
		return c.Blob(status, "text/plain; charset=utf-8", body.Bytes())
	}
	if err := s.page.template.Execute(&body, view); err != nil {
		return fmt.Errorf("render page: %w", err)
	}
	return c.Blob(status, "text/html; charset=utf-8", bytes.ToValidUTF8(body.Bytes(), []byte("\uFFFD")))
}

// look fills in what is seen of the database without asking it, for a page that is an
// answer to something else.
func (s *Site) look(c echo.Context, view *View) {
	seen, _ := s.lookout.current()
	view.take(s.lookout.ways(seen))
	view.Edges = s.edges(c.Request())
}

// serveError answers a request that no handler has answered.
func (s *Site) serveError(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	if s.ofPress(c.Request().URL.Path) {
		s.printError(c, err)
		return
	}
	view := s.view()
	var form *badForm
	var known *echo.HTTPError
	view.Problem = configurationProblem(err)
	if view.Bare = view.Problem != nil || !view.Has.Topology; view.Bare {
		view.Identity = nil
	} else {
		s.look(c, &view)
	}
	switch {
	case view.Problem != nil:
	case errors.As(err, &form):
		view.Problem = &Problem{Status: form.status, Kind: "form", Title: "The entry was not stored", Reason: form.reason}
		if form.form.ID != "" && isID(form.form.ID) {
			view.Form = form.form
		} else {
			view.Form.Title, view.Form.Body = form.form.Title, form.form.Body
		}
	case errors.As(err, &known) && known.Code == http.StatusMethodNotAllowed:
		view.Problem = methodProblem()
	case errors.As(err, &known) && known.Code == http.StatusRequestEntityTooLarge:
		view.Problem = &Problem{Status: known.Code, Kind: "form", Title: "The entry was not stored", Reason: "The form is too large."}
	case errors.As(err, &known) && known.Code < http.StatusInternalServerError:
		view.Problem = &Problem{Status: known.Code, Kind: "request", Title: http.StatusText(known.Code), Reason: "There is no such page here.", Hint: view.Has.way(s.cfg.Base)}
	default:
		s.logOf(c.Request().Context()).Error("request failed", "err", err)
		view.Problem = &Problem{Status: http.StatusInternalServerError, Kind: "internal", Title: "Something is wrong in web", Reason: "The page cannot be made. The log has the reason.", Command: "sluice logs"}
	}
	if view.Bare && c.Request().Method == http.MethodPost {
		view.Problem.Reason = trimDot(view.Problem.Reason) + ". Nothing was stored: what you typed is on the page before this one."
		view.Problem.Hint = strings.TrimPrefix(view.Problem.Hint, nothingLost)
	}
	s.detail(c, view.Problem, err)
	if err := s.write(c, view); err != nil {
		s.logOf(c.Request().Context()).Error("cannot answer", "err", err)
	}
}
