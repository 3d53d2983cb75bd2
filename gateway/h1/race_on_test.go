//go:build race

package h1_test

// raced is true with the race detector, under which a sync.Pool forgets on purpose.
const raced = true
