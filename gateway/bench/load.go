package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// loadCommand is the subcommand that sends requests. It reads a loadConfig from
// standard input and writes a loadResult to standard output, so that its work and
// its memory are in no process that is measured.
const loadCommand = "load"

// loadConfig says what load is sent.
type loadConfig struct {
	// Address is "host:port" of the proxy.
	Address string
	// Hits are sent in turn.
	Hits        []hit
	Connections int
	// Rate is in requests a second over all connections, sent at fixed times whether
	// or not earlier answers have come; 0 sends the next when the last has its answer.
	Rate     float64
	Duration time.Duration
	// Idle opens the connections, sends one request over each, and keeps them open
	// until standard input ends.
	Idle bool
}

// loadResult is what came of it. Latencies are in microseconds. At a constant rate
// they count from the time at which the request was due, not from when it could be
// sent, so that a stall is not hidden by the requests that it held up.
type loadResult struct {
	Requests, Failed int64
	Seconds          float64
	P50, P99, Max    float64
	Reason           string // of the first failure
	Late             int64  // requests that were due before the end, and never sent
	OpenConnections  int
}

func load(ctx context.Context, _ []string, out, _ io.Writer) error {
	return loadFrom(ctx, stdin(), out)
}

func loadFrom(ctx context.Context, in io.Reader, out io.Writer) error {
	reader := json.NewDecoder(in)
	var cfg loadConfig
	if err := reader.Decode(&cfg); err != nil {
		return fmt.Errorf("read what to send: %w", err)
	}
	if len(cfg.Hits) == 0 || cfg.Connections < 1 {
		return errors.New("nothing to send")
	}
	if cfg.Idle {
		return idle(ctx, cfg, io.MultiReader(reader.Buffered(), in), out)
	}
	return json.NewEncoder(out).Encode(generate(ctx, cfg))
}

// worker is one client connection.
type worker struct {
	cfg    loadConfig
	number int
	// messages are the requests as they are sent.
	messages [][]byte
	conn     net.Conn
	reader   *bufio.Reader

	latencies []uint32 // microseconds
	failed    int64
	late      int64
	reason    string
}

func newWorker(cfg loadConfig, number int) *worker {
	w := &worker{cfg: cfg, number: number}
	for _, h := range cfg.Hits {
		w.messages = append(w.messages, fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\n\r\n", h.Path, h.Host))
	}
	return w
}

// generate sends load and sums up.
func generate(ctx context.Context, cfg loadConfig) loadResult {
	ctx, cancel := context.WithTimeout(ctx, cfg.Duration+30*time.Second)
	defer cancel()
	workers := make([]*worker, cfg.Connections)
	begin := time.Now()
	var running sync.WaitGroup
	for i := range workers {
		workers[i] = newWorker(cfg, i)
		running.Go(func() { workers[i].run(ctx, begin) })
	}
	running.Wait()
	return sum(workers, time.Since(begin))
}

func sum(workers []*worker, took time.Duration) loadResult {
	result := loadResult{Seconds: took.Seconds()}
	var all []uint32
	for _, w := range workers {
		all = append(all, w.latencies...)
		result.Failed += w.failed
		result.Late += w.late
		if result.Reason == "" {
			result.Reason = w.reason
		}
	}
	slices.Sort(all)
	result.Requests = int64(len(all))
	for q, to := range map[float64]*float64{.5: &result.P50, .99: &result.P99, 1: &result.Max} {
		if value, ok := quantile(all, q); ok {
			*to = float64(value)
		}
	}
	return result
}

// run sends until the duration is over. At a constant rate the connections take
// turns, each at times that are fixed in advance.
func (w *worker) run(ctx context.Context, begin time.Time) {
	defer w.close()
	end := begin.Add(w.cfg.Duration)
	interval := time.Duration(0)
	due := begin
	if w.cfg.Rate > 0 {
		interval = time.Duration(float64(time.Second) * float64(w.cfg.Connections) / w.cfg.Rate)
		due = begin.Add(interval * time.Duration(w.number) / time.Duration(w.cfg.Connections))
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := w.number; due.Before(end) && ctx.Err() == nil; i++ {
		if interval > 0 {
			timer.Reset(time.Until(due))
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
			// What is still due long after the end measures nothing more.
			if time.Since(end) > 10*time.Second {
				w.late += int64(end.Sub(due)/interval) + 1
				return
			}
		}
		w.once(ctx, due, w.messages[i%len(w.messages)])
		due = due.Add(interval)
		if interval == 0 {
			due = time.Now()
		}
	}
}

// once sends one request and waits for its answer.
func (w *worker) once(ctx context.Context, due time.Time, message []byte) {
	if err := w.exchange(ctx, message); err != nil {
		w.failed++
		if w.reason == "" {
			w.reason = err.Error()
		}
		w.close()
		return
	}
	w.latencies = append(w.latencies, uint32(min(time.Since(due).Microseconds(), 1<<32-1)))
}

func (w *worker) exchange(ctx context.Context, message []byte) error {
	if w.conn == nil {
		dialer := net.Dialer{Timeout: 5 * time.Second}
		conn, err := dialer.DialContext(ctx, "tcp", w.cfg.Address)
		if err != nil {
			return err
		}
		w.conn, w.reader = conn, bufio.NewReaderSize(conn, 4<<10)
	}
	if err := w.conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := w.conn.Write(message); err != nil {
		return err
	}
	response, err := http.ReadResponse(w.reader, nil)
	if err != nil {
		return err
	}
	size, err := io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	switch {
	case err != nil:
		return err
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("answered %s", response.Status)
	case size != bodySize:
		return fmt.Errorf("answered %d bytes", size)
	case response.Close:
		w.close()
	}
	return nil
}

func (w *worker) close() {
	if w.conn != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
}

// idle opens connections, says how many there are, waits until the input ends, and
// says how many are still open.
func idle(ctx context.Context, cfg loadConfig, in io.Reader, out io.Writer) error {
	workers := make([]*worker, cfg.Connections)
	for i := range workers {
		workers[i] = newWorker(cfg, i)
	}
	// A few at a time: the proxy's queue of connections not yet accepted is short.
	var opening sync.WaitGroup
	const atOnce = 32
	for first := range atOnce {
		opening.Go(func() {
			for i := first; i < len(workers) && ctx.Err() == nil; i += atOnce {
				workers[i].once(ctx, time.Now(), workers[i].messages[0])
			}
		})
	}
	opening.Wait()
	var result loadResult
	for _, w := range workers {
		if w.reason != "" && result.Reason == "" {
			result.Reason = w.reason
		}
	}
	encoder := json.NewEncoder(out)
	result.OpenConnections = count(workers)
	if err := encoder.Encode(result); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	result.OpenConnections = count(workers)
	for _, w := range workers {
		w.close()
	}
	return encoder.Encode(result)
}

// count returns how many connections are open: a read of one that its peer has
// closed ends at once, of any other at the deadline.
func count(workers []*worker) int {
	open := 0
	for _, w := range workers {
		if w.conn == nil {
			continue
		}
		_ = w.conn.SetReadDeadline(time.Now().Add(100 * time.Microsecond))
		var timeout net.Error
		if _, err := w.reader.Peek(1); errors.As(err, &timeout) && timeout.Timeout() {
			open++
		}
	}
	return open
}
