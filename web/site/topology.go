package site

import (
	"context"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/sync/errgroup"

	"sluice/mesh"
	"sluice/web/blog"
)

const (
	newest = 20
	// secondaryTimeout is how long the page waits for its proof that a
	// secondary can be read; the page does not depend on it.
	secondaryTimeout = 1500 * time.Millisecond
	// readSecondary is the word for entries from a secondary and from nobody else; the
	// other two are the read preferences.
	readSecondary = "secondary"
)

// show answers GET of the page. Whatever the entries are read from, the primary is
// asked who it is, and its failure is the page's.
func (s *Site) show(c echo.Context) error {
	view, from := s.view(), s.entriesFrom(c)
	view.Near = from != ReadPrimary
	ctx := c.Request().Context()
	seen, _ := s.lookout.current()
	primaryCtx, cancel := s.patience(ctx, seen.sight)
	defer cancel()
	view.Events, view.PrimarySince, view.SecondarySince = seen.events, seen.sight.primary.since, seen.sight.secondary.since

	var group errgroup.Group
	var primary *Problem
	group.Go(func() error { primary = s.readPrimary(primaryCtx, &view, from == ReadPrimary); return nil })
	var second secondRead
	traced := blog.Traced(ctx)
	group.Go(func() error { second = s.readSecondary(traced, from); return nil })
	_ = group.Wait()
	secondary := second.problem
	view.Problem, view.Secondary = primary, second.shown
	if primary != nil && view.Me == "" {
		view.hear(second.hello, primary.Kind)
	}
	if from == readSecondary {
		view.Problem = secondary
	}
	switch {
	case from == ReadPrimary && primary != nil && secondary == nil:
		s.readInstead(ctx, &view)
	case from == ReadNearest && primary == nil && secondary != nil:
		view.Problem = s.readEntries(primaryCtx, &view)
	case from == readSecondary, from == ReadNearest && secondary == nil:
		view.Entries, view.EntriesFrom = second.entries, "mongo-secondary"
		if secondary == nil {
			view.EntriesMember = s.cfg.Secondary.Store.Member(traced)
		}
	}
	if view.Edges = s.edges(c.Request()); view.Problem != nil {
		if view.Passes = "mongo-primary"; from == readSecondary {
			view.Passes = "mongo-secondary"
		}
	}
	if view.Problem != nil && view.Problem.Detail != "" {
		view.Problem.RequestID = c.Response().Header().Get(requestIDHeader)
	}
	return s.write(c, view)
}

// entriesFrom is what a request wants the entries to be read from: "from" in its
// address, for this once, else as it wants the blog to be read.
func (s *Site) entriesFrom(c echo.Context) string {
	if from := c.QueryParam("from"); from == ReadPrimary || from == readSecondary {
		return from
	}
	return s.preference(c, s.current().ReadPreference)
}

// readProblem is the problem of a read, with the inner reason while debugging is
// switched on.
func (s *Site) readProblem(service string, err error) *Problem {
	p := problem(service, err)
	if s.current().Debug {
		p.Detail = err.Error()
	}
	return p
}

// patience bounds how long a page waits for a primary that cannot be elected, or has
// been missing for longer than anything is held: it has something to show without.
func (s *Site) patience(ctx context.Context, seen sight) (context.Context, context.CancelFunc) {
	lost := seen.quorum.Known() && !seen.quorum.Majority()
	if lost || seen.primary.kind == kindNoInstance && s.cfg.Now().Sub(seen.primary.since) > mesh.DefaultHold {
		return context.WithTimeout(ctx, nearTimeout)
	}
	return context.WithCancel(ctx)
}

// readInstead reads the entries from a secondary because the primary cannot be read.
func (s *Site) readInstead(ctx context.Context, view *View) {
	bounded, cancel := context.WithTimeout(blog.Traced(ctx), secondaryTimeout)
	defer cancel()
	entries, err := s.cfg.Secondary.Store.Newest(bounded, newest)
	if err != nil {
		s.logOf(ctx).Warn("cannot read", "destination", "mongo-secondary", "err", err)
		return
	}
	view.Entries, view.EntriesFrom = entries, "mongo-secondary"
	view.EntriesMember = s.cfg.Secondary.Store.Member(bounded)
}

// readPrimary fills in what the primary says.
func (s *Site) readPrimary(ctx context.Context, view *View, withEntries bool) *Problem {
	hello, err := s.cfg.Primary.Store.Hello(ctx)
	if err != nil {
		return s.unread(ctx, "mongo-primary", err)
	}
	view.believe(hello)
	if !withEntries {
		return nil
	}
	return s.readEntries(ctx, view)
}

// readEntries fills in the entries as the primary has them.
func (s *Site) readEntries(ctx context.Context, view *View) *Problem {
	traced := blog.Traced(ctx)
	entries, err := s.cfg.Primary.Store.Newest(traced, newest)
	view.EntriesFrom, view.EntriesMember = "mongo-primary", s.cfg.Primary.Store.Member(traced)
	if err != nil {
		return s.unread(ctx, "mongo-primary", err)
	}
	view.Entries = entries
	return nil
}

// secondRead is what came of asking a secondary.
type secondRead struct {
	shown   Secondary
	hello   blog.Hello
	entries []blog.Entry
	problem *Problem
}

// readSecondary asks a secondary who it is, and reads the entries from it unless the
// primary alone is to be read. Only who wants nobody else waits for it.
func (s *Site) readSecondary(ctx context.Context, from string) secondRead {
	if from != readSecondary {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, secondaryTimeout)
		defer cancel()
	}
	hello, err := s.cfg.Secondary.Store.Hello(ctx)
	if err != nil {
		p := s.unread(ctx, "mongo-secondary", err)
		return secondRead{shown: Secondary{Error: p.Reason}, problem: p}
	}
	var entries []blog.Entry
	if from != ReadPrimary {
		entries, err = s.cfg.Secondary.Store.Newest(ctx, newest)
	}
	if err != nil {
		p := s.unread(ctx, "mongo-secondary", err)
		return secondRead{shown: Secondary{Error: p.Reason}, hello: hello, problem: p}
	}
	return secondRead{shown: Secondary{OK: true, Me: hello.Me, IsSecondary: hello.IsSecondary}, hello: hello, entries: entries}
}

// unread logs a read that failed and puts it into words.
func (s *Site) unread(ctx context.Context, service string, err error) *Problem {
	s.logOf(ctx).Warn("cannot read", "destination", service, "err", err)
	return s.readProblem(service, err)
}
