package proxy

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

// await waits for the first byte of a request. A connection that stays idle gives
// its buffer back: ten thousand of them would hold forty megabytes.
func (s *session) await(ctx context.Context) bool {
	began := time.Now()
	idle := began.Add(s.own.cfg.Idle)
	if raw := rawOf(s.conn); raw != nil {
		// A wrapper, such as TLS, may have read the first request together with what it
		// was after: the socket has nothing then.
		if _, direct := s.conn.(syscall.Conn); s.served || !direct {
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
	last := !brief.Before(idle)
	if last {
		brief = idle
	}
	_ = s.conn.SetReadDeadline(brief)
	if ctx.Err() != nil {
		return true, false
	}
	err := s.reader.Wait()
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil && !last {
		return false, false
	}
	return true, err == nil
}
