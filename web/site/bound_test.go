package site_test

import (
	"context"
	"sync"
	"time"

	"sluice/web/blog"
)

// limits notes when a page first asked anybody, and until when its last read from a
// secondary may take. Unlike a clock it is not wrong on a busy machine.
type limits struct {
	mu           sync.Mutex
	asked, until time.Time
	unbounded    bool
}

// ask notes that a page asks somebody.
func (l *limits) ask() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked.IsZero() {
		l.asked = time.Now()
	}
}

// read notes a read from a secondary.
func (l *limits) read(ctx context.Context) {
	l.ask()
	until, bounded := ctx.Deadline()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unbounded = l.unbounded || !bounded
	if until.After(l.until) {
		l.until = until
	}
}

// begin forgets what was noted.
func (l *limits) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked, l.until, l.unbounded = time.Time{}, time.Time{}, false
}

// span returns how long a page may take from its first question on; bounded is false
// if nothing ends it, or nothing was read.
func (l *limits) span() (span time.Duration, bounded bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until.Sub(l.asked), !l.unbounded && !l.until.IsZero()
}

func (n *nearby) Entries(ctx context.Context, q blog.Query) (blog.Page, error) {
	n.limits.read(ctx)
	return n.Desk.Entries(ctx, q)
}

func (n *nearby) Entry(ctx context.Context, id string) (blog.Entry, error) {
	n.limits.read(ctx)
	return n.Desk.Entry(ctx, id)
}

func (n *nearby) Blogs(ctx context.Context) ([]blog.Blog, error) {
	n.limits.read(ctx)
	return n.Desk.Blogs(ctx)
}

func (n *nearby) Deleted(ctx context.Context, now time.Time) ([]blog.Entry, error) {
	n.limits.read(ctx)
	return n.Desk.Deleted(ctx, now)
}

func (n *nearby) DeletedBlogs(ctx context.Context, now time.Time) ([]blog.Blog, error) {
	n.limits.read(ctx)
	return n.Desk.DeletedBlogs(ctx, now)
}

func (n *nearby) Administrators(ctx context.Context) ([]blog.Administrator, error) {
	n.limits.read(ctx)
	return n.Desk.Administrators(ctx)
}

func (n *nearby) Member(ctx context.Context) string {
	n.limits.read(ctx)
	return n.Desk.Member(ctx)
}
