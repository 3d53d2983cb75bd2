package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"sluice/mesh"
)

const (
	// maxAttempts bounds how often one request is tried.
	maxAttempts = 3
	// settle is how long a refusal by a destination is questioned while our own
	// snapshot allows the call: on a change of an intention the two ends learn
	// of it some milliseconds apart.
	settle      = 300 * time.Millisecond
	settleEvery = 25 * time.Millisecond
	// probeTimeout bounds the dial that finds out why a connection broke.
	probeTimeout = time.Second
)

// roundTripper carries one request to one of its targets.
type roundTripper struct{ p *Proxy }

// RoundTrip implements http.RoundTripper.
func (rt roundTripper) RoundTrip(request *http.Request) (*http.Response, error) {
	p, x := rt.p, exchangeOf(request.Context())
	body := holdBody(request)
	refused := map[string]bool{} // services that we may not call
	tried := map[*target]bool{}
	skip := func(t *target) bool { return tried[t] || refused[t.service()] }

	var last error
	for x.attempts < maxAttempts {
		t := pick(x.targets, p.now(), skip)
		if t == nil {
			break
		}
		if err := p.denied(t.service()); err != nil {
			refused[t.service()] = true
			last = err
			continue
		}
		tried[t] = true
		x.attempts++
		x.answered = t
		response, err := p.attempt(request, t)
		if err == nil {
			return response, nil
		}
		last = fmt.Errorf("call %s: %w", t.instance.ServiceID, err)
		if errors.Is(err, mesh.ErrNotReady) || request.Context().Err() != nil {
			break // not the instance's fault, and no other would do better
		}
		if errors.Is(err, mesh.ErrDenied) {
			// One instance may lag behind, or have no verdict at all. Only our own
			// snapshot speaks for the whole service.
			if decision, known := p.decide(t.service()); !known || !decision.Allowed {
				refused[t.service()] = true
			}
			p.metrics.denied.WithLabelValues(t.service()).Inc()
		} else {
			t.avoid(p.now())
		}
		if !body.resendable(request.Method, err) {
			break
		}
		p.metrics.retries.Inc()
	}
	if last == nil {
		return nil, mesh.ErrNoInstance
	}
	return nil, last
}

// attempt sends the request to t. A refusal that our own snapshot does not know
// of is asked again for a moment, and a failure that a refusal may hide behind
// is explained.
func (p *Proxy) attempt(request *http.Request, t *target) (*http.Response, error) {
	response, err := p.send(request, t)
	deadline := p.now().Add(settle)
	for unsent(err) && byDestination(err) && p.now().Before(deadline) {
		decision, known := p.decide(t.service())
		if !known || !decision.Allowed {
			break
		}
		if !p.pause(request.Context(), settleEvery) {
			break
		}
		response, err = p.send(request, t)
	}
	if err == nil || errors.Is(err, mesh.ErrDenied) || request.Context().Err() != nil {
		return response, err
	}
	return nil, p.explain(request.Context(), t, err)
}

func (p *Proxy) send(request *http.Request, t *target) (*http.Response, error) {
	t.inFlight.Add(1)
	response, err := t.transport.RoundTrip(request)
	if err != nil {
		t.inFlight.Add(-1)
		return nil, err
	}
	t.trust()
	response.Body = t.trackBody(response.Body)
	return response, nil
}

// explain finds out whether a connection broke because the call is no longer
// allowed: by our own snapshot, or by asking the destination once more.
func (p *Proxy) explain(ctx context.Context, t *target, err error) error {
	if denied := p.denied(t.service()); denied != nil {
		return denied
	}
	if unsent(err) || isTimeout(err) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, probe := p.cfg.Dialer.DialInstance(ctx, t.instance)
	if probe == nil {
		_ = conn.Close()
		return err
	}
	if errors.Is(probe, mesh.ErrDenied) {
		return probe
	}
	return err
}

// pause waits, or returns at once when the policy changes; false means that ctx
// has ended.
func (p *Proxy) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-p.cfg.Policy.Changed():
	}
	return true
}

// unsent reports whether err is from before a connection existed.
func unsent(err error) bool {
	var dial *dialError
	return errors.As(err, &dial)
}

func byDestination(err error) bool {
	var denied *mesh.DeniedError
	return errors.As(err, &denied) && denied.By == mesh.ByDestination
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.Is(err, mesh.ErrTimeout) || errors.As(err, &timeout) && timeout.Timeout()
}

// heldBody is a request's body that survives a failed attempt: closing it does
// nothing (the server closes the real one when the handler ends), and it knows
// whether anything has been read from it.
type heldBody struct {
	reader io.Reader
	empty  bool
	used   atomic.Bool
}

// holdBody replaces the request's body, so that it can be sent again while
// nothing of it has been read.
func holdBody(request *http.Request) *heldBody {
	if request.Body == nil || request.Body == http.NoBody {
		return &heldBody{empty: true}
	}
	body := &heldBody{reader: request.Body}
	request.Body = body
	request.GetBody = func() (io.ReadCloser, error) {
		if body.used.Load() {
			return nil, errors.New("the body has been read from")
		}
		return body, nil
	}
	return body
}

func (b *heldBody) Read(p []byte) (int, error) {
	b.used.Store(true)
	return b.reader.Read(p)
}

func (b *heldBody) Close() error { return nil }

// resendable reports whether the request may go to another instance after err:
// nothing was sent, or it has no body and its method promises that twice is the
// same as once (RFC 9110, section 9.2.2).
func (b *heldBody) resendable(method string, err error) bool {
	if !b.empty && b.used.Load() {
		return false
	}
	if unsent(err) {
		return true
	}
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return b.empty && !isTimeout(err)
	}
	return false
}
