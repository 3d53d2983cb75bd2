package mesh

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"sluice/identity"
	"sluice/intentions"
)

// ALPN is the protocol by which two ends know each other as this mesh: the
// server then says, inside TLS and before anything else, whether it accepts the
// client. A TLS 1.3 client could not tell otherwise: its handshake ends before
// the server has judged it.
const ALPN = "sluice/1"

// The byte that a server sends first over ALPN.
const (
	confirmAllowed byte = 0x00
	confirmDenied  byte = 0x01
)

// After a refusal the alert must arrive, and closing a socket with unread input
// would reset it away: so read on for a moment.
const (
	lingerTime  = 250 * time.Millisecond
	lingerBytes = 64 << 10
)

// admission is what one inbound handshake found out.
type admission struct {
	own      Credentials
	source   identity.ID
	decision intentions.Decision
	// refused says that the peer was believed, and turned away.
	refused bool
}

// serve takes one connection from its first byte to Accept, or refuses it.
func (l *Listener) serve(ctx context.Context, h *handshake) {
	defer l.gate.leave(h)
	ctx, cancel := context.WithTimeout(ctx, l.cfg.HandshakeTimeout)
	defer cancel()
	_ = h.raw.SetDeadline(time.Now().Add(l.cfg.HandshakeTimeout))

	var found admission
	session := tls.Server(h.raw, l.config(h, &found))
	if err := session.HandshakeContext(ctx); err != nil {
		l.refuse(h, &found, err)
		return
	}
	conn := l.admit(session, h.raw, &found)
	if conn == nil {
		return
	}
	if !l.gate.settle(h) {
		conn.abort("evicted")
		return
	}
	_ = h.raw.SetDeadline(time.Time{})
	l.cfg.Table.count.accepted.Add(1)
	select {
	case l.ready <- conn:
	case <-l.closed:
		conn.Cut("shutting down")
	}
}

// config returns the TLS configuration of one handshake. Everything that decides
// is made anew, from one snapshot, once the client has spoken.
func (l *Listener) config(h *handshake, found *admission) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// A resumed session would skip the chain check and outlive a change of
		// intentions.
		SessionTicketsDisabled: true,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			h.greeted.Store(true)
			now := l.cfg.Now()
			own, err := current(l.cfg.Credentials, now)
			if err != nil {
				return nil, err
			}
			found.own = own
			cfg := &tls.Config{
				MinVersion:             tls.VersionTLS13,
				SessionTicketsDisabled: true,
				Certificates:           []tls.Certificate{*own.Certificate},
				ClientAuth:             tls.RequireAndVerifyClientCert,
				ClientCAs:              own.Roots,
				Time:                   func() time.Time { return now },
				VerifyConnection: func(state tls.ConnectionState) error {
					return l.judge(hello.Context(), state, found)
				},
			}
			// A protocol that we name and the client does not would fail the
			// handshake, and clients that are not ours are welcome.
			if slices.Contains(hello.SupportedProtos, ALPN) {
				cfg.NextProtos = []string{ALPN}
			}
			return cfg, nil
		},
	}
}

// judge authorizes a client whose chain has been verified.
func (l *Listener) judge(ctx context.Context, state tls.ConnectionState, found *admission) error {
	if state.DidResume {
		return errors.New("session resumption is not accepted")
	}
	source, err := leafIdentity(state.PeerCertificates)
	if err != nil {
		return err
	}
	found.source = source
	found.decision, err = l.cfg.Authorizer.admit(ctx, source, found.own.ID)
	if err == nil && found.decision.Allowed {
		return nil
	}
	found.refused = true
	if err != nil {
		return err
	}
	return &DeniedError{Decision: found.decision, By: ByDestination}
}

// admit makes the connection, registers it, judges it once more and tells the
// client. It returns nil if the connection has been refused.
func (l *Listener) admit(session *tls.Conn, raw net.Conn, found *admission) *Conn {
	state := session.ConnectionState()
	conn := &Conn{
		tls: session, raw: raw, table: l.cfg.Table, owner: l, inbound: true,
		edge: Edge{Source: found.source, Destination: found.own.ID},
		peer: state.PeerCertificates[0], local: found.own.Certificate.Leaf,
		released: l.live.Done,
	}
	conn.decision.Store(&found.decision)
	l.live.Add(1)
	allowed := conn.enter(l.cfg.Authorizer.policy)
	var err error
	if state.NegotiatedProtocol == ALPN {
		answer := confirmAllowed
		if !allowed {
			answer = confirmDenied
		}
		_, err = session.Write([]byte{answer})
	}
	switch {
	case !allowed:
		conn.withdraw()
		l.cfg.Table.count.denied.Add(1)
		l.logDenied(found.source, conn.Decision().String())
		linger(raw)
		_ = raw.Close()
		return nil
	case err != nil:
		if conn.abort("the peer left") {
			l.cfg.Table.count.handshakeFailed.Add(1)
		}
		return nil
	}
	return conn
}

// refuse counts, logs and ends a handshake that failed.
func (l *Listener) refuse(h *handshake, found *admission, err error) {
	count := &l.cfg.Table.count
	switch {
	case h.evicted.Load():
	case found.refused:
		count.denied.Add(1)
		l.logDenied(found.source, err.Error())
	case errors.Is(err, ErrNotReady):
		count.handshakeFailed.Add(1)
		l.cfg.Logger.Warn("connection refused", "service", l.cfg.Authorizer.Service(), "err", err)
	default:
		count.handshakeFailed.Add(1)
		l.cfg.Logger.Debug("handshake failed", "service", l.cfg.Authorizer.Service(),
			"remote", h.raw.RemoteAddr().String(), "err", withTimeout(err))
	}
	linger(h.raw)
	_ = h.raw.Close()
}

func (l *Listener) logDenied(source identity.ID, reason string) {
	l.cfg.Logger.Info("connection denied", "source", source.String(),
		"destination", l.cfg.Authorizer.Service(), "verdict", "deny", "reason", reason)
}

// linger ends our side and reads what the peer still sends, within bounds.
func linger(raw net.Conn) {
	half, ok := raw.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = raw.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, raw, lingerBytes)
}

// confirm waits for the server's word on us. The caller sees to it that the wait
// ends.
func confirm(session *tls.Conn) (allowed bool, err error) {
	var answer [1]byte
	if _, err := io.ReadFull(session, answer[:]); err != nil {
		return false, err
	}
	switch answer[0] {
	case confirmAllowed:
		return true, nil
	case confirmDenied:
		return false, nil
	default:
		return false, fmt.Errorf("unknown answer %#02x over %s", answer[0], ALPN)
	}
}
