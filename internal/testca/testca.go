// Package testca is a certificate authority for tests, inside the test's own
// process. It mints roots, intermediates and leaves in the form that Consul
// Connect issues them, and wrong ones on demand. It is not fit for anything but
// tests.
package testca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"testing"
	"time"

	"sluice/identity"
)

// Defaults of validity, around the moment of minting. Consul dates certificates
// one minute back, too.
const (
	backdate     = time.Minute
	rootValidity = 10 * 365 * 24 * time.Hour
	leafValidity = 72 * time.Hour
)

// CA is a signing certificate with its key: a root or an intermediate.
type CA struct {
	// Certificate is the signing certificate.
	Certificate *x509.Certificate
	// TrustDomain is what the CA signs for.
	TrustDomain string

	key    *ecdsa.PrivateKey
	parent *CA
}

// NewRoot returns a self-signed root of trustDomain, for example
// "11111111-2222-3333-4444-555555555555.consul".
func NewRoot(tb testing.TB, trustDomain string) *CA {
	tb.Helper()
	return newCA(tb, trustDomain, "Consul CA Root Cert", nil)
}

// Intermediate returns a CA that ca has signed, as a secondary datacenter has.
func (ca *CA) Intermediate(tb testing.TB, datacenter string) *CA {
	tb.Helper()
	return newCA(tb, ca.TrustDomain, "Consul CA "+datacenter, ca)
}

// CrossSigned returns a certificate of ca's own key and name that by has signed:
// who trusts by alone then also believes what ca signs.
func (ca *CA) CrossSigned(tb testing.TB, by *CA) *x509.Certificate {
	tb.Helper()
	template := *ca.Certificate
	template.SerialNumber = serial(tb)
	template.AuthorityKeyId = nil
	return sign(tb, &template, by.Certificate, ca.key, by.key)
}

// Pool returns a pool that holds the roots of cas.
func Pool(cas ...*CA) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, ca := range cas {
		pool.AddCert(ca.Root().Certificate)
	}
	return pool
}

// Root returns the root at the end of ca's chain.
func (ca *CA) Root() *CA {
	for ca.parent != nil {
		ca = ca.parent
	}
	return ca
}

// PEM returns the certificate in PEM form, without a key.
func (ca *CA) PEM() string { return encode("CERTIFICATE", ca.Certificate.Raw) }

// Leaf describes a leaf to mint. The zero values of all but Service and
// Datacenter are what Consul would issue.
type Leaf struct {
	Datacenter, Service string
	// TrustDomain replaces the CA's.
	TrustDomain string
	// NotBefore and NotAfter replace one minute ago and 72 hours from now.
	NotBefore, NotAfter time.Time
	// URIs replaces the SPIFFE ID; an empty list that is not nil leaves it out.
	URIs []string
	// ExtKeyUsage replaces server and client authentication.
	ExtKeyUsage []x509.ExtKeyUsage
	// IsCA mints a signing certificate that claims the identity of a service.
	IsCA bool
	// Extra certificates follow the chain.
	Extra []*x509.Certificate
}

// Leaf mints a leaf with its key and every intermediate up to, but without, the
// root.
func (ca *CA) Leaf(tb testing.TB, leaf Leaf) *tls.Certificate {
	tb.Helper()
	key := newKey(tb)
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial(tb),
		Subject:               pkix.Name{},
		NotBefore:             orTime(leaf.NotBefore, now.Add(-backdate)),
		NotAfter:              orTime(leaf.NotAfter, now.Add(leafValidity)),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageKeyAgreement,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  leaf.IsCA,
		URIs:                  ca.uris(tb, leaf),
	}
	if leaf.ExtKeyUsage != nil {
		template.ExtKeyUsage = leaf.ExtKeyUsage
	}
	certificate := sign(tb, template, ca.Certificate, key, ca.key)
	chain := [][]byte{certificate.Raw}
	for signer := ca; signer.parent != nil; signer = signer.parent {
		chain = append(chain, signer.Certificate.Raw)
	}
	for _, extra := range leaf.Extra {
		chain = append(chain, extra.Raw)
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: certificate}
}

// ID returns the identity of a service as ca signs it.
func (ca *CA) ID(tb testing.TB, datacenter, service string) identity.ID {
	tb.Helper()
	id, err := identity.New(ca.TrustDomain, datacenter, service)
	if err != nil {
		tb.Fatalf("testca: %v", err)
	}
	return id
}

// LeafPEM returns a leaf's chain and its key in PEM form, as a Consul agent hands
// them out.
func LeafPEM(tb testing.TB, leaf *tls.Certificate) (chain, key string) {
	tb.Helper()
	for _, der := range leaf.Certificate {
		chain += encode("CERTIFICATE", der)
	}
	der, err := x509.MarshalECPrivateKey(leaf.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		tb.Fatalf("testca: encode key: %v", err)
	}
	return chain, encode("EC PRIVATE KEY", der)
}

func (ca *CA) uris(tb testing.TB, leaf Leaf) []*url.URL {
	tb.Helper()
	names := leaf.URIs
	if names == nil {
		trustDomain := leaf.TrustDomain
		if trustDomain == "" {
			trustDomain = ca.TrustDomain
		}
		names = []string{fmt.Sprintf("spiffe://%s/ns/default/dc/%s/svc/%s", trustDomain, leaf.Datacenter, leaf.Service)}
	}
	uris := make([]*url.URL, 0, len(names))
	for _, name := range names {
		uri, err := url.Parse(name)
		if err != nil {
			tb.Fatalf("testca: URI %q: %v", name, err)
		}
		uris = append(uris, uri)
	}
	return uris
}

func newCA(tb testing.TB, trustDomain, name string, parent *CA) *CA {
	tb.Helper()
	now := time.Now()
	ca := &CA{TrustDomain: trustDomain, key: newKey(tb), parent: parent}
	template := &x509.Certificate{
		SerialNumber:          serial(tb),
		Subject:               pkix.Name{CommonName: fmt.Sprintf("%s %x", name, serial(tb).Bytes()[:4])},
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: trustDomain}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(rootValidity),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	signer, signerKey := template, ca.key
	if parent != nil {
		signer, signerKey = parent.Certificate, parent.key
	}
	ca.Certificate = sign(tb, template, signer, ca.key, signerKey)
	return ca
}

func sign(tb testing.TB, template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) *x509.Certificate {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		tb.Fatalf("testca: sign: %v", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatalf("testca: parse: %v", err)
	}
	return certificate
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatalf("testca: make key: %v", err)
	}
	return key
}

func serial(tb testing.TB) *big.Int {
	tb.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		tb.Fatalf("testca: make serial number: %v", err)
	}
	return n.SetBit(n, 100, 1)
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func orTime(t, other time.Time) time.Time {
	if t.IsZero() {
		return other
	}
	return t
}

// SignedBy mints a leaf that another leaf has signed, which no verifier may
// believe. The chain is complete otherwise.
func SignedBy(tb testing.TB, signer *tls.Certificate, ca *CA, leaf Leaf) *tls.Certificate {
	tb.Helper()
	forger := &CA{Certificate: signer.Leaf, TrustDomain: ca.TrustDomain, key: signer.PrivateKey.(*ecdsa.PrivateKey), parent: ca}
	return forger.Leaf(tb, leaf)
}
