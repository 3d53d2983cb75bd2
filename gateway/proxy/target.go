package proxy

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/identity"
	"sluice/mesh"
)

// avoidFor is how long an instance that could not be reached is picked only
// when there is no other. Consul's health check has the last word after that.
const avoidFor = 2 * time.Second

// targetKey is what makes an instance the same one: a pool must not outlive a
// change of any of it.
type targetKey struct {
	node, serviceID, address string
	id                       identity.ID
}

func keyOf(i mesh.Instance) targetKey {
	return targetKey{node: i.Node, serviceID: i.ServiceID, address: i.Address, id: i.ID}
}

// target is an instance with its pool of keep-alive connections.
type target struct {
	instance  mesh.Instance
	transport *http.Transport
	inFlight  atomic.Int64
	// avoidUntil is a Unix time in nanoseconds.
	avoidUntil atomic.Int64
}

// dialError marks an error from before a connection existed: not one byte of
// the request has been sent.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

func newTarget(instance mesh.Instance, dialer Dialer, headerTimeout time.Duration) *target {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := dialer.DialInstance(ctx, instance)
		if err != nil {
			return nil, &dialError{err}
		}
		return conn, nil
	}
	return &target{instance: instance, transport: &http.Transport{
		DialContext:            dial,
		DisableCompression:     true, // bodies pass as they are
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        60 * time.Second, // under what web keeps
		ResponseHeaderTimeout:  headerTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 256 << 10,
	}}
}

func (t *target) service() string { return t.instance.ID.Service() }

func (t *target) avoid(now time.Time) { t.avoidUntil.Store(now.Add(avoidFor).UnixNano()) }

func (t *target) trust() { t.avoidUntil.Store(0) }

func (t *target) avoided(now time.Time) bool { return now.UnixNano() < t.avoidUntil.Load() }

// pick chooses among targets that skip does not exclude: of two at random the
// one with fewer requests in flight. Instances that just failed are chosen only
// when there is no other. nil means that nothing is left.
func pick(targets []*target, now time.Time, skip func(*target) bool) *target {
	left := slices.DeleteFunc(slices.Clone(targets), skip)
	trusted := slices.DeleteFunc(slices.Clone(left), func(t *target) bool { return t.avoided(now) })
	if len(trusted) > 0 {
		left = trusted
	}
	switch len(left) {
	case 0:
		return nil
	case 1:
		return left[0]
	}
	i := rand.IntN(len(left))
	j := rand.IntN(len(left) - 1)
	if j >= i {
		j++
	}
	if left[j].inFlight.Load() < left[i].inFlight.Load() {
		return left[j]
	}
	return left[i]
}

// trackBody keeps t's in-flight count up until the response's body is closed.
func (t *target) trackBody(body io.ReadCloser) io.ReadCloser {
	tracked := &trackedBody{ReadCloser: body, done: sync.OnceFunc(func() { t.inFlight.Add(-1) })}
	if w, ok := body.(io.ReadWriteCloser); ok {
		return &trackedUpgrade{trackedBody: tracked, Writer: w} // a switched protocol
	}
	return tracked
}

type trackedBody struct {
	io.ReadCloser
	done func()
}

func (b *trackedBody) Close() error {
	defer b.done()
	return b.ReadCloser.Close()
}

type trackedUpgrade struct {
	*trackedBody
	io.Writer
}
