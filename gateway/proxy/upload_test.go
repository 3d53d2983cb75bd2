package proxy

import (
	"errors"
	"io"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// dribble is a body of which one byte comes each second.
type dribble struct{}

func (dribble) Read(p []byte) (int, error) { time.Sleep(time.Second); return copy(p, "x"), nil }
func (dribble) Close() error               { return nil }

func TestABodyThatComesTooSlowlyEndsAfterTheGraceAndOthersGoOn(t *testing.T) {
	for least, want := range map[int64]error{0: nil, 1: nil, 2: os.ErrDeadlineExceeded} {
		synctest.Test(t, func(t *testing.T) {
			body := countBody(dribble{}, nil).(*countedBody)
			body.bound(0, least)
			began := time.Now()
			_, err := io.CopyN(io.Discard, body, 60)
			if !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("at least %d a second: %v, want %v", least, err, want)
			}
			if took := time.Since(began); want != nil && (took < rateGrace || took > rateGrace+3*time.Second) {
				t.Errorf("at least %d a second: ended after %v, want soon after %v", least, took, rateGrace)
			}
		})
	}
}

// handlersWriter is a client as long as its handler runs.
type handlersWriter struct {
	http.ResponseWriter
	t     *testing.T
	ended bool
	calls int
}

func (w *handlersWriter) SetReadDeadline(time.Time) error {
	w.calls++
	if w.ended {
		w.t.Error("the client is used after its handler, which net/http does not bear")
	}
	return nil
}

func TestABodyThatOutlivesItsHandlerLeavesTheClientAlone(t *testing.T) {
	w := &handlersWriter{t: t}
	b := countBody(io.NopCloser(dribble{}), http.NewResponseController(w)).(*countedBody)
	b.bound(time.Second, 0)
	if _, err := b.Read(make([]byte, 1)); err != nil || w.calls != 1 {
		t.Fatalf("%v after %d deadlines", err, w.calls)
	}
	b.finish()
	w.ended = true
	b.reading.Store(true) // in a goroutine of net/http
	b.stop()
	b.over.Store(false)
	b.armed = time.Time{}
	if _, err := b.Read(make([]byte, 1)); err == nil {
		t.Error("it is read on")
	}
}
