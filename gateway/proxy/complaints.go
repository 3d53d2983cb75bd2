package proxy

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// complainEvery is how long one line stands for what fails on a route for the same
	// reason.
	complainEvery = 10 * time.Second
	// maxComplaints bounds what is told apart; what is beyond it is told together.
	maxComplaints = 512
)

// complaint is what fails: a route, "" if there was none, and why.
type complaint struct{ route, reason string }

// withheld is how many lines of a complaint were not written.
type withheld struct {
	complaint
	count int
}

// complaints decides which failed requests get a line in the log: the first of a
// route and reason at once, and then one in complainEvery, with how many there
// were between. An outage under load would else write as many lines as there are
// requests, and the log would be the next thing that fails. It is safe for
// concurrent use.
type complaints struct {
	mu   sync.Mutex
	open map[complaint]*silence
}

// silence is the time after a line.
type silence struct {
	began time.Time
	count int
}

func newComplaints() *complaints { return &complaints{open: map[complaint]*silence{}} }

// allow says whether a line may be written now, and how many were not since the
// last one.
func (c *complaints) allow(which complaint, now time.Time) (left int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.open[which]
	if q == nil && len(c.open) >= maxComplaints {
		which = complaint{}
		q = c.open[which]
	}
	switch {
	case q == nil:
		c.open[which] = &silence{began: now}
		return 0, true
	case now.Sub(q.began) >= complainEvery:
		left = q.count
		*q = silence{began: now}
		return left, true
	}
	q.count++
	return 0, false
}

// overdue returns what was not written for as long as complainEvery, or whatever
// there is if all is true, and forgets what has been silent for as long.
func (c *complaints) overdue(now time.Time, all bool) []withheld {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []withheld
	for which, q := range c.open {
		switch {
		case !all && now.Sub(q.began) < complainEvery:
		case q.count > 0:
			list = append(list, withheld{which, q.count})
			*q = silence{began: now}
		default:
			delete(c.open, which)
		}
	}
	return list
}

// complain logs one request that has failed, at the level of what nobody has to
// read where enough of them were logged.
func (p *Proxy) complain(x *exchange, service string, status int, now time.Time) {
	which, level := complaint{reason: flagsOf(x.err).String()}, slog.LevelWarn
	if x.plan != nil {
		which.route = x.plan.name
	}
	left, ok := p.complaints.allow(which, now)
	if !ok {
		level = slog.LevelDebug
	}
	if !p.log.Enabled(context.Background(), level) {
		return
	}
	args := []any{
		"method", x.method, "host", x.host, "path", p.mask.Target(x.path), "status", status,
		"took_ms", float64(now.Sub(x.started).Microseconds()) / 1000, "client", x.client.String(), "request_id", x.id,
		"service", service, "instance", x.instance(), "attempts", len(x.attempts), "err", x.err,
	}
	if left > 0 {
		args = append(args, "left_out", left)
	}
	p.log.Log(context.Background(), level, "request failed", args...)
}

// tellWithheld logs how many lines were left out, where no later one says it.
func (p *Proxy) tellWithheld(now time.Time, all bool) {
	for _, w := range p.complaints.overdue(now, all) {
		p.log.Warn("further requests failed", "route", w.route, "reason", w.reason, "left_out", w.count)
	}
}
