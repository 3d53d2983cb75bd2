package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func served(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func answer(w http.ResponseWriter) { _, _ = w.Write(make([]byte, bodySize)) }

// TestAStallIsCountedForEveryRequestThatItHeldUp is what distinguishes a constant
// rate from a closed loop: while the server holds one answer back, requests go on
// being due.
func TestAStallIsCountedForEveryRequestThatItHeldUp(t *testing.T) {
	var requests atomic.Int64
	const stall = 300 * time.Millisecond
	address := served(t, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 20 {
			select {
			case <-time.After(stall):
			case <-r.Context().Done():
			}
		}
		answer(w)
	})
	r := generate(t.Context(), loadConfig{Address: address, Hits: []hit{{"a", "/"}}, Connections: 1, Rate: 100, Duration: time.Second})
	if r.Failed != 0 || r.Requests != 100 {
		t.Fatalf("%+v", r)
	}
	// Some thirty of a hundred were due during the stall.
	if r.P99 < 200_000 || r.Max < 300_000 {
		t.Errorf("the stall is hidden: %+v", r)
	}
}

func TestAWrongAnswerAndABrokenConnectionAreFailures(t *testing.T) {
	var n atomic.Int64
	address := served(t, func(w http.ResponseWriter, _ *http.Request) {
		switch n.Add(1) {
		case 1:
			w.WriteHeader(http.StatusBadGateway)
		case 2:
			_, _ = io.WriteString(w, "short")
		case 3:
			panic(http.ErrAbortHandler)
		case 4:
			w.Header().Set("Connection", "close")
			answer(w)
		default:
			answer(w)
		}
	})
	r := generate(t.Context(), loadConfig{Address: address, Hits: []hit{{"a", "/"}}, Connections: 1, Rate: 50, Duration: 200 * time.Millisecond})
	if r.Failed != 3 || r.Requests != 7 || !strings.Contains(r.Reason, "502") {
		t.Errorf("%+v", r)
	}
}

func TestEveryTargetHasItsTurn(t *testing.T) {
	seen := make(chan string, 1000)
	address := served(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Host + r.URL.Path
		answer(w)
	})
	generate(t.Context(), loadConfig{Address: address, Hits: []hit{{"a", "/1"}, {"b", "/2"}, {"c", "/3"}}, Connections: 2, Rate: 100, Duration: 200 * time.Millisecond})
	close(seen)
	counts := map[string]int{}
	for s := range seen {
		counts[s]++
	}
	if len(counts) != 3 || counts["a/1"] < 5 || counts["b/2"] < 5 || counts["c/3"] < 5 {
		t.Errorf("%v", counts)
	}
}

func TestIdleConnectionsAreCountedWhenTheyOpenAndWhenTheyEnd(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var first atomic.Pointer[net.Conn]
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }),
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateNew {
				first.CompareAndSwap(nil, &c)
			}
		},
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-ended })

	request, err := json.Marshal(loadConfig{Address: listener.Addr().String(), Hits: []hit{{"a", "/"}}, Connections: 50, Idle: true})
	if err != nil {
		t.Fatal(err)
	}
	in, write := io.Pipe()
	read, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- loadFrom(t.Context(), io.MultiReader(bytes.NewReader(request), in), out) }()
	decoder := json.NewDecoder(read)
	var opened, left loadResult
	if err := decoder.Decode(&opened); err != nil || opened.OpenConnections != 50 {
		t.Fatalf("%+v, %v", opened, err)
	}
	_ = (*first.Load()).Close()
	_ = write.Close()
	if err := decoder.Decode(&left); err != nil || left.OpenConnections != 49 {
		t.Errorf("%+v, %v", left, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
