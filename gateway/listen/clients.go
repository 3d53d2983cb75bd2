package listen

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"

	"sluice/gateway/tlsfiles"
)

// errRootGone ends a handshake whose root went while it went on.
var errRootGone = errors.New("the root of the client's certificate has been taken away")

// openRoots makes the listener ask clients for certificates of the listener's
// roots, which are followed. Nobody resumes a session there: it would spare a
// client the look at its certificate.
func (s *Server) openRoots() (err error) {
	s.roots, err = tlsfiles.OpenRoots(tlsfiles.RootsConfig{
		File: s.cfg.Listener.ClientCA, Changed: s.cutStrangers, Tell: s.reloaded(ClientCA), Interval: s.cfg.Reload, Logger: s.cfg.Logger,
	})
	s.tls.ClientAuth = tls.RequireAndVerifyClientCert
	s.tls.SessionTicketsDisabled = true
	return err
}

// handshakeConfig is what the next handshake goes by.
func (s *Server) handshakeConfig() *tls.Config {
	if s.roots == nil {
		return s.tls
	}
	config := s.tls.Clone()
	config.ClientCAs = s.roots.Pool()
	return config
}

// certified is what a client has shown, and when.
type certified struct {
	chain []*x509.Certificate
	at    time.Time
}

// leads reports whether the chain leads to one of the roots. Its time is that of the
// handshake: what has expired since has been let in rightly.
func (c certified) leads(roots *x509.CertPool) bool {
	between := x509.NewCertPool()
	for _, certificate := range c.chain[1:] {
		between.AddCert(certificate)
	}
	_, err := c.chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: c.at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err == nil
}

// certify keeps what the client of a connection has shown, for the day on which its
// root goes. That may have been in this moment: what was kept is judged by the
// roots that are read after, so that either this or cutStrangers sees it.
func (s *Server) certify(c *conn, state tls.ConnectionState) error {
	if s.roots == nil {
		return nil
	}
	shown := certified{state.PeerCertificates, time.Now()}
	s.gate.certify(c, shown)
	if !shown.leads(s.roots.Pool()) {
		return errRootGone
	}
	return nil
}

// cutStrangers ends the connections of clients whose root has gone.
func (s *Server) cutStrangers() {
	roots, cut := s.roots.Pool(), 0
	for c, shown := range s.gate.certified() {
		if !shown.leads(roots) {
			reset(c.Conn)
			_ = c.Close()
			cut++
		}
	}
	if cut > 0 {
		s.cfg.Logger.Info("connections cut: the root of their clients has gone", "listen", s.bound.Addr().String(), "connections", cut)
	}
}
