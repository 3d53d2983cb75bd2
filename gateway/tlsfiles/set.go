package tlsfiles

import (
	"crypto/tls"
	"slices"
	"strings"
	"time"
)

// Info describes one certificate that is served.
type Info struct {
	// File is the path of the certificate.
	File string `json:"file"`
	// Names are the DNS names that it is for.
	Names     []string  `json:"names"`
	Serial    string    `json:"serial"` // hexadecimal
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
}

// set is what is served at one moment. It is immutable once built.
type set struct {
	infos []Info
	first *tls.Certificate
	// byName holds, in the order of the files, the certificates for a name in lower
	// case. That of a wildcard begins with "*.".
	byName map[string][]*tls.Certificate
}

func (s *set) add(pair Pair, certificate *tls.Certificate) {
	if s.first == nil {
		s.first = certificate
	}
	leaf := certificate.Leaf
	info := Info{File: pair.Cert, Serial: leaf.SerialNumber.Text(16), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter}
	for _, name := range leaf.DNSNames {
		name = strings.ToLower(name)
		if !slices.Contains(info.Names, name) {
			info.Names = append(info.Names, name)
			s.byName[name] = append(s.byName[name], certificate)
		}
	}
	s.infos = append(s.infos, info)
}

// choose returns the certificate for a client: one for its very name, else for
// the wildcard one label up (RFC 6125, section 6.4.3), else the first of all,
// or nil where strict. Of several for one name it is the first whose key the
// client can use and that is valid now, else the first.
func (s *set) choose(hello *tls.ClientHelloInfo, strict bool, now time.Time) *tls.Certificate {
	name := strings.ToLower(hello.ServerName)
	found := s.byName[name]
	if _, parent, ok := strings.Cut(name, "."); ok && len(found) == 0 {
		found = s.byName["*."+parent]
	}
	switch {
	case len(found) == 0 && strict:
		return nil
	case len(found) == 0:
		return s.first
	case len(found) == 1:
		return found[0]
	}
	for _, certificate := range found {
		valid := now.Before(certificate.Leaf.NotAfter) && !now.Before(certificate.Leaf.NotBefore)
		if valid && hello.SupportsCertificate(certificate) == nil {
			return certificate
		}
	}
	return found[0]
}
