// Package certs makes and judges certificates. It holds the lab's own authority
// for the TLS between Consul agents (gossip has a key of its own, and the leaves
// of services come from the Connect CA), and it reads, judges and describes any
// certificate of the lab for people.
//
// The package starts no goroutine, opens no socket and takes the time as an
// argument. Private keys are written to files of mode 0600 and nowhere else.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/netip"
	"time"
)

// Domain is the last label of the names that Consul agents verify.
const Domain = "consul"

// Backdate is how long before "now" a new certificate begins to be valid, so
// that a node whose clock is a little slow accepts it. Consul uses the same.
const Backdate = time.Minute

// Authority signs the certificates of Consul agents. It is immutable.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// Pair is a certificate and its private key. It is immutable. Formatting a Pair
// does not show the key.
type Pair struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// Subject is the agent that a certificate is for.
type Subject struct {
	// Node is the agent's node name.
	Node string
	// Datacenter is the agent's datacenter.
	Datacenter string
	// Addresses are the IP addresses at which the agent answers; the node's
	// loopback need not be among them.
	Addresses []netip.Addr
}

// NewAuthority makes a root certificate named name, valid from just before now
// for lifetime, with a new ECDSA P-256 key.
func NewAuthority(name string, now time.Time, lifetime time.Duration) (*Authority, error) {
	if name == "" || lifetime <= 0 {
		return nil, fmt.Errorf("make authority %q: a name and a lifetime above zero are needed", name)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              now.Add(lifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	pair, err := issue(template, nil)
	if err != nil {
		return nil, fmt.Errorf("make authority %q: %w", name, err)
	}
	return &Authority{certificate: pair.certificate, key: pair.key}, nil
}

// IssueServer makes the certificate of an agent that is a Consul server. Its
// names hold server.DATACENTER.consul, which only a server may have: it is what
// verify_server_hostname asks for.
func (a *Authority) IssueServer(subject Subject, now time.Time, lifetime time.Duration) (Pair, error) {
	return a.issue(subject, "server", now, lifetime)
}

// IssueClient makes the certificate of an agent that is not a server.
func (a *Authority) IssueClient(subject Subject, now time.Time, lifetime time.Duration) (Pair, error) {
	return a.issue(subject, "client", now, lifetime)
}

// Certificate returns the root certificate.
func (a *Authority) Certificate() *x509.Certificate { return a.certificate }

// CertificatePEM returns the root certificate, as a file holds it.
func (a *Authority) CertificatePEM() []byte { return encode("CERTIFICATE", a.certificate.Raw) }

// Pool returns a new pool with the root certificate.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// Certificate returns the certificate.
func (p Pair) Certificate() *x509.Certificate { return p.certificate }

// CertificatePEM returns the certificate, as a file holds it.
func (p Pair) CertificatePEM() []byte { return encode("CERTIFICATE", p.certificate.Raw) }

// String names the certificate and never the key.
func (p Pair) String() string {
	if p.certificate == nil {
		return "no certificate"
	}
	return p.certificate.Subject.CommonName
}

// GoString keeps the key out of %#v.
func (p Pair) GoString() string { return p.String() }

func (a *Authority) issue(subject Subject, role string, now time.Time, lifetime time.Duration) (Pair, error) {
	if subject.Node == "" || subject.Datacenter == "" || lifetime <= 0 {
		return Pair{}, fmt.Errorf("issue %s certificate for %q: a node, a datacenter and a lifetime above zero are needed", role, subject.Node)
	}
	if now.Before(a.certificate.NotBefore) || now.Add(lifetime).After(a.certificate.NotAfter) {
		return Pair{}, fmt.Errorf("issue %s certificate for %q: it would outlive its authority, which is valid from %s to %s",
			role, subject.Node, a.certificate.NotBefore.Format(time.RFC3339), a.certificate.NotAfter.Format(time.RFC3339))
	}
	name := role + "." + subject.Datacenter + "." + Domain
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: subject.Node + "." + name},
		DNSNames:  []string{name, subject.Node, "localhost"},
		NotBefore: now.Add(-Backdate),
		NotAfter:  now.Add(lifetime),
		KeyUsage:  x509.KeyUsageDigitalSignature,
		// A server also dials other servers; a client is dialled by nobody.
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	if role == "server" {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	for _, address := range append([]netip.Addr{loopback}, subject.Addresses...) {
		if !address.IsValid() {
			return Pair{}, fmt.Errorf("issue %s certificate for %q: an address is empty", role, subject.Node)
		}
		template.IPAddresses = append(template.IPAddresses, address.AsSlice())
	}
	pair, err := issue(template, a)
	if err != nil {
		return Pair{}, fmt.Errorf("issue %s certificate for %q: %w", role, subject.Node, err)
	}
	return pair, nil
}

// issue makes a key and a certificate from template, signed by parent, or by
// itself if parent is nil.
func issue(template *x509.Certificate, parent *Authority) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("make key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return Pair{}, fmt.Errorf("make serial: %w", err)
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	signer, signerKey := template, key
	if parent != nil {
		signer, signerKey = parent.certificate, parent.key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, signer, &key.PublicKey, signerKey)
	if err != nil {
		return Pair{}, fmt.Errorf("sign: %w", err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		return Pair{}, fmt.Errorf("read back: %w", err)
	}
	return Pair{certificate: certificate, key: key}, nil
}

func encode(kind string, raw []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw})
}
