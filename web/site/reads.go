package site

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/web/blog"
)

// The read preferences.
const (
	// ReadNearest reads from a member nearby, usually a secondary, and from the
	// primary when that fails.
	ReadNearest = "nearest"
	// ReadPrimary reads from the primary only.
	ReadPrimary = "primary"
)

const (
	readCookie = "sluice_read"
	readKey    = "reading"
	// nearTimeout is how long the nearest may take before the primary is asked.
	nearTimeout = 1500 * time.Millisecond
)

// Reads is what the public pages read. *blog.Store is one.
type Reads interface {
	Entries(ctx context.Context, q blog.Query) (blog.Page, error)
	EntryBySlug(ctx context.Context, blog, slug string) (blog.Entry, error)
	Blogs(ctx context.Context) ([]blog.Blog, error)
	Blog(ctx context.Context, id string) (blog.Blog, error)
	// Member returns who served the newest operation of ctx, "" if unknown.
	Member(ctx context.Context) string
}

// reading is the way in which one request reads. It is for one goroutine.
type reading struct {
	near, far Reads // near is nil when only the primary is to be read
	// service and member served the newest read.
	service, member string
	// patience bounds the wait for the primary; nil does not.
	patience func(context.Context) (context.Context, context.CancelFunc)
}

// awaiting bounds a read from the primary.
func (r *reading) awaiting(ctx context.Context) (context.Context, context.CancelFunc) {
	if r.patience == nil {
		return context.WithCancel(ctx)
	}
	return r.patience(ctx)
}

// preference is how a request wants to read: "read" in its address, which is
// remembered in a cookie, else that cookie, else otherwise.
func (s *Site) preference(c echo.Context, otherwise string) string {
	if asked := c.QueryParam("read"); asked == ReadNearest || asked == ReadPrimary {
		c.SetCookie(&http.Cookie{
			Name: readCookie, Value: asked, Path: s.cfg.Base, HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: c.Scheme() == "https",
		})
		return asked
	}
	if cookie, err := c.Cookie(readCookie); err == nil && (cookie.Value == ReadNearest || cookie.Value == ReadPrimary) {
		return cookie.Value
	}
	return otherwise
}

// choose finds out how a request of the blog wants to read.
func (s *Site) choose(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := &reading{far: s.cfg.Library, patience: func(ctx context.Context) (context.Context, context.CancelFunc) {
			seen, _ := s.lookout.current()
			return s.patience(ctx, s.lookout.ways(seen).sight)
		}}
		if s.preference(c, s.readPreference()) == ReadNearest {
			r.near = s.cfg.Nearby
		}
		c.Set(readKey, r)
		return next(c)
	}
}

// readOther is the address of the same page, read with the other preference.
func readOther(at *url.URL, near bool) string {
	query := at.Query()
	query.Set("read", ReadNearest)
	if near {
		query.Set("read", ReadPrimary)
	}
	return "?" + query.Encode()
}

func (s *Site) readPreference() string {
	if s.cfg.Nearby == nil {
		return ReadPrimary
	}
	return s.current().ReadPreference
}

// readingOf returns the request's way to read: the primary unless it has chosen.
func (s *Site) readingOf(c echo.Context) *reading {
	if r, ok := c.Get(readKey).(*reading); ok {
		return r
	}
	return &reading{far: s.desk(c)}
}

// ask reads from nearby. What is not found there may not have arrived yet, and what
// fails there may work at the primary, so that only the primary's refusal counts.
func ask[T any](ctx context.Context, r *reading, read func(context.Context, Reads) (T, error)) (T, error) {
	if r.near != nil {
		bounded, cancel := context.WithTimeout(blog.Traced(ctx), nearTimeout)
		defer cancel()
		if got, err := read(bounded, r.near); err == nil {
			r.service, r.member = "mongo-secondary", r.near.Member(bounded)
			return got, nil
		} else if !errors.Is(err, blog.ErrNotFound) {
			r.near = nil // the rest of this request does not wait for it again
		}
	}
	traced, cancel := r.awaiting(blog.Traced(ctx))
	defer cancel()
	got, err := read(traced, r.far)
	if err == nil {
		r.service, r.member = "mongo-primary", r.far.Member(traced)
	}
	return got, err
}
