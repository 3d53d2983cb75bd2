package proxy

import (
	"context"
	"errors"
	"os"
	"time"
)

// await waits for the first byte of a request. A connection that stays idle gives
// its buffer back: ten thousand of them would hold forty megabytes.
func (s *session) await(ctx context.Context) bool {
	began := time.Now()
	idle := began.Add(s.own.cfg.Idle)
	if raw := rawOf(s.conn); raw != nil {
		if s.served {
			if done, ok := s.awaitBriefly(ctx, idle); done {
				return ok
			}
			s.reader.Release()
			s.reader.Reset(s.body)
		}
		_ = s.conn.SetReadDeadline(idle)
		if ctx.Err() != nil || awaitReadable(raw) != nil {
			return false
		}
	}
	_ = s.conn.SetReadDeadline(idle)
	if ctx.Err() != nil {
		return false // the end came before the deadline was moved
	}
	return s.reader.Wait() == nil
}

// keepBuffer is how long an idle connection keeps its buffer: under load, requests
// follow each other faster.
const keepBuffer = 2 * time.Second

// awaitBriefly waits with the buffer in hand. done is false if nothing has come.
func (s *session) awaitBriefly(ctx context.Context, idle time.Time) (done, ok bool) {
	brief := time.Now().Add(keepBuffer)
	if brief.After(idle) {
		return false, false
	}
	_ = s.conn.SetReadDeadline(brief)
	if ctx.Err() != nil {
		return true, false
	}
	err := s.reader.Wait()
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
		return false, false
	}
	return true, err == nil
}
