package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"time"

	"sluice/gateway/config"
	"sluice/gateway/tlsfiles"
)

// openTLS reads certificates and roots, which are followed from then on.
func (s *Server) openTLS() error {
	l := s.cfg.Listener
	store, err := tlsfiles.Open(tlsfiles.Config{
		Dir: l.CertDir, Files: l.Certs, Strict: l.StrictMatch, Interval: s.cfg.Reload, Tell: s.reloaded(Certificates), Logger: s.cfg.Logger,
	})
	if err != nil {
		return err
	}
	s.store, s.tls = store, store.TLSConfig()
	if l.TLSMin == config.TLS13 {
		s.tls.MinVersion = tls.VersionTLS13
	}
	// With TLS 1.2 only suites that keep secrets when a key is stolen later, and that
	// HTTP/2 does not forbid (RFC 9113, appendix A). Those of TLS 1.3 are not chosen.
	s.tls.CipherSuites = []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
	if l.ClientCA != "" {
		if err := s.openRoots(); err != nil {
			return fmt.Errorf("clientca: %w", err)
		}
	}
	return nil
}

// reloaded returns what tells of changes of files.
func (s *Server) reloaded(which Files) func(tlsfiles.Change) {
	return func(change tlsfiles.Change) {
		if s.cfg.Reloaded != nil {
			s.cfg.Reloaded(which, change)
		}
	}
}

// shake does the handshake within its time.
func (s *Server) shake(ctx context.Context, c *conn) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Listener.Handshake)
	defer cancel()
	session := tls.Server(c, s.handshakeConfig())
	err := session.HandshakeContext(ctx)
	state := session.ConnectionState()
	if err == nil {
		err = s.certify(c, state)
	}
	if err == nil {
		c.info.TLS = &state
		return session, nil
	}
	s.handshakes.Add(1)
	s.cfg.Logger.Debug("handshake failed", "remote", c.RemoteAddr().String(), "err", err)
	var noTLS tls.RecordHeaderError
	if errors.As(err, &noTLS) && noTLS.Conn != nil && looksLikeHTTP(noTLS.RecordHeader) {
		// A person who mixed up the schemes sees words.
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\nThis port takes https, and this was http.\n")
	}
	return nil, err
}

func looksLikeHTTP(header [5]byte) bool {
	switch string(header[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "PATCH", "DELET":
		return true
	}
	return false
}
