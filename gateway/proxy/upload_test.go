package proxy

import (
	"errors"
	"io"
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
