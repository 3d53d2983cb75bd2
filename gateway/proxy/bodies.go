package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// heldBody is a request's body that survives a failed attempt: it knows whether
// anything has been read from it, and closing it does nothing before that. (The
// server closes the real one when the handler ends.)
type heldBody struct {
	reader io.Reader
	// stop ends a Read that waits for the client.
	stop func()
	// panicked is told of a panic in Read, which a goroutine of net/http calls.
	panicked func(failure any) error
	empty    bool
	used     atomic.Bool
	// closed is true once nobody wants the body, and failed why it could not be read
	// before.
	closed atomic.Bool
	failed atomic.Pointer[error]
}

// holdBody replaces the request's body, so that it can be sent again while
// nothing of it has been read.
func holdBody(request *http.Request, stop func(), panicked func(any) error) *heldBody {
	if request.Body == nil || request.Body == http.NoBody {
		return &heldBody{empty: true}
	}
	body := &heldBody{reader: request.Body, stop: stop, panicked: panicked}
	request.Body = body
	request.GetBody = nil // net/http must not send it again by itself
	return body
}

func (b *heldBody) Read(p []byte) (n int, err error) {
	b.used.Store(true)
	defer rescued(b.panicked, &err)
	n, err = b.reader.Read(p)
	if err != nil && err != io.EOF {
		err = clientBody(err)
		if !b.closed.Load() {
			b.failed.CompareAndSwap(nil, &err)
		}
	}
	return n, err
}

func (b *heldBody) Close() error {
	b.closed.Store(true)
	if b.used.Load() && b.stop != nil {
		b.stop()
	}
	return nil
}

// endWith calls end once when the body is closed.
func endWith(body io.ReadCloser, end func()) io.ReadCloser {
	tracked := &trackedBody{ReadCloser: body, done: sync.OnceFunc(end)}
	if w, ok := body.(io.ReadWriteCloser); ok {
		return &trackedUpgrade{trackedBody: tracked, Writer: w}
	}
	return tracked
}

type trackedBody struct {
	io.ReadCloser
	done func()
	// broken is told why the body has not come to its end; may be nil.
	broken func(error)
}

// Read reads the body.
func (b *trackedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && b.broken != nil {
		b.broken(err)
	}
	return n, err
}

func (b *trackedBody) Close() error {
	defer b.done()
	return b.ReadCloser.Close()
}

// trackedUpgrade is the instance's side of a switched protocol. Goroutines of net/http
// read and write it, so that a panic of ours has to end here.
type trackedUpgrade struct {
	*trackedBody
	io.Writer
	// panicked is told of a panic.
	panicked func(failure any) error
}

func (u *trackedUpgrade) Read(p []byte) (n int, err error) {
	defer rescued(u.panicked, &err)
	return u.trackedBody.Read(p)
}

func (u *trackedUpgrade) Write(p []byte) (n int, err error) {
	defer rescued(u.panicked, &err)
	return u.Writer.Write(p)
}

// CloseWrite tells the instance that nothing more comes.
func (u *trackedUpgrade) CloseWrite() (err error) {
	defer rescued(u.panicked, &err)
	if half, ok := u.Writer.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return u.Close()
}

// Close ends it.
func (u *trackedUpgrade) Close() (err error) {
	defer rescued(u.panicked, &err)
	return u.trackedBody.Close()
}

// rescued is deferred: a panic becomes the error.
func rescued(panicked func(any) error, err *error) {
	if panicked == nil {
		return // somebody else recovers
	}
	if failure := recover(); failure != nil {
		*err = panicked(failure)
	}
}

// guardedConn is a connection that goroutines of net/http read and write: a panic of
// ours ends it, and nothing else.
type guardedConn struct {
	net.Conn
	panicked func(failure any) error
}

func (c *guardedConn) Read(p []byte) (n int, err error) {
	defer rescued(c.panicked, &err)
	return c.Conn.Read(p)
}

func (c *guardedConn) Write(p []byte) (n int, err error) {
	defer rescued(c.panicked, &err)
	return c.Conn.Write(p)
}

// Close ends it.
func (c *guardedConn) Close() (err error) {
	defer rescued(c.panicked, &err)
	return c.Conn.Close()
}

// CloseWrite tells the other side that nothing more comes.
func (c *guardedConn) CloseWrite() (err error) {
	defer rescued(c.panicked, &err)
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}

// NetConn returns the connection below.
func (c *guardedConn) NetConn() net.Conn { return c.Conn }

// switchedConn is the client's side of a switched protocol, in the same danger.
type switchedConn struct {
	guardedConn
	early *bufio.Reader
}

// Hijack takes the connection out of net/http. What the client has sent behind its
// request is read first: ReverseProxy looks at the connection alone.
func (w *statusRecorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	return &switchedConn{guardedConn{conn, w.panicked}, buffered.Reader}, buffered, nil
}

func (c *switchedConn) Read(p []byte) (n int, err error) {
	defer rescued(c.panicked, &err)
	if n := c.early.Buffered(); n > 0 {
		return c.early.Read(p[:min(n, len(p))])
	}
	return c.Conn.Read(p)
}
