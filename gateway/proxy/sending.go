package proxy

import (
	"errors"
	"sync/atomic"
	"time"

	"sluice/gateway/h1"
)

// settleUpload is how long an answer waits for the end of the request's body.
const settleUpload = 5 * time.Millisecond

// upload is a client's body on its way to an instance, which may answer before it
// is there.
type upload struct {
	done chan struct{}
	n    int64
	err  error
	// failed is true if the client did not send its body, or not as it should, or if we
	// are at fault.
	failed bool
	// broken is err once the rest does not come, before the instance can notice.
	broken atomic.Pointer[error]
}

// startUpload sends head and body. What has come already goes at once.
func (c *ownCarrier) startUpload(up *conn) *upload {
	u := &upload{done: make(chan struct{})}
	f := c.request.Body
	if f.Kind == h1.Sized && f.Length <= int64(c.reader.Buffered()) {
		u.copy(c, up)
		close(u.done)
		return u
	}
	c.body.stopped.Store(false)
	c.body.patience, c.body.armed = c.own.cfg.BodyIdle, time.Time{}
	c.body.pace = pace{least: c.own.cfg.MinBodyRate, since: time.Now()}
	up.uploading, up.wrote = c.own.cfg.BodyIdle, time.Time{}
	go func() {
		defer close(u.done)
		u.guarded(c, up)
		if u.failed {
			u.broken.Store(&u.err)
			_ = up.Close() // the instance must not take for whole what is not, nor wait for the rest
		}
	}()
	return u
}

// guarded is copy whose panic breaks off the request, and nothing else.
func (u *upload) guarded(c *ownCarrier, up *conn) {
	defer func() {
		if failure := recover(); failure != nil {
			u.failed, u.err = true, c.p.Panicked(failure)
		}
	}()
	u.copy(c, up)
}

func (u *upload) copy(c *ownCarrier, up *conn) {
	u.n, u.err = c.reader.CopyBody(up.writer, c.request.Body, true)
	var read *h1.ReadError
	u.failed = errors.As(u.err, &read) && !c.body.stopped.Load()
}

// over reports whether the upload has ended.
func (u *upload) over() bool {
	select {
	case <-u.done:
		return true
	default:
		return false
	}
}

// clientBroke reports whether it has, because of the client.
func (u *upload) clientBroke() bool { return u.over() && u.failed }

// settle waits a moment for the end of an upload whose answer is there: an instance
// that has the last byte may answer before the copying is known to be over.
func (u *upload) settle() {
	if u.over() {
		return
	}
	timer := time.NewTimer(settleUpload)
	defer timer.Stop()
	select {
	case <-u.done:
	case <-timer.C:
	}
}

// stop ends an upload that nobody waits for. The client's connection ends with the
// answer, as the rest of the body may still come, and that to the instance at once.
func (u *upload) stop(s *session, up *conn) {
	if u.over() {
		return
	}
	s.closing = true
	s.body.stop()
	_ = up.Close() // it may be stuck in a write
	<-u.done
}
