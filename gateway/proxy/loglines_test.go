package proxy_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
)

// lines is a log to be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestAnOutageDoesNotFillTheLog(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(meshtest.Deny("gateway", "web"))
	serve(world, "web", "web-1", echo, "urlprefix-/web", "urlprefix-/other")
	var log lines
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	began := time.Now()
	for range 50 {
		l.get("/web")
		l.get("/other")
	}
	most := 2 * (1 + int(time.Since(began)/(10*time.Second))) // a stalled machine earns a line more
	if n := strings.Count(log.String(), `msg="request failed"`); n < 2 || n > most {
		t.Errorf("%d lines of 50 requests to each of two routes, want 2 to %d:\n%s", n, most, log.String())
	}
}
