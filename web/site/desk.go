package site

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/mesh"
	"sluice/web/blog"
)

const (
	deskKey = "desk"
	// deskTimeout bounds a page of the administration that the primary has no part in,
	// and checkTimeout how much of it a primary gets that does not answer.
	deskTimeout  = 950 * time.Millisecond
	checkTimeout = 500 * time.Millisecond
	// retrySoon is what a page asks for that cannot use the database, in seconds, and
	// retryElsewhere one that another instance may serve.
	retrySoon      = 5
	retryElsewhere = 1
)

// Desk is what the pages of the administration read. *blog.Store is one.
type Desk interface {
	Reads
	Entry(ctx context.Context, id string) (blog.Entry, error)
	Deleted(ctx context.Context, now time.Time) ([]blog.Entry, error)
	DeletedBlogs(ctx context.Context, now time.Time) ([]blog.Blog, error)
	Administrators(ctx context.Context) ([]blog.Administrator, error)
	Session(ctx context.Context, secret string, now time.Time) (blog.Session, error)
}

// session returns the login of a request. A change believes the primary alone: what a
// secondary has may be older than the login's end. It waits as long as a write does
// for a primary that is missing, because the form is worth it. limited is for what is
// read without the primary.
func (s *Site) session(limited context.Context, c echo.Context, secret string) (blog.Session, error) {
	if c.Request().Method != http.MethodPost {
		return s.sessionToRead(limited, c, secret)
	}
	ctx := c.Request().Context()
	session, err := s.cfg.Library.Session(ctx, secret, s.cfg.Now())
	if errors.Is(err, mesh.ErrNoInstance) {
		session, err = s.cfg.Library.Session(ctx, secret, s.cfg.Now())
	}
	return session, err
}

// sessionToRead returns the login of a request that changes nothing: as the primary
// knows it, else as a secondary does, and then the request reads from there. Only the
// primary can say that there is no such login: a new one may not have reached the
// secondary.
func (s *Site) sessionToRead(limited context.Context, c echo.Context, secret string) (blog.Session, error) {
	seen, _ := s.lookout.current()
	way := s.lookout.ways(seen).sight.primary
	err := fmt.Errorf("ask mongo-primary: %w", mesh.ErrNoInstance)
	if way.kind != kindNoInstance {
		ctx, cancel := context.WithTimeout(c.Request().Context(), checkTimeout)
		defer cancel()
		var session blog.Session
		if session, err = s.cfg.Library.Session(ctx, secret, s.cfg.Now()); err == nil || errors.Is(err, blog.ErrNotFound) {
			return session, err
		}
	}
	if s.cfg.Nearby != nil {
		session, nearErr := s.cfg.Nearby.Session(limited, secret, s.cfg.Now())
		if nearErr == nil {
			c.Set(deskKey, s.cfg.Nearby)
			c.SetRequest(c.Request().WithContext(limited))
			return session, nil
		}
		s.logOf(limited).Warn("cannot check a login", "destination", "mongo-secondary", "err", nearErr)
	}
	return blog.Session{}, &uncheckedError{way: way, err: err}
}

// desk is what a page of the administration is read from: a secondary where the
// primary could not tell who asks.
func (s *Site) desk(c echo.Context) Desk {
	if nearby, ok := c.Get(deskKey).(Desk); ok {
		return nearby
	}
	return s.cfg.Library
}

// readOnly reports whether a page is read without the primary.
func readOnly(c echo.Context) bool { return c.Get(deskKey) != nil }

// without runs a handler that reads without the primary, so that its failure names
// what was read from.
func without(c echo.Context, next echo.HandlerFunc) error {
	err := next(c)
	if err == nil || inWords(err) != nil {
		return err
	}
	return &secondaryError{err}
}

// secondaryError is the failure of a read from a secondary.
type secondaryError struct{ error }

func (e *secondaryError) Unwrap() error { return e.error }

// uncheckedError means that nobody could be asked whether a login holds. It is no
// word on the login.
type uncheckedError struct {
	way wayState // to the primary
	err error
}

func (e *uncheckedError) Error() string { return "cannot check the login: " + e.err.Error() }
func (e *uncheckedError) Unwrap() error { return e.err }

func (e *uncheckedError) inDoubt() *Problem {
	why := "mongo-primary does not answer"
	if e.way.kind == kindNoInstance {
		why = "no primary since " + clock(e.way.since)
	}
	return &Problem{
		Status: http.StatusServiceUnavailable, Kind: "session", Title: "Cannot check your session now", Again: retrySoon,
		Reason: fmt.Sprintf("Whether your login still holds cannot be read anywhere: %s.", why),
		Hint:   "You are not logged out. Try again in a few seconds. See:", Command: "sluice status",
	}
}
