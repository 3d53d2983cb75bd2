// Package identity holds who a service is: a SPIFFE ID in the form that Consul
// Connect issues, as a comparable value. It parses once, at the edge; past that
// point an identity is never a string again.
//
// The form is spiffe://TRUST-DOMAIN/ns/NAMESPACE/dc/DATACENTER/svc/SERVICE
// (SPIFFE-ID specification, section 2; Consul, agent/connect/uri_service.go).
// Admin partitions and namespaces other than "default" are Consul Enterprise
// features and are refused.
//
// The package starts no goroutine, opens no socket and asks nobody for the time.
package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// DefaultNamespace is the only namespace that Consul's community edition has.
const DefaultNamespace = "default"

// ErrNotService means that a SPIFFE ID is well-formed but does not name a
// service in the form that Consul Connect issues (an agent's or a server's
// certificate, another mesh's identity).
var ErrNotService = errors.New("not a Consul service identity")

// ID is the identity of a service: trust domain, datacenter, service name. The
// zero value names nobody. IDs are comparable: two IDs are the same identity if
// and only if they are ==.
type ID struct {
	trustDomain spiffeid.TrustDomain
	datacenter  string
	service     string
}

// New returns the identity of service in datacenter of trustDomain. It fails if
// any part is empty or holds a character that a SPIFFE ID may not hold.
func New(trustDomain, datacenter, service string) (ID, error) {
	td, err := spiffeid.TrustDomainFromString(trustDomain)
	if err != nil {
		return ID{}, fmt.Errorf("identity: trust domain %q: %w", trustDomain, err)
	}
	for _, segment := range []string{datacenter, service} {
		if err := spiffeid.ValidatePathSegment(segment); err != nil {
			return ID{}, fmt.Errorf("identity: name %q: %w", segment, err)
		}
	}
	return ID{trustDomain: td, datacenter: datacenter, service: service}, nil
}

// Parse reads an identity from its URI form. It is strict: anything that Consul
// would not have issued is refused, and ErrNotService tells a SPIFFE ID of
// another kind from one that is malformed.
func Parse(uri string) (ID, error) {
	sid, err := spiffeid.FromString(uri)
	if err != nil {
		return ID{}, fmt.Errorf("identity: %w", err)
	}
	segments := strings.Split(strings.TrimPrefix(sid.Path(), "/"), "/")
	if len(segments) != 6 || segments[0] != "ns" || segments[2] != "dc" || segments[4] != "svc" {
		return ID{}, fmt.Errorf("identity: %q: %w", uri, ErrNotService)
	}
	if segments[1] != DefaultNamespace {
		return ID{}, fmt.Errorf("identity: namespace %q: %w", segments[1], ErrNotService)
	}
	return ID{trustDomain: sid.TrustDomain(), datacenter: segments[3], service: segments[5]}, nil
}

// FromURI is Parse for a URI that is already split.
func FromURI(uri *url.URL) (ID, error) {
	if uri == nil {
		return ID{}, errors.New("identity: no URI")
	}
	return Parse(uri.String())
}

// FromCertificate returns the identity that a certificate claims. A certificate
// must carry exactly one URI (X.509-SVID specification, section 2); whether the
// claim is to be believed is for the chain check to say.
func FromCertificate(certificate *x509.Certificate) (ID, error) {
	if certificate == nil {
		return ID{}, errors.New("identity: no certificate")
	}
	if n := len(certificate.URIs); n != 1 {
		return ID{}, fmt.Errorf("identity: certificate has %d URI names, want exactly one", n)
	}
	return FromURI(certificate.URIs[0])
}

// TrustDomain returns the trust domain's name, without a scheme.
func (id ID) TrustDomain() string { return id.trustDomain.Name() }

// Datacenter returns the datacenter that issued the identity.
func (id ID) Datacenter() string { return id.datacenter }

// Service returns the service's name, the part that intentions speak of.
func (id ID) Service() string { return id.service }

// IsZero reports whether the identity names nobody.
func (id ID) IsZero() bool { return id == ID{} }

// String returns the URI form, or "" for the zero identity.
func (id ID) String() string {
	if id.IsZero() {
		return ""
	}
	return "spiffe://" + id.trustDomain.Name() + "/ns/" + DefaultNamespace +
		"/dc/" + id.datacenter + "/svc/" + id.service
}

// MarshalText writes the URI form, so that an identity reads the same in JSON,
// in logs and on a page.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*id = ID{}
		return nil
	}
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}
