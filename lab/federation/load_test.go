//go:build dc2

package federation_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// answer is one request that fell due at a moment, and what became of it.
type answer struct {
	due, took time.Duration
	status    int
	// by and dc are who answered.
	by, dc string
	// said is how an answer that is no success begins.
	said string
	err  error
}

func (a answer) failed() bool { return a.err != nil || a.status != http.StatusOK }

// load sends requests at a constant rate, whether they are answered or not.
type load struct {
	t       testing.TB
	began   time.Time
	cancel  context.CancelFunc
	sending sync.WaitGroup
	mu      sync.Mutex
	answers []answer
}

// loadTimeout bounds one request.
const loadTimeout = 10 * time.Second

func startLoad(t testing.TB, url string, rate int) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{t: t, began: time.Now(), cancel: cancel}
	client := &http.Client{Timeout: loadTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: rate}}
	l.sending.Go(func() {
		ticker := time.NewTicker(time.Second / time.Duration(rate))
		defer ticker.Stop()
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-ticker.C:
				l.sending.Go(func() { l.send(client, url) })
			}
		}
	})
	t.Cleanup(func() { l.stop() })
	return l
}

func (l *load) send(client *http.Client, url string) {
	a := answer{due: time.Since(l.began)}
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err == nil {
		request.Header.Set("Accept", "application/json")
		var response *http.Response
		if response, err = client.Do(request); err == nil {
			a.status, a.by, a.dc = response.StatusCode, response.Header.Get("X-Served-By"), response.Header.Get("X-Served-Dc")
			var body []byte
			if body, err = io.ReadAll(response.Body); a.status != http.StatusOK {
				_, a.said, _ = strings.Cut(string(body), `"problem":`)
			}
			_ = response.Body.Close()
		}
	}
	a.err, a.took = err, time.Since(l.began)-a.due
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers = append(l.answers, a)
}

// stop ends the sending, waits for what is under way and returns all answers in the
// order in which they fell due.
func (l *load) stop() []answer {
	l.cancel()
	l.sending.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.SortFunc(l.answers, func(a, b answer) int { return int(a.due - b.due) })
	return l.answers
}

// now is the time on the load's clock.
func (l *load) now() time.Duration { return time.Since(l.began) }

// from returns how long after a moment the first request fell due that was answered
// well by a datacenter; false if none was.
func from(answers []answer, since time.Duration, dc string) (time.Duration, bool) {
	for _, a := range answers {
		if a.due >= since && !a.failed() && a.dc == dc {
			return a.due - since, true
		}
	}
	return 0, false
}

// failures tells how many failed after a moment, the first and the last of them, and
// why the first did.
func failures(answers []answer, since time.Duration) (count int, text string) {
	var first, last answer
	for _, a := range answers {
		if a.due < since-loadTimeout || !a.failed() {
			continue
		}
		if count == 0 {
			first = a
		}
		count, last = count+1, a
	}
	if count == 0 {
		return 0, "none failed"
	}
	why := fmt.Sprint(first.err)
	if first.err == nil {
		why = fmt.Sprintf("status %d by %q: %.200s", first.status, first.by, first.said)
	}
	return count, fmt.Sprintf("%d failed, the first due %v after it (%s), the last %v", count, first.due-since, why, last.due-since)
}
