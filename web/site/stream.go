package site

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/web/blog"
)

const (
	// maxStreams is how many pages may be live at once in one process.
	maxStreams = 100
	// streamEvery is the least time between two changes of a page.
	streamEvery = 250 * time.Millisecond
	// heartbeat keeps a stream that has no news from being taken for dead.
	heartbeat = 15 * time.Second
	// streamWrite bounds one write to a reader who does not read.
	streamWrite = 10 * time.Second
)

// errStreams means that no further page can be live.
var errStreams = errors.New("too many pages are live")

// Run follows what the topology page shows until ctx ends, and then ends the
// streams. Without it pages are not live.
func (s *Site) Run(ctx context.Context) error { return s.lookout.run(ctx) }

// stream keeps a page of the topology up to date: the page's live part, rendered,
// as a server-sent event for each change (HTML Standard, "Server-sent events").
// Each event is the whole state, so that a reader who comes back needs no replay.
func (s *Site) stream(c echo.Context) error {
	if !s.lookout.join() {
		return errStreams
	}
	defer s.lookout.leave()
	ctx := c.Request().Context()
	header := c.Response().Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	control := http.NewResponseController(c.Response())
	// The server's own bounds are those of a page. A writer without them is one of
	// a test.
	_ = control.SetReadDeadline(time.Time{})
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	sent := ""
	for s.unserved(c.Request()) == nil {
		seen, changed := s.lookout.current()
		text := ": \n\n"
		if part, err := s.liveEvent(c, seen); err != nil {
			return err
		} else if part != sent {
			sent, text = part, part
		}
		_ = control.SetWriteDeadline(time.Now().Add(streamWrite))
		if _, err := io.WriteString(c.Response(), text); err != nil {
			return nil // the reader has gone
		}
		if err := control.Flush(); err != nil {
			return nil
		}
		if !pause(ctx, streamEvery, s.lookout.stopped) {
			return nil
		}
		select {
		case <-changed:
		case <-beat.C:
		case <-s.lookout.stopped:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// pause waits; false means that ctx or stopped has ended.
func pause(ctx context.Context, d time.Duration, stopped <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-stopped:
	case <-ctx.Done():
	}
	return false
}

// liveEvent renders the live part of the page as an event.
func (s *Site) liveEvent(c echo.Context, seen outlook) (string, error) {
	view := s.view()
	view.take(seen)
	view.Edges = s.edges(c.Request())
	var part bytes.Buffer
	if err := s.page.template.ExecuteTemplate(&part, "live", view); err != nil {
		return "", fmt.Errorf("render the live part: %w", err)
	}
	var event strings.Builder
	fmt.Fprintf(&event, "event: topology\n")
	for line := range strings.Lines(part.String()) {
		if line = strings.TrimSpace(line); line != "" {
			event.WriteString("data: " + line + "\n")
		}
	}
	event.WriteString("\n")
	return event.String(), nil
}

// take fills in what a lookout sees.
func (v *View) take(seen outlook) {
	v.Events = seen.events
	v.Notices = notices(seen.sight)
	v.Secondary = Secondary{Error: seen.sight.secondary.reason}
	if seen.secondAsks && !seen.sight.secondary.broken() {
		v.Secondary = Secondary{OK: true, Me: seen.secondaryHello.Me, IsSecondary: seen.secondaryHello.IsSecondary}
		v.hear(seen.secondaryHello, seen.sight.primary.kind)
	}
	if seen.asked && !seen.sight.primary.broken() { // the last answer is older than what broke
		v.believe(seen.hello)
	}
	v.PrimarySince, v.SecondarySince = seen.sight.primary.since, seen.sight.secondary.since
}

// believe fills in what the primary says.
func (v *View) believe(hello blog.Hello) {
	v.Set, v.Hosts, v.Primary, v.Me = hello.Set, hello.Hosts, hello.Primary, hello.Me
	v.IsPrimary, v.IsSecondary = hello.IsPrimary, hello.IsSecondary
}

// hear fills in what a secondary knows of the set, for want of the primary; kind is the
// problem of the way there. Whom it takes for the primary is left out while none is in
// reach: it hears of a loss later.
func (v *View) hear(hello blog.Hello, kind string) {
	if v.Set = hello.Set; len(hello.Hosts) > 0 {
		v.Hosts = hello.Hosts
	}
	if kind != kindNoInstance {
		v.Primary = hello.Primary
	}
}
