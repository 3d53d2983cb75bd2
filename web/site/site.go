// Package site is the blog as people see it: one page, rendered on the server,
// that shows the entries, who answered and over which verified edges, and a form
// that adds an entry. Programs get the same as JSON.
package site

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"sluice/internal/service/mask"
	"sluice/mesh"
	"sluice/web/blog"
	"sluice/web/settings"
)

// Store is the blog's storage. *blog.Store is one.
type Store interface {
	Hello(ctx context.Context) (blog.Hello, error)
	Newest(ctx context.Context, n int64) ([]blog.Entry, error)
	Add(ctx context.Context, entry blog.Entry) (fresh bool, err error)
	// Quorum returns which voters the member at the other end hears.
	Quorum(ctx context.Context) (blog.Quorum, error)
	// Member returns who served the newest operation of ctx, "" if unknown.
	Member(ctx context.Context) string
}

// Upstream is what an outbound edge tells of itself. *mesh.Upstream is one.
type Upstream interface {
	Err() error
	// Changed returns a channel that is closed when Err changes.
	Changed() <-chan struct{}
	Last() (mesh.ConnectionInfo, *x509.Certificate, bool)
}

// Database is one way to the database.
type Database struct {
	Store    Store
	Upstream Upstream
}

// Config is what a Site shows and where.
type Config struct {
	// Base is the path under which the site lives ("/web").
	Base string
	// Title is the page's heading; "" is "Blog".
	Title string
	// Node, Datacenter and Instance name who answers.
	Node, Datacenter, Instance string
	// Credentials is our own identity.
	Credentials mesh.CredentialSource
	// Primary and Secondary are the ways to the database.
	Primary, Secondary Database
	// Library is the blog and who may write it; nil serves neither.
	Library Library
	// Nearby reads from a member nearby, usually a secondary; nil reads everything
	// from the primary. The administration reads from it while the primary cannot be
	// used.
	Nearby Desk
	// Settings are what can be changed while it runs; nil is the defaults.
	Settings *settings.Live
	// Consul returns why Consul cannot be asked now, nil while it can; a nil function
	// is not known. It must not block.
	Consul func() error
	// Served is told of each request that has ended, but for streams: the part of
	// web that it was for, and the status. nil is nobody; it must not block.
	Served func(app string, status int, took time.Duration)
	// Begin starts to trace a request, by its ID: the context is for all that is done
	// for it, and end is told its status and the pattern of its path. nil traces
	// nothing.
	Begin func(r *http.Request, id string) (ctx context.Context, end func(status int, route string))
	// Logger gets one line per request; nil is silent.
	Logger *slog.Logger
	// Now tells the time; nil is time.Now.
	Now func() time.Time
}

// Site serves the blog. It is an http.Handler.
type Site struct {
	cfg  Config
	log  *slog.Logger
	echo *echo.Echo
	page *pages
	// press is nil without a library.
	press   *press
	lookout *lookout
	// visitors bounds what is left without a login.
	visitors *middleware.RateLimiterMemoryStore
	// mask leaves secrets out of what is logged.
	mask mask.Mask
}

// New returns the site for cfg.
func New(cfg Config) (*Site, error) {
	if !strings.HasPrefix(cfg.Base, "/") {
		return nil, fmt.Errorf("make site: base %q does not start with /", cfg.Base)
	}
	cfg.Base = strings.TrimSuffix(cfg.Base, "/")
	if cfg.Title == "" {
		cfg.Title = "Blog"
	}
	s := &Site{cfg: cfg, log: cfg.Logger, page: newPages(), visitors: newVisitorLimit(), mask: mask.New(nil)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.cfg.Now == nil {
		s.cfg.Now = time.Now
	}
	s.lookout = newLookout(s.cfg)
	s.echo = echo.New()
	s.echo.HideBanner, s.echo.HidePort = true, true
	s.echo.HTTPErrorHandler = s.serveError
	s.echo.SchemeExtractor = scheme
	if cfg.Library != nil {
		var err error
		if s.press, err = newPress(); err != nil {
			return nil, fmt.Errorf("make site: %w", err)
		}
	}
	s.route()
	return s, nil
}

// route adds everything that is served.
func (s *Site) route() {
	base, known, timeout := s.cfg.Base, &methods{}, bounded()
	s.echo.Use(s.observe, s.timed, s.secured, s.configured, known.check)
	for _, path := range []string{base, base + "/"} {
		s.echo.Match([]string{http.MethodGet, http.MethodHead}, path, s.show, timeout)
	}
	s.echo.POST(base+"/entries", s.add, timeout, middleware.BodyLimit(maxForm))
	s.echo.GET(base+"/events", s.stream)
	if s.press != nil {
		s.publish(timeout)
	}
	known.learn(s.echo)
}

// ServeHTTP serves one request.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.echo.ServeHTTP(w, r) }

// Ready returns nil if the primary answers now.
func (s *Site) Ready(ctx context.Context) error {
	_, err := s.cfg.Primary.Store.Hello(ctx)
	return err
}

// add answers the form.
func (s *Site) add(c echo.Context) error {
	entry, form, err := s.readForm(c)
	if err == nil {
		err = s.limited(c, form)
	}
	if err != nil {
		return err
	}
	fresh, err := s.cfg.Primary.Store.Add(c.Request().Context(), entry)
	if err != nil {
		s.logOf(c.Request().Context()).Warn("cannot store an entry", "destination", "mongo-primary", "err", err)
		view := s.view()
		s.look(c, &view)
		view.Problem, view.Form = problem("mongo-primary", err), form
		s.detail(c, view.Problem, err)
		if reason := trimDot(view.Problem.Reason) + "."; blog.OutcomeOf(err) == blog.Unknown {
			view.Problem.Reason = reason + " Whether your entry is stored is not known; sending it again from this page stores it once."
		} else if !errors.Is(err, blog.ErrTaken) {
			view.Problem.Reason = reason + " Nothing was stored; what you typed is below."
		}
		return s.write(c, view)
	}
	if wantsJSON(c.Request()) {
		status := http.StatusCreated
		if !fresh {
			status = http.StatusOK
		}
		return writeJSON(c, status, entry)
	}
	// From the primary: who has written something wants to see it.
	return c.Redirect(http.StatusSeeOther, s.cfg.Base+"?from="+ReadPrimary)
}

func (s *Site) view() View {
	view := View{
		Title: s.cfg.Title, Base: s.cfg.Base, Node: s.cfg.Node, Datacenter: s.cfg.Datacenter, Instance: s.cfg.Instance,
		Now: s.cfg.Now(), Hosts: []string{}, Edges: []Edge{}, Entries: []blog.Entry{}, Form: Form{ID: newID()},
	}
	view.Notices = s.notices()
	view.Tagline, view.Has = s.current().Tagline, s.parts()
	if credentials, err := s.cfg.Credentials.Credentials(); err == nil && credentials.Certificate != nil {
		view.Identity = certificate(credentials.Certificate.Leaf)
	}
	return view
}

// newID makes the ID of an entry that nobody has written yet.
func newID() string {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails
	return hex.EncodeToString(raw[:])
}

// requestID returns the ID that the gateway has given a request, or a new one: what
// is not a plain word could forge lines of a log.
func requestID(r *http.Request) string {
	id := r.Header.Get(requestIDHeader)
	if id == "" || len(id) > 64 || strings.ContainsFunc(id, func(c rune) bool { return !strings.ContainsRune(idChars, c) }) {
		return newID()
	}
	return id
}

const idChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

// requestKey is under what a context has the request's ID.
type requestKey struct{}

// logOf writes lines that belong to the request of a context.
func (s *Site) logOf(ctx context.Context) *slog.Logger {
	if id, ok := ctx.Value(requestKey{}).(string); ok {
		return s.log.With("request_id", id)
	}
	return s.log
}

// observe logs each request and turns a panic into an answer.
func (s *Site) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		start := s.cfg.Now()
		id := requestID(c.Request())
		c.Response().Header().Set(requestIDHeader, id)
		c.SetRequest(c.Request().WithContext(context.WithValue(c.Request().Context(), requestKey{}, id)))
		streams := c.Path() == s.cfg.Base+"/events"
		end := func(int, string) {}
		if s.cfg.Begin != nil && !streams {
			var ctx context.Context
			ctx, end = s.cfg.Begin(c.Request(), id)
			c.SetRequest(c.Request().WithContext(ctx))
		}
		defer func() {
			if cause := recover(); cause != nil {
				if cause == http.ErrAbortHandler {
					end(c.Response().Status, c.Path())
					panic(cause)
				}
				s.log.Error("a handler panicked", "err", fmt.Sprint(cause), "stack", string(debug.Stack()), "request_id", id)
				err = echo.ErrInternalServerError
			}
			if err != nil {
				c.Error(err)
				err = nil
			}
			end(c.Response().Status, c.Path())
			if s.cfg.Served != nil && !streams {
				s.cfg.Served(s.appOf(c.Request().URL.Path), c.Response().Status, s.cfg.Now().Sub(start))
			}
			s.log.Info("request", "method", c.Request().Method, "path", s.mask.Target(c.Request().URL.EscapedPath()), "status", c.Response().Status,
				"took_ms", float64(s.cfg.Now().Sub(start).Microseconds())/1000, "request_id", id)
		}()
		return next(c)
	}
}
