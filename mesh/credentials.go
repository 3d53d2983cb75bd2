package mesh

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/identity"
)

// current returns the credentials that source supplies at this moment, if they
// can be used: a process never presents a leaf that its peers must refuse, and
// never checks a peer against anything but the mesh's own roots.
func current(source CredentialSource, now time.Time) (Credentials, error) {
	c, err := source.Credentials()
	if err != nil {
		return Credentials{}, fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	if err := c.usable(now); err != nil {
		return Credentials{}, err
	}
	return c, nil
}

// usable is the part of Verify that is cheap enough for every handshake.
func (c Credentials) usable(now time.Time) error {
	switch {
	case c.Certificate == nil || c.Certificate.Leaf == nil || len(c.Certificate.Certificate) == 0:
		return fmt.Errorf("%w: no leaf", ErrNotReady)
	case c.Roots == nil:
		return fmt.Errorf("%w: no roots", ErrNotReady)
	case c.ID.IsZero():
		return fmt.Errorf("%w: leaf without an identity", ErrNotReady)
	case now.Before(c.Certificate.Leaf.NotBefore):
		return fmt.Errorf("%w: own leaf is not valid before %s; check the clock", ErrNotReady,
			c.Certificate.Leaf.NotBefore.UTC().Format(time.RFC3339))
	case now.After(c.Certificate.Leaf.NotAfter):
		return fmt.Errorf("%w: own leaf expired at %s; check that the Consul agent can sign a new one", ErrNotReady,
			c.Certificate.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// Verify reports why a peer would not believe these credentials at now, or nil:
// something is missing, the leaf is not valid, or its chain, intermediates
// included, does not end in one of the roots. The error is ErrNotReady.
func (c Credentials) Verify(now time.Time) error {
	if err := c.usable(now); err != nil {
		return err
	}
	chain, err := c.chain()
	if err != nil {
		return err
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := verifyChain(chain, c.Roots, now, usage); err != nil {
			return fmt.Errorf("%w: own certificate: %w", ErrNotReady, err)
		}
	}
	id, err := leafIdentity(chain)
	if err != nil {
		return fmt.Errorf("%w: own certificate: %w", ErrNotReady, err)
	}
	if id != c.ID {
		return fmt.Errorf("%w: own certificate names %s, not %s", ErrNotReady, id, c.ID)
	}
	return nil
}

// chain returns the leaf and the intermediates that are presented with it.
func (c Credentials) chain() ([]*x509.Certificate, error) {
	chain := make([]*x509.Certificate, 0, len(c.Certificate.Certificate))
	for _, der := range c.Certificate.Certificate {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%w: read own chain: %w", ErrNotReady, err)
		}
		chain = append(chain, certificate)
	}
	return chain, nil
}

// issuers returns who vouches for the leaf, from its signer to the root, by the
// shortest way: a root that was cross-signed when it was new vouches for itself. It is
// nil if nobody does.
func (c Credentials) issuers(now time.Time) []*x509.Certificate {
	chain, err := c.chain()
	if err != nil || len(chain) == 0 || c.Roots == nil {
		return nil
	}
	intermediates := x509.NewCertPool()
	for _, certificate := range chain[1:] {
		intermediates.AddCert(certificate)
	}
	ways, err := chain[0].Verify(x509.VerifyOptions{
		Roots: c.Roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil
	}
	return slices.MinFunc(ways, func(a, b []*x509.Certificate) int { return cmp.Compare(len(a), len(b)) })[1:]
}

// verifyChain checks that the first certificate is a leaf for usage and that the
// others lead from it to one of roots, all valid at now. It returns the ways that do.
func verifyChain(chain []*x509.Certificate, roots *x509.CertPool, now time.Time, usage x509.ExtKeyUsage) ([][]*x509.Certificate, error) {
	if len(chain) == 0 {
		return nil, errors.New("verify chain: no certificate")
	}
	if roots == nil {
		// x509 would take nil for the system's roots.
		return nil, fmt.Errorf("verify chain: %w: no roots", ErrNotReady)
	}
	intermediates := x509.NewCertPool()
	for _, certificate := range chain[1:] {
		intermediates.AddCert(certificate)
	}
	ways, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{usage},
	})
	if err != nil {
		return nil, fmt.Errorf("verify chain: %w", err)
	}
	return ways, nil
}

// leafIdentity returns the identity that a peer's leaf claims. A signing
// certificate is no leaf (X.509-SVID, section 5.2).
func leafIdentity(chain []*x509.Certificate) (identity.ID, error) {
	if len(chain) == 0 {
		return identity.ID{}, errors.New("read identity: no certificate")
	}
	if chain[0].IsCA {
		return identity.ID{}, errors.New("read identity: the certificate is a signing certificate, not a leaf")
	}
	return identity.FromCertificate(chain[0])
}
