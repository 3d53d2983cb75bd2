package site_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sluice/internal/mongotest"
	"sluice/web/blog"
)

func TestTheTopologyPageReadsAsIsConfiguredAndTheReadersChoiceWins(t *testing.T) {
	l := start(t)
	l.primary.entries = []blog.Entry{{ID: "x", Title: "As the primary has it"}}
	l.secondary.entries = []blog.Entry{{ID: "x", Title: "As the secondary has it"}}
	primary := []string{"As the primary has it", "read from mongo-primary (<code>127.0.10.2:27017</code>)"}
	secondary := []string{"As the secondary has it", "read from mongo-secondary (<code>127.0.10.1:27017</code>)"}
	toPrimary, toNearest := `href="/web?read=primary"`, `href="/web?read=nearest"`
	for _, row := range []struct {
		configured, cookie, target string
		from                       []string
		link, remembered           string
	}{
		{"", "", "/web", secondary, toPrimary, ""},
		{"nearest", "", "/web", secondary, toPrimary, ""},
		{"primary", "", "/web", primary, toNearest, ""},
		{"primary", "nearest", "/web", secondary, toPrimary, ""},
		{"nearest", "primary", "/web", primary, toNearest, ""},
		{"nearest", "bogus", "/web?read=bogus&from=bogus", secondary, toPrimary, ""},
		{"primary", "primary", "/web?read=nearest", secondary, toPrimary, "nearest"},
		{"nearest", "nearest", "/web?read=primary", primary, toNearest, "primary"},
		{"primary", "primary", "/web?from=secondary", secondary, toPrimary, ""},
		{"nearest", "nearest", "/web?from=primary", primary, toNearest, ""},
	} {
		l.configure("read_preference", row.configured)
		got := l.read(row.target, row.cookie)
		for _, want := range append(row.from, row.link) {
			if got.status != 200 || !strings.Contains(got.body, want) {
				t.Errorf("%+v: %d without %q: %s", row, got.status, want, got.body)
			}
		}
		if set := got.header.Get("Set-Cookie"); row.remembered == "" && set != "" || !strings.HasPrefix(set, "sluice_read="+row.remembered) && row.remembered != "" {
			t.Errorf("%+v: Set-Cookie %q", row, set)
		}
	}
}

func TestTheTopologyPageReadsFromThePrimaryWhatASecondaryDoesNotGive(t *testing.T) {
	l := start(t)
	l.primary.entries = []blog.Entry{{ID: "x", Title: "As the primary has it"}}
	l.secondary.entries = []blog.Entry{{ID: "x", Title: "As the secondary has it"}}
	l.secondary.fail(denied("web", "mongo-secondary"))
	if got := l.get("/web", "text/html"); got.status != 200 || !strings.Contains(got.body, "As the primary has it") || !strings.Contains(got.body, "denied by intention web -> mongo-secondary") {
		t.Errorf("a secondary that is denied: %d %s", got.status, got.body)
	}
	l.secondary.fail(nil)
	l.secondary.hang(true)
	began := time.Now()
	if got := l.get("/web", "text/html"); got.status != 200 || !strings.Contains(got.body, "As the primary has it") || time.Since(began) > 4*time.Second {
		t.Errorf("a secondary that hangs: %d after %s: %s", got.status, time.Since(began), got.body)
	}
	l.secondary.hang(false)
	l.primary.fail(denied("web", "mongo-primary"))
	if got := l.get("/web", "text/html"); got.status != 503 || !strings.Contains(got.body, "As the secondary has it") {
		t.Errorf("a primary that is denied: %d %s", got.status, got.body)
	}
	l.secondary.fail(denied("web", "mongo-secondary"))
	if got := l.get("/web", "text/html"); got.status != 503 || strings.Contains(got.body, "has it") || strings.Contains(got.body, "No entry yet") {
		t.Errorf("neither: %d %s", got.status, got.body)
	}
}

func (m *memory) hang(is bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hangs = is
}

// configure writes one key, "" takes it away, and waits until it is in force.
func (l *lab) configure(key, value string) {
	l.t.Helper()
	if l.keys.set(); value != "" {
		l.keys.set(key, value)
	}
	mongotest.Wait(l.t, 5*time.Second, "the setting is in force", func(context.Context) error {
		if l.live.Current().Index != l.keys.Written().Index {
			return errors.New("it is not")
		}
		return nil
	})
}

// read gets a page as a browser with a read preference of its own.
func (l *lab) read(target, preference string) answer {
	l.t.Helper()
	request := httptest.NewRequest(http.MethodGet, "http://"+host+target, nil)
	request.RequestURI = ""
	request.Header.Set("Accept", "text/html")
	if preference != "" {
		request.AddCookie(&http.Cookie{Name: "sluice_read", Value: preference})
	}
	return l.do(request)
}
