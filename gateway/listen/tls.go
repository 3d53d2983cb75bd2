package listen

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"sluice/gateway/config"
	"sluice/gateway/tlsfiles"
)

// maxRoots bounds the file of roots, in bytes.
const maxRoots = 4 << 20

// openTLS reads certificates and roots. Certificates are followed from then on; the
// roots stay, because to take one away must also end what it has let in, and a
// restart does.
func (s *Server) openTLS() error {
	l := s.cfg.Listener
	store, err := tlsfiles.Open(tlsfiles.Config{
		Dir: l.CertDir, Files: l.Certs, Strict: l.StrictMatch, Interval: s.cfg.Reload, Logger: s.cfg.Logger,
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
		if s.tls.ClientCAs, err = roots(l.ClientCA); err != nil {
			return fmt.Errorf("clientca=%s: %w", l.ClientCA, err)
		}
		s.tls.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return nil
}

func roots(path string) (*x509.CertPool, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxRoots))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, errors.New("there is no certificate in it")
	}
	return pool, nil
}

// shake does the handshake within its time.
func (s *Server) shake(ctx context.Context, c *conn) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Listener.Handshake)
	defer cancel()
	session := tls.Server(c, s.tls)
	err := session.HandshakeContext(ctx)
	if err == nil {
		state := session.ConnectionState()
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
