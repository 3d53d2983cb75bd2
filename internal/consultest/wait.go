package consultest

import (
	"testing"
	"time"
)

// Await waits until condition returns nil, for at most limit, and returns how long
// it took. claim says what is waited for; it and the last reason are in the
// failure.
func Await(t testing.TB, limit time.Duration, claim string, condition func() error) time.Duration {
	t.Helper()
	start := time.Now()
	for {
		err := condition()
		took := time.Since(start)
		if err == nil {
			return took
		}
		if took > limit {
			t.Fatalf("not within %s: %s: %v", limit, claim, err)
		}
		<-time.After(pollEvery)
	}
}
