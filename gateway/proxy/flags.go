package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/textproto"
	"strings"

	"sluice/gateway/accesslog"
	"sluice/gateway/balance"
	"sluice/gateway/h1"
	"sluice/gateway/retry"
	"sluice/gateway/tcp"
	"sluice/mesh"
)

// remark keeps why the gateway answers by itself, and returns the answer.
func (x *exchange) remark(flags accesslog.Flags, why string, answer *page) *page {
	x.flags |= flags
	x.why = why
	return answer
}

// reason says in words what went wrong with the request; "" if nothing did.
func (x *exchange) reason() string {
	if x.err != nil {
		return x.err.Error()
	}
	return x.why
}

// allFlags are what was out of the ordinary with a request that has ended.
func (x *exchange) allFlags() accesslog.Flags {
	flags := x.flags
	if x.err == nil {
		return flags
	}
	flags |= flagsOf(x.err)
	if flags&accesslog.Drained != 0 {
		flags &^= accesslog.ClientGone // it was the gateway that ended the connection
	}
	if n := len(x.attempts); n > 1 && x.attempts[n-1].reason == retry.LimitReached {
		flags |= accesslog.RetriesExhausted
	}
	return flags
}

// picked keeps what is out of the ordinary with the instance that has answered.
func (x *exchange) picked(pick balance.Pick) {
	if pick.Tier > 0 {
		x.flags |= accesslog.OtherDatacenter
	}
	if pick.Panic {
		x.flags |= accesslog.Panicked
	}
}

// drained marks a failed request whose life has ended with the drain.
func (x *exchange) drained(life context.Context) {
	if x.err != nil && errors.Is(context.Cause(life), tcp.ErrDrained) {
		x.flags |= accesslog.Drained
	}
}

// flagsOf says what an error means.
func flagsOf(err error) accesslog.Flags {
	var refused *h1.Error
	switch {
	case errors.Is(err, mesh.ErrDenied):
		return accesslog.Denied
	case errors.Is(err, mesh.ErrWrongIdentity):
		return accesslog.WrongIdentity
	case errors.Is(err, mesh.ErrNotReady):
		return accesslog.NotReady
	case errors.Is(err, balance.ErrOverflow):
		return accesslog.Overflow
	case errors.Is(err, mesh.ErrNoInstance):
		return accesslog.NoHealthy
	case clientsFault(err):
		return clientsFlag(err)
	case errors.Is(err, errCutOff):
		return accesslog.Drained
	case errors.Is(err, context.Canceled), errors.Is(err, errClientGone):
		return accesslog.ClientGone
	case errors.As(err, &refused) && refused.Status != http.StatusBadGateway:
		return accesslog.ClientMalformed
	case refused != nil, malformed(err):
		return accesslog.UpstreamMalformed
	case unsent(err) && handshakeFailed(err):
		return accesslog.HandshakeFailed
	case unsent(err):
		return accesslog.ConnectFailed
	case isTimeout(err):
		return accesslog.UpstreamTimeout
	case errors.Is(err, errPanic):
		return 0
	}
	return accesslog.UpstreamReset
}

// clientsFlag says what was wrong with a body that could not be read.
func clientsFlag(err error) accesslog.Flags {
	switch {
	case isTimeout(err):
		return accesslog.ClientTimeout
	case refusedBody(err):
		return accesslog.ClientMalformed
	}
	return accesslog.ClientGone
}

// refusedBody reports whether a body breaks its framing, or is too large.
func refusedBody(err error) bool {
	var refused *h1.Error
	var large *http.MaxBytesError
	return errors.As(err, &refused) || errors.As(err, &large) || strings.Contains(err.Error(), "chunk")
}

// malformed reports whether an instance has answered what is no answer. net/http has
// no error of its own for a status line.
func malformed(err error) bool {
	var field textproto.ProtocolError
	return errors.Is(err, errSwitched) || errors.Is(err, errNoStatus) || errors.As(err, &field) || strings.Contains(err.Error(), "malformed HTTP")
}

// handshakeFailed reports whether there was a connection, and TLS was not to be had on
// it.
func handshakeFailed(err error) bool {
	var alert tls.AlertError
	var record tls.RecordHeaderError
	var unverified *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &alert) || errors.As(err, &record) || errors.As(err, &unverified) || errors.As(err, &unknown) || errors.As(err, &invalid)
}
