package consul

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/consultest"
)

// open returns a client of the agent with the token in tokenFile.
func open(t testing.TB, agent *consultest.Agent, tokenFile string) *Client {
	t.Helper()
	return openAt(t, agent.Address, tokenFile)
}

func openAt(t testing.TB, address, tokenFile string) *Client {
	t.Helper()
	var handler slog.Handler = slog.DiscardHandler
	if testing.Verbose() {
		handler = slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})
	}
	client, err := Open(Config{Address: address, TokenFile: tokenFile, Logger: slog.New(handler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// running runs something until the test ends, or until the returned stop, which
// waits for it.
func running(t testing.TB, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run did not end within 10 s of its context")
		}
	}
	t.Cleanup(stop)
	return stop
}

func within(t testing.TB, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// intend writes one intention by the management token.
func intend(agent *consultest.Agent, source, destination, action string) {
	agent.Call(http.MethodPut, "/v1/connect/intentions/exact?source="+source+"&destination="+destination,
		map[string]string{"Action": action}, nil)
}

func writeFile(t testing.TB, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// closed turns a channel into a condition.
func closed(c <-chan struct{}) func() error {
	return func() error {
		select {
		case <-c:
			return nil
		default:
			return errors.New("not closed")
		}
	}
}

func unequal(what string, got, want any) error {
	return fmt.Errorf("%s is %v, want %v", what, got, want)
}

// recorder passes requests on to an agent, and keeps what was asked.
type recorder struct {
	address string

	mu    sync.Mutex
	asked []string // method, path and filter
}

func record(t testing.TB, agent *consultest.Agent) *recorder {
	t.Helper()
	r := &recorder{}
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: agent.Address})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		r.mu.Lock()
		r.asked = append(r.asked, strings.TrimSpace(request.Method+" "+request.URL.Path+" "+request.URL.Query().Get("filter")))
		r.mu.Unlock()
		forward.ServeHTTP(w, request)
	}))
	t.Cleanup(server.Close)
	r.address = server.URL
	return r
}

// count says how often something was asked.
func (r *recorder) count(what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, asked := range r.asked {
		if asked == what {
			n++
		}
	}
	return n
}
