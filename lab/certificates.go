package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"sluice/certs"
)

// Lifetimes of the agents' own certificates. They are made anew at each `up`, so
// a lab that people use never meets the end of one.
const (
	authorityLifetime = 365 * 24 * time.Hour
	agentLifetime     = 30 * 24 * time.Hour
)

// makeCertificates gives the Consul agents of nodes their certificates. The authority is
// kept from one `up` to the next until it is too old to sign for agentLifetime.
func (s *Supervisor) makeCertificates(now time.Time, nodes []*node) error {
	dir := s.layout.TLS()
	authority, err := certs.LoadAuthority(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err != nil || authority.Certificate().NotAfter.Before(now.Add(agentLifetime)) {
		if authority, err = certs.NewAuthority("sluice agents", now, authorityLifetime); err != nil {
			return err
		}
		if err := authority.Write(dir); err != nil {
			return err
		}
	}
	for _, n := range nodes {
		issue := authority.IssueClient
		if n.node.Server {
			issue = authority.IssueServer
		}
		pair, err := issue(certs.Subject{
			Node: n.node.Name, Datacenter: n.datacenter.Name, Addresses: []netip.Addr{n.address},
		}, now, agentLifetime)
		if err != nil {
			return err
		}
		if err := pair.Write(dir, n.node.Name); err != nil {
			return fmt.Errorf("write the certificate of %s: %w", n.node.Name, err)
		}
	}
	return nil
}

func (s *Supervisor) caFile() string {
	return certs.CertificateFile(s.layout.TLS(), certs.AuthorityName)
}

func (s *Supervisor) certFile(node string) string {
	return certs.CertificateFile(s.layout.TLS(), node)
}

func (s *Supervisor) keyFile(node string) string { return certs.KeyFile(s.layout.TLS(), node) }
