package settings_test

import (
	"bytes"
	"context"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/web/settings"
)

func TestABadValueKeepsTheLastGoodOne(t *testing.T) {
	for key, test := range map[string]struct {
		good, value string
		bad         []string
	}{
		"web/debug":           {"TRUE", "true", []string{"", "maybe", "2", "\xff", strings.Repeat("x", 5000)}},
		"web/maintenance":     {"on", "true", []string{"", "soon"}},
		"web/read_preference": {"primary", "primary", []string{"", "secondary", "Nearest "}},
		"web/installed_apps":  {"feed, blog\nfeed", "feed blog", []string{"", ",", "blog,shop"}},
		"web/allowed_hosts":   {"A.example .Example.org 10.0.0.1", "a.example .example.org 10.0.0.1", []string{"", "a b/c", "a:80", "..", ".", "a..b", "* a", "<x>"}},
		"web/tagline":         {" one  line ", "one  line", []string{"two\nlines", "bell \a", strings.Repeat("ä", 121), "\xff"}},
	} {
		good, items, _ := settings.Parse(settings.Defaults(), nil, map[string][]byte{key: []byte(test.good)})
		if at(items, key).Value != test.value || at(items, key).Default || at(items, key).Refused != "" {
			t.Errorf("%s = %q: %+v, want %q", key, test.good, at(items, key), test.value)
		}
		for _, bad := range test.bad {
			now, after, _ := settings.Parse(good, items, map[string][]byte{key: []byte(bad)})
			if item := at(after, key); !reflect.DeepEqual(now, good) || item.Value != test.value || item.Default || item.Why == "" {
				t.Errorf("%s = %q: %+v, want %q still", key, bad, item, test.value)
			}
		}
		if gone, _, _ := settings.Parse(good, items, nil); !reflect.DeepEqual(gone, settings.Defaults()) {
			t.Errorf("%s: taken away it is not the default: %+v", key, gone)
		}
	}
	_, _, unknown := settings.Parse(settings.Defaults(), nil, map[string][]byte{"web/": nil, "web/tag": nil, "web/debug": []byte("1"), "webs/x": nil})
	if !reflect.DeepEqual(unknown, []string{"web/tag"}) {
		t.Errorf("unknown: %v", unknown)
	}
}

func at(items []settings.Item, key string) settings.Item {
	for _, item := range items {
		if item.Key == key {
			return item
		}
	}
	return settings.Item{}
}

func TestHostsAreMatchedAsNames(t *testing.T) {
	s, _, _ := settings.Parse(settings.Defaults(), nil, map[string][]byte{"web/allowed_hosts": []byte("a.example .example.org ::1")})
	for host, want := range map[string]bool{
		"a.example": true, "A.EXAMPLE:9999": true, "a.example.": true, "b.a.example": false, "example.org": true, "x.example.org:80": true,
		"x.y.example.org": true, "badexample.org": false, "": false, "[::1]:9999": true, "::1": true, "[::2]": false, "a.example:80:80": false,
	} {
		if got := s.Allows(host); got != want {
			t.Errorf("%q: %v, want %v", host, got, want)
		}
	}
	if !settings.Defaults().Allows("anything") {
		t.Error("without a list not every host is allowed")
	}
}

// kv is a source that a test writes.
type kv struct {
	mu      sync.Mutex
	written settings.Written
	changed chan struct{}
}

func (k *kv) Written() settings.Written { k.mu.Lock(); defer k.mu.Unlock(); return k.written }

func (k *kv) Changed() <-chan struct{} { k.mu.Lock(); defer k.mu.Unlock(); return k.changed }

func (k *kv) put(key, value string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	values := map[string][]byte{key: []byte(value)}
	for other, old := range k.written.Values {
		if other != key {
			values[other] = old
		}
	}
	k.written.Known, k.written.Values = true, values
	k.written.Index++
	close(k.changed)
	k.changed = make(chan struct{})
}

func TestARefusedValueIsLoggedOnceAndEachChangeIsApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, log := &kv{changed: make(chan struct{})}, &bytes.Buffer{}
		var applied []bool
		live := settings.NewLive(source, slog.New(slog.NewTextHandler(log, nil)), func(s settings.Settings) { applied = append(applied, s.Debug) })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- live.Run(ctx) }()
		synctest.Wait()
		if now := live.Current(); now.Index != 0 || now.Debug || len(now.Items) != 6 {
			t.Errorf("before the first answer: %+v", now)
		}
		for _, value := range []string{"true", "perhaps", "perhaps", "false"} {
			source.put("web/debug", value)
			synctest.Wait()
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if !reflect.DeepEqual(applied, []bool{true, true, true, false}) || live.Current().Index != 4 {
			t.Errorf("applied %v up to index %d", applied, live.Current().Index)
		}
		if n := strings.Count(log.String(), "setting refused"); n != 1 {
			t.Errorf("the refused value is logged %d times:\n%s", n, log)
		}
	})
}

func TestAKeyTellsWhenItsOwnValueTookEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &kv{changed: make(chan struct{})}
		start := time.Now()
		live := settings.NewLive(source, slog.New(slog.DiscardHandler), nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- live.Run(ctx) }()
		put := func(key, value string) {
			time.Sleep(time.Minute) // virtual
			source.put(key, value)
			synctest.Wait()
		}
		put("web/tagline", "one")          // index 1, after a minute
		put("web/debug", "true")           // index 2
		put("web/debug", "perhaps")        // index 3, refused
		put("web/maintenance", "on")       // index 4
		put("web/maintenance", "on again") // index 5, refused
		put("web/tagline", "two")          // index 6
		want := map[string]struct {
			minutes int
			index   uint64
		}{"web/tagline": {6, 6}, "web/debug": {2, 2}, "web/maintenance": {4, 4}, "web/allowed_hosts": {0, 0}}
		for _, item := range live.Current().Items {
			if w, ok := want[item.Key]; ok && (item.Index != w.index || !item.Since.Equal(start.Add(time.Duration(w.minutes)*time.Minute))) {
				t.Errorf("%s: since minute %v, index %d; want %+v", item.Key, item.Since.Sub(start).Minutes(), item.Index, w)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
