package main

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/consul"
	"sluice/internal/consultest"
	"sluice/internal/service"
	"sluice/web/settings"
)

const (
	goodKeys = `[{"Key":"web/tagline","Value":"a2VwdA=="},{"Key":"web/maintenance","Value":"dHJ1ZQ=="}]` // kept, true
	laterKey = `[{"Key":"web/tagline","Value":"bGF0ZXI="}]`
	oneKey   = `[{"Key":"web/tagline","Value":"a2VwdA=="}]`
)

// keyStore is an agent of Consul that answers as a test says.
type keyStore struct {
	mu     sync.Mutex
	answer http.HandlerFunc
	asked  int // since the answer is this one
}

func (k *keyStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	answer := k.answer
	k.asked++
	k.mu.Unlock()
	answer(w, r)
}

func (k *keyStore) is(answer http.HandlerFunc) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answer, k.asked = answer, 0
}

// waits returns nil when what the store says now has been asked for more than once.
func (k *keyStore) waits() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.asked < 2 {
		return errors.New("it is not asked again")
	}
	return nil
}

// keys answers with a body; index 0 leaves Consul's index out. What asks for news of
// that index waits.
func keys(index, status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if asked := r.URL.Query().Get("index"); index > 0 && asked == strconv.Itoa(index) {
			select {
			case <-r.Context().Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
		if index > 0 {
			w.Header().Set("X-Consul-Index", strconv.Itoa(index))
			w.Header().Set("X-Consul-LastContact", "0")
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// hidden is what Consul answers where the token may read none of the keys.
func hidden(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
	w.Header().Set("X-Consul-Index", "9")
	w.Header().Set("X-Consul-LastContact", "0")
	w.WriteHeader(http.StatusNotFound)
}

// hangsUp is an agent that dies with the question.
func hangsUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func TestAKeyThatIsGoneIsItsDefaultAndKeysThatCannotBeReadStayAsTheyWere(t *testing.T) {
	const words = "kept"
	for name, row := range map[string]struct {
		then        http.HandlerFunc
		unreadable  bool
		tagline     string
		maintenance bool
	}{
		"one key is deleted":                 {keys(8, 200, oneKey), false, words, false},
		"every key is deleted":               {keys(8, 404, ""), false, "", false},
		"a new Consul without keys":          {keys(1, 404, ""), false, "", false},
		"the token is gone":                  {keys(0, 403, "ACL not found"), true, words, true},
		"permission denied":                  {keys(0, 403, "Permission denied"), true, words, true},
		"the keys are hidden":                {hidden, true, words, true},
		"500":                                {keys(0, 500, "No cluster leader"), true, words, true},
		"garbage":                            {keys(8, 200, "<html>Welcome</html>"), true, words, true},
		"an object":                          {keys(8, 200, `{"Key":"web/tagline"}`), true, words, true},
		"a list of nothing":                  {keys(8, 200, "[null]"), true, words, true},
		"a value that is no base64":          {keys(8, 200, `[{"Key":"web/tagline","Value":"&"}]`), true, words, true},
		"other keys":                         {keys(8, 200, `[{"Key":"lab/run","Value":"a2VwdA=="}]`), true, words, true},
		"an empty list that is not Consul's": {keys(0, 200, "[]"), true, words, true},
		"not found, and not by Consul":       {keys(0, 404, "404 page not found"), true, words, true},
		"cut short":                          {keys(8, 200, goodKeys[:30]), true, words, true},
		"Consul is down":                     {hangsUp, true, words, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &keyStore{answer: keys(7, 200, goodKeys)}
			live := followed(t, store)
			consultest.Await(t, 5*time.Second, "the keys are in force", func() error {
				return inForce(live, words, true)
			})
			began := time.Now()
			store.is(row.then)
			consultest.Await(t, 5*time.Second, "what comes then is noticed", func() error {
				if written := live.Source(); (written.Err != nil) != row.unreadable || !row.unreadable && written.Index == 7 {
					return errors.New("not yet")
				}
				return nil
			})
			consultest.Await(t, 5*time.Second, "Consul is asked again", store.waits)
			consultest.Await(t, 5*time.Second, "the configuration", func() error { return inForce(live, row.tagline, row.maintenance) })
			written, report := live.Source(), live.Report()
			if row.unreadable != !written.FailingSince.IsZero() || row.unreadable != (report.Away != "") || !written.FailingSince.Equal(report.AwaySince) {
				t.Errorf("cannot be asked since %v; the report says %q since %v", written.FailingSince, report.Away, report.AwaySince)
			}
			if row.unreadable && (written.FailingSince.Before(began) || written.FailingSince.After(time.Now())) {
				t.Errorf("cannot be asked since %v, and it was asked from %v to %v", written.FailingSince, began, time.Now())
			}
			store.is(keys(20, 200, laterKey))
			consultest.Await(t, 10*time.Second, "what is written afterwards is in force", func() error { return inForce(live, "later", false) })
			if written := live.Source(); written.Err != nil || !written.FailingSince.IsZero() {
				t.Errorf("it was asked, and cannot be since %v: %v", written.FailingSince, written.Err)
			}
		})
	}
}

// followed is a configuration that follows store as the process does.
func followed(t *testing.T, store http.Handler) *settings.Live {
	t.Helper()
	return followedBy(t, store, config{}, &slog.LevelVar{})
}

// followedBy is one that moves the level of a log.
func followedBy(t *testing.T, store http.Handler, cfg config, level *slog.LevelVar) *settings.Live {
	t.Helper()
	server := httptest.NewServer(store)
	t.Cleanup(server.Close)
	client, err := consul.Open(consul.Config{Address: server.URL, Datacenter: "dc1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	group := &service.Group{}
	live, _ := cfg.follow(group, client, slog.New(slog.DiscardHandler), level)
	runGroup(t, group)
	return live
}

func inForce(live *settings.Live, tagline string, maintenance bool) error {
	if now := live.Current(); now.Tagline != tagline || now.Maintenance != maintenance {
		return errors.New("in force: " + now.Tagline + ", maintenance " + strconv.FormatBool(now.Maintenance))
	}
	return nil
}

// lines is a log that may be read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

func TestDebuggingMovesTheLevelOfTheLogAndBack(t *testing.T) {
	const on = `[{"Key":"web/debug","Value":"dHJ1ZQ=="}]`
	for usual, row := range map[string]struct{ level, over slog.Level }{
		"debug": {slog.LevelDebug, slog.LevelDebug - 1}, "info": {slog.LevelInfo, slog.LevelDebug}, "warn": {slog.LevelWarn, slog.LevelInfo}, "error": {slog.LevelError, slog.LevelWarn},
	} {
		t.Run(usual, func(t *testing.T) {
			t.Parallel()
			out := &lines{}
			cfg := config{}
			cfg.LogLevel = usual
			logger, level := cfg.logger(out)
			parts := []*slog.Logger{logger, logger.With("a", 1), logger.WithGroup("g").With("b", 2)}
			logs := func(when string, level slog.Level, want bool) {
				t.Helper()
				for i, part := range parts {
					line := when + level.String() + strconv.Itoa(i)
					part.Log(t.Context(), level, line)
					if out.has(line) != want {
						t.Errorf("%s debugging, a line of level %s: %v, want %v", when, level, !want, want)
					}
				}
			}
			logs("before", row.level, true)
			logs("before", row.over, false)

			store := &keyStore{answer: keys(7, 200, on)}
			live := followedBy(t, store, cfg, level)
			debugs := func(want bool) {
				consultest.Await(t, 5*time.Second, "debugging is as it is written", func() error {
					if live.Current().Debug != want || logger.Enabled(t.Context(), slog.LevelDebug) != (want || usual == "debug") {
						return errors.New("it is not")
					}
					return nil
				})
			}
			debugs(true)
			logs("while", slog.LevelDebug, true)
			logs("while", slog.LevelDebug-1, false)
			store.is(keys(8, 404, ""))
			debugs(false)
			logs("after", row.level, true)
			logs("after", row.over, false)
		})
	}
}
