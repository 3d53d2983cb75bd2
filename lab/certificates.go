package lab

import (
	"path/filepath"
	"time"
)

func (s *Supervisor) makeCertificates(now time.Time) error { return nil }

func (s *Supervisor) caFile() string { return filepath.Join(s.layout.TLS(), "ca.pem") }
func (s *Supervisor) certFile(node string) string {
	return filepath.Join(s.layout.TLS(), node+".pem")
}
func (s *Supervisor) keyFile(node string) string {
	return filepath.Join(s.layout.TLS(), node+".key")
}
