package h1_test

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"sluice/gateway/h1"
)

// A slice of a head that is left somewhere in the Reader keeps a whole buffer from
// being freed: ten thousand idle connections have ten thousand Readers.
func TestAReleasedReaderKeepsNoBufferAlive(t *testing.T) {
	pool := h1.NewPool()
	text := "POST /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n" +
		"1\r\nx\r\n0\r\nX-Trailer: y\r\n\r\n"
	reader := pool.NewReader(strings.NewReader(text), h1.Limits{})
	freed := make(chan struct{})
	func() {
		var request h1.Request
		if err := reader.ReadRequest(&request); err != nil {
			t.Fatal(err)
		}
		runtime.AddCleanup(&request.Host[0], func(freed chan struct{}) { close(freed) }, freed)
		if whole, err := reader.Discard(request.Body, 1<<10); err != nil || !whole {
			t.Fatal(whole, err)
		}
		reader.Release()
	}()
	for range 100 { // two empty the pool
		runtime.GC()
		select {
		case <-freed:
			runtime.KeepAlive(reader)
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Error("the buffer is still alive")
	runtime.KeepAlive(reader)
}
