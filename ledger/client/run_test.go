package client

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/ledger"
)

// store answers each write after a delay that depends on when it is asked.
type store struct {
	write func(ctx context.Context, since time.Duration) Answer
	look  func() string

	start     time.Time
	mu        sync.Mutex
	now, most int
}

func (s *store) Write(ctx context.Context, _ string) Answer {
	s.mu.Lock()
	s.now++
	s.most = max(s.most, s.now)
	s.mu.Unlock()
	defer func() { s.mu.Lock(); s.now--; s.mu.Unlock() }()
	return s.write(ctx, time.Since(s.start))
}

func (s *store) Look(context.Context, string) string {
	if s.look == nil {
		return ledger.Found
	}
	return s.look()
}

func acknowledge(after time.Duration) func(context.Context, time.Duration) Answer {
	return func(ctx context.Context, _ time.Duration) Answer { return answer(ctx, after) }
}

func answer(ctx context.Context, after time.Duration) Answer {
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case <-timer.C:
		return Answer{Kind: ledger.Acknowledged, Attempts: 1}
	case <-ctx.Done():
		return Answer{Kind: ledger.Unknown, Attempts: 1, Text: ctx.Err().Error()}
	}
}

// write makes a run in virtual time and reads its ledger.
func write(t *testing.T, ctx context.Context, s *store, change func(*Config)) ledger.Book {
	t.Helper()
	s.start = time.Now()
	cfg := Config{
		Header:      ledger.Header{Run: "r", Started: s.start, Rate: 100, Duration: 10 * time.Second, ReadConcern: "local"},
		Concurrency: 10,
	}
	if change != nil {
		change(&cfg)
	}
	var buffer bytes.Buffer
	writer, err := ledger.NewWriter(&buffer, cfg.Header)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Run(ctx, cfg, s, writer); err != nil {
		t.Fatal(err)
	}
	book, err := ledger.Read(&buffer)
	if err != nil {
		t.Fatal(err)
	}
	return book
}

func TestWritesFallDueAtTheirRateWhateverTheSetDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{write: func(ctx context.Context, since time.Duration) Answer {
			if since > 2*time.Second && since < 5*time.Second {
				return answer(ctx, 5*time.Second-since)
			}
			return answer(ctx, time.Millisecond)
		}}
		book := write(t, t.Context(), s, nil)
		if len(book.Writes) != 1000 || book.End != ledger.Complete {
			t.Fatalf("%d writes in 10 s at 100/s, end %q", len(book.Writes), book.End)
		}
		if s.most != 10 {
			t.Errorf("%d writes at once, 10 are allowed", s.most)
		}
		// About 290 fell due in the silence and had to wait; a closed loop would
		// have hidden them.
		report := ledger.Judge(book, ledger.Final{})
		if report.Late < 280 || report.Late > 330 || report.LateMost < 2800*time.Millisecond {
			t.Errorf("late: %d, at most %s", report.Late, report.LateMost)
		}
		if gap := report.LongestGaps[0].Length(); gap < 2990*time.Millisecond || gap > 3010*time.Millisecond {
			t.Errorf("longest gap %s", gap)
		}
		for seq, w := range book.Writes {
			if want := time.Duration(seq) * 10 * time.Millisecond; w.Due != want || w.Sent < w.Due {
				t.Fatalf("write %d fell due at %s and was sent at %s", seq, w.Due, w.Sent)
			}
		}
	})
}

func TestAnInterruptKeepsWhatIsThereAndWaitsForWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second+time.Millisecond)
		defer cancel()
		book := write(t, ctx, &store{write: acknowledge(time.Second)}, func(c *Config) { c.Concurrency = 200 })
		if book.End != ledger.Interrupted {
			t.Errorf("end %q", book.End)
		}
		report := ledger.Judge(book, ledger.Final{})
		if report.Sent != 301 || report.Acknowledged != 301 {
			t.Errorf("%d sent, %d acknowledged", report.Sent, report.Acknowledged)
		}
	})
}

func TestAnInterruptWaitsNoLongerThanItsGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second+time.Millisecond)
		defer cancel()
		book := write(t, ctx, &store{write: acknowledge(time.Hour)}, nil)
		report := ledger.Judge(book, ledger.Final{})
		if report.Unknown != 10 || book.Last > 3*time.Second+time.Millisecond+grace {
			t.Errorf("%d unknown, ended after %s", report.Unknown, book.Last)
		}
	})
}

func TestALookIsForAWriteThatWasAcknowledgedBeforeItBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		s := &store{write: acknowledge(3 * time.Millisecond), look: func() string {
			looks++
			if looks%2 == 0 {
				return ledger.Missing
			}
			return ledger.Found
		}}
		book := write(t, t.Context(), s, func(c *Config) { c.Looks = 10 })
		if len(book.Looks) < 90 {
			t.Fatalf("%d looks in 10 s at 10/s", len(book.Looks))
		}
		for _, look := range book.Looks {
			if w := book.Writes[look.Seq]; w.Outcome != ledger.Acknowledged || w.At > look.Started {
				t.Fatalf("look at %s for a write answered at %s", look.Started, w.At)
			}
		}
		if r := ledger.Judge(book, ledger.Final{}); r.StaleReads.Count != len(book.Looks)/2 {
			t.Errorf("%d stale of %d", r.StaleReads.Count, len(book.Looks))
		}
	})
}

type full struct{ lines int }

func (f *full) Write(p []byte) (int, error) {
	if f.lines--; f.lines < 0 {
		return 0, errors.New("disk full")
	}
	return len(p), nil
}

func TestALedgerThatCannotBeWrittenEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{write: acknowledge(time.Millisecond), start: time.Now()}
		header := ledger.Header{Run: "r", Started: time.Now(), Rate: 100, Duration: time.Hour}
		writer, err := ledger.NewWriter(&full{lines: 20}, header)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Run(t.Context(), Config{Header: header, Concurrency: 10}, s, writer)
		if err == nil || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("the run ended with %v", err)
		}
		if took := time.Since(header.Started); took > time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestProgressIsToldEverySecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []Progress
		write(t, t.Context(), &store{write: acknowledge(time.Millisecond)}, func(c *Config) {
			c.Progress = func(p Progress) { told = append(told, p) }
		})
		if len(told) < 9 || told[4].Acknowledged < 400 || told[4].Silence > 20*time.Millisecond {
			t.Errorf("told %d times: %v", len(told), told)
		}
	})
}
