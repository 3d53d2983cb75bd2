package consul

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"
)

// answer is one scripted answer of a fake Consul.
type answer struct {
	value string
	index uint64
	err   error
	// takes is how long it lets the query wait; hang is for ever.
	takes time.Duration
}

const hang = time.Duration(-1)

// script plays answers in order and then blocks. It records what was asked.
type script struct {
	mu      sync.Mutex
	answers []answer
	asked   []uint64
	waits   []time.Duration
	at      []time.Time
}

func (s *script) query(ctx context.Context, options *api.QueryOptions) (string, *api.QueryMeta, error) {
	s.mu.Lock()
	n := len(s.asked)
	s.asked = append(s.asked, options.WaitIndex)
	s.waits = append(s.waits, options.WaitTime)
	s.at = append(s.at, time.Now())
	next := answer{takes: hang}
	if n < len(s.answers) {
		next = s.answers[n]
	}
	s.mu.Unlock()
	if next.takes == hang {
		<-ctx.Done()
		return "", nil, ctx.Err()
	}
	sleep(ctx, next.takes)
	return next.value, &api.QueryMeta{LastIndex: next.index}, next.err
}

func (s *script) watch() *Watch[string] {
	return newWatch(watchConfig[string]{name: "test", query: s.query, logger: slog.New(slog.DiscardHandler)})
}

// play runs the script to its end in virtual time and returns the watch and how
// many changes it told.
func play(t *testing.T, s *script, settle time.Duration) (*Watch[string], int) {
	return playWatch(t, s.watch(), settle)
}

func playWatch(t *testing.T, w *Watch[string], settle time.Duration) (*Watch[string], int) {
	ctx, cancel := context.WithCancel(t.Context())
	changes := 0
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-w.Changed():
				changes++
			case <-ctx.Done():
				return
			}
		}
	})
	synctest.Wait()
	group.Go(func() { _ = w.Run(ctx) })
	time.Sleep(settle) // virtual: the bubble's clock
	synctest.Wait()
	cancel()
	group.Wait()
	return w, changes
}

func TestIndexRules(t *testing.T) {
	const a, b = "a", "b"
	for _, test := range []struct {
		name    string
		answers []answer
		asked   []uint64
		value   string
		changes int
	}{
		{"asks about the index that it got", []answer{{a, 5, nil, 0}, {b, 7, nil, time.Second}}, []uint64{0, 5, 7}, b, 2},
		{"the same index is no news", []answer{{a, 5, nil, 0}, {b, 5, nil, time.Second}}, []uint64{0, 5, 5}, a, 1},
		{"equal content is no news", []answer{{a, 5, nil, 0}, {a, 9, nil, time.Second}}, []uint64{0, 5, 9}, a, 1},
		{"an index that goes backwards starts again", []answer{{a, 9, nil, 0}, {b, 3, nil, time.Second}, {b, 3, nil, 0}}, []uint64{0, 9, 0, 3}, b, 2},
		{"an index of 0 is a failure and keeps the value", []answer{{a, 9, nil, 0}, {b, 0, nil, time.Second}, {a, 9, nil, 0}}, []uint64{0, 9, 0, 9}, a, 1},
		{"a failure starts again and keeps the value", []answer{{a, 9, nil, 0}, {"", 0, errors.New("500"), 0}, {b, 12, nil, 0}}, []uint64{0, 9, 0, 12}, b, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{answers: test.answers}
				w, changes := play(t, s, 20*time.Second)
				if got := fmt.Sprint(s.asked); got != fmt.Sprint(test.asked) {
					t.Errorf("asked about %s, want %v", got, test.asked)
				}
				if state := w.State(); state.Value != test.value || !state.Known {
					t.Errorf("value %q known %t, want %q", state.Value, state.Known, test.value)
				}
				if changes != test.changes {
					t.Errorf("told %d changes, want %d", changes, test.changes)
				}
			})
		})
	}
}

func TestACachedEndpointIsAskedForAChangeAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := answer{err: errors.New("no servers")}
		s := &script{answers: []answer{{"a", 5, nil, 0}, broken, broken, {"a", 5, nil, probeWait}}}
		w := s.watch()
		w.cfg.cached = true
		w, _ = playWatch(t, w, 10*time.Second)
		if got := fmt.Sprint(s.asked); got != "[0 5 5 5 5]" {
			t.Errorf("asked about %s", got)
		}
		if got := fmt.Sprint(s.waits[1:]); got != "[30s 1s 1s 30s]" {
			t.Errorf("with waits %s", got)
		}
		if w.State().Recoveries != 1 {
			t.Errorf("%d recoveries", w.State().Recoveries)
		}
	})
}

func TestEqualContentAndSameIndexConfirmWhatIsKnown(t *testing.T) {
	for _, index := range []uint64{5, 8} {
		synctest.Test(t, func(t *testing.T) {
			s := &script{answers: []answer{{"a", 5, nil, 0}, {"a", index, nil, 10 * time.Second}}}
			start := time.Now()
			w, _ := play(t, s, 20*time.Second)
			if got := w.State().Confirmed.Sub(start); got != 10*time.Second {
				t.Errorf("confirmed after %s, want 10s", got)
			}
			if w.State().Index != index {
				t.Errorf("index %d, want %d", w.State().Index, index)
			}
		})
	}
}

func TestFailuresKeepTheLastGoodValueAndARecoveryIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := answer{err: errors.New("connection refused")}
		s := &script{answers: []answer{{"a", 5, nil, 0}, broken, broken, broken}}
		w, _ := play(t, s, time.Second)
		state := w.State()
		if state.Value != "a" || !state.Known || state.Failures != 3 || state.Err == nil {
			t.Errorf("while it fails: %+v", state)
		}
		s = &script{answers: []answer{{"a", 5, nil, 0}, broken, broken, {"a", 5, nil, 0}}}
		w, changes := play(t, s, time.Second)
		state = w.State()
		if state.Failures != 0 || state.Err != nil || state.Recoveries != 1 || changes != 1 {
			t.Errorf("after it recovered with the same content: %+v, %d changes", state, changes)
		}
	})
}

func TestAHungAgentIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []answer{{"a", 5, nil, 0}, {takes: hang}}}
		w, _ := play(t, s, watchWait+watchWait/16+watchGrace-time.Second)
		if w.State().Failures != 0 {
			t.Errorf("gave up early: %v", w.State().Err)
		}
		s = &script{answers: []answer{{"a", 5, nil, 0}, {takes: hang}}}
		w, _ = play(t, s, watchWait+watchWait/16+watchGrace+time.Second)
		if !errors.Is(w.State().Err, ErrHung) {
			t.Errorf("after the deadline: %v, want ErrHung", w.State().Err)
		}
	})
}

func TestALoopThatNeverBlocksIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		for range 10_000 {
			s.answers = append(s.answers, answer{value: "a", index: 5})
		}
		play(t, s, 10*time.Second)
		if got := len(s.asked); got < 340 || got > 360 {
			t.Errorf("asked %d times in 10 s, want about 353: a burst of 20, then one every 30 ms", got)
		}
	})
}

func TestARetryIsNeverLaterThanTheCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		for range 60 {
			s.answers = append(s.answers, answer{err: errors.New("refused")})
		}
		play(t, s, time.Minute)
		for i := 1; i < len(s.at); i++ {
			if gap := s.at[i].Sub(s.at[i-1]); gap > lastRetry || gap < firstRetry/2 {
				t.Errorf("waited %s before attempt %d", gap, i)
			}
		}
		if len(s.at) < 25 {
			t.Errorf("only %d attempts in a minute", len(s.at))
		}
	})
}

func TestBackoffDoublesUpToItsCapAndIsJittered(t *testing.T) {
	const first, last = 100 * time.Millisecond, 5 * time.Second
	for _, test := range []struct {
		failures int
		base     time.Duration
	}{{1, first}, {2, 2 * first}, {3, 4 * first}, {6, 3200 * time.Millisecond}, {7, last}, {8, last}, {1000, last}, {1 << 40, last}} {
		low, high := backoff(test.failures, first, last, 0), backoff(test.failures, first, last, 0.999999)
		if low != test.base/2 || high < test.base*99/100 || high > test.base {
			t.Errorf("after %d failures between %s and %s, want %s to %s", test.failures, low, high, test.base/2, test.base)
		}
	}
}
