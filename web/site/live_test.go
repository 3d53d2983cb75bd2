package site_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sluice/internal/mongotest"
	"sluice/mesh"
	"sluice/web/blog"
)

// events reads a stream into a channel that is closed at its end.
func (l *lab) events() <-chan string {
	l.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	request := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/web/events", nil)
	request.RequestURI = ""
	client := &http.Client{Transport: l.client.Transport}
	response, err := client.Do(request)
	if err != nil {
		cancel()
		l.t.Fatal(err)
	}
	if kind := response.Header.Get("Content-Type"); response.StatusCode != 200 || kind != "text/event-stream" {
		cancel()
		l.t.Fatalf("%d %s", response.StatusCode, kind)
	}
	out := make(chan string, 100)
	go func() {
		defer close(out)
		defer response.Body.Close()
		lines := bufio.NewScanner(response.Body)
		var event strings.Builder
		for lines.Scan() {
			if lines.Text() == "" {
				out <- event.String()
				event.Reset()
				continue
			}
			event.WriteString(lines.Text() + "\n")
		}
	}()
	l.t.Cleanup(func() {
		cancel()
		for range out { //nolint:revive // until it ends
		}
	})
	return out
}

// until waits for an event with all the texts.
func (l *lab) until(events <-chan string, texts ...string) {
	l.t.Helper()
	timeout := time.After(15 * time.Second)
	last := ""
	for {
		select {
		case event, ok := <-events:
			if !ok {
				l.t.Fatalf("the stream has ended before it had %q", texts)
			}
			last = event
			missing := false
			for _, text := range texts {
				missing = missing || !strings.Contains(event, text)
			}
			if !missing {
				return
			}
		case <-timeout:
			l.t.Fatalf("no event with %q; the last was %s", texts, last)
		}
	}
}

func TestAPageIsToldOfDenialsAndRoleChangesAsTheyHappen(t *testing.T) {
	l := start(t)
	events := l.events()
	l.until(events, "event: topology\n", "data: ", "127.0.10.2:27017", "/svc/gateway<", "Nothing has changed", `data-node="web-1" data-datacenter="dc1"`)

	l.toPrimary.fail(denied("web", "mongo-primary"))
	l.until(events, "web -> mongo-primary is denied: denied by intention web -> mongo-primary.", `class="card denied"`, "since", "not connected")
	l.toPrimary.fail(nil)
	l.until(events, "web -> mongo-primary works again after")
	l.toSecond.fail(denied("web", "mongo-secondary"))
	l.until(events, `<span class="badge bad">no</span> denied by intention web -> mongo-secondary`)
	l.toSecond.fail(nil)
	l.until(events, "web -> mongo-secondary works again after", `<span class="badge good">works</span>`)

	l.primary.mu.Lock()
	l.primary.hello.Primary, l.primary.hello.Me = "127.0.10.1:27017", "127.0.10.1:27017"
	l.primary.mu.Unlock()
	l.until(events, "127.0.10.1:27017 is primary now. It was 127.0.10.2:27017.")
	l.secondary.mu.Lock()
	l.secondary.hello.Me = "127.0.10.2:27017"
	l.secondary.mu.Unlock()
	l.until(events, "mongo-secondary is 127.0.10.2:27017 now.")

	// Who comes without a script sees the same.
	if got := l.get("/web", "text/html"); !strings.Contains(got.body, "is primary now. It was 127.0.10.2:27017.") {
		t.Error("the page does not show what happened")
	}
}

func TestAFailureOfTheWayIsToldInWords(t *testing.T) {
	l := start(t)
	events := l.events()
	l.until(events, "127.0.10.2:27017")
	l.toPrimary.fail(fmt.Errorf("dial: %w", mesh.ErrNoInstance))
	l.primary.fail(fmt.Errorf("dial: %w", mesh.ErrNoInstance))
	l.until(events, "web -> mongo-primary fails: No healthy instance of mongo-primary.", "not connected", "no primary right now", "since <time")

	l.secondary.mu.Lock()
	l.secondary.quorum = blog.Quorum{Heard: 2, Voters: 5}
	l.secondary.entries = []blog.Entry{{ID: "x", Title: "Written before"}}
	l.secondary.mu.Unlock()
	l.until(events, "read-only: no majority, 2 of 5", "Reads go on from 127.0.10.1:27017 (mongo-secondary).")
	for accept, want := range map[string]string{
		"text/html":        "<strong>read-only: no majority, 2 of 5</strong>, since <time",
		"application/json": `"kind":"read_only","title":"read-only: no majority, 2 of 5"`,
		"text/plain":       "! read-only: no majority, 2 of 5, since ",
	} {
		got := l.get("/web", accept)
		for _, text := range []string{want, "Written before", "127.0.10.1:27017", "mongo-secondary"} {
			if got.status != 503 || !strings.Contains(got.body, text) {
				t.Errorf("%s: %d, no %q in:\n%s", accept, got.status, text, got.body)
			}
		}
	}
	if got := l.get("/web/none", "text/html"); got.status != 404 || !strings.Contains(got.body, "no majority, 2 of 5") {
		t.Errorf("an error page says nothing of it: %d", got.status)
	}
	l.primary.fail(nil)
	l.toPrimary.fail(nil)
	l.until(events, "web -> mongo-primary works again")
	if got := l.get("/web", "text/html"); got.status != 200 || strings.Contains(got.body, "no majority") {
		t.Errorf("%d, or the page still says that nothing can be written", got.status)
	}
}

func TestAPageSaysThatConsulIsAway(t *testing.T) {
	l := start(t)
	events := l.events()
	l.until(events, "127.0.10.2:27017")
	away := errors.New("connection refused")
	l.consul.Store(&away)
	l.until(events, "Consul is away: running on the last known state", "since <time")
	l.consul.Store(nil)
	mongotest.Wait(t, 5*time.Second, "the page says nothing of it any more", func(context.Context) error {
		if got := l.get("/web", "text/html"); strings.Contains(got.body, "Consul is away") {
			return errors.New("it does")
		}
		return nil
	})
}

func TestSoManyStreamsAndNoMore(t *testing.T) {
	l := start(t)
	for range 100 {
		l.until(l.events(), "127.0.10.2:27017")
	}
	mongotest.Wait(t, 5*time.Second, "the next is refused", func(context.Context) error {
		if got := l.get("/web/events", "text/event-stream"); got.status != 503 || got.header.Get("Retry-After") != "30" {
			return fmt.Errorf("status %d, Retry-After %q", got.status, got.header.Get("Retry-After"))
		}
		return nil
	})
}
