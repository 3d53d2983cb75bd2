package consul

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"sluice/identity"
)

// leafFacts is what the sentinel remembers of a leaf: the certificate, never the
// key.
type leafFacts struct {
	certificate *x509.Certificate
}

func (f leafFacts) equal(other leafFacts) bool {
	return f.certificate != nil && other.certificate != nil && f.certificate.Equal(other.certificate)
}

// rootFacts is what the sentinel remembers of the roots: all that are trusted,
// the active one and those being retired.
type rootFacts struct {
	trustDomain string
	pool        *x509.CertPool
	// ids are Consul's names of the roots in the pool, sorted.
	ids []string
}

func (f rootFacts) equal(other rootFacts) bool {
	return f.trustDomain == other.trustDomain && f.pool != nil && other.pool != nil && f.pool.Equal(other.pool)
}

// watchLeaf follows the leaf of service: when it is renewed, by which certificate.
func (c *Client) watchLeaf(service string, kick chan<- struct{}) *Watch[leafFacts] {
	return newWatch(watchConfig[leafFacts]{
		name: "leaf of " + service, equal: leafFacts.equal, cached: true, kick: kick, logger: c.log,
		query: func(_ context.Context, options *api.QueryOptions) (leafFacts, *api.QueryMeta, error) {
			answer, meta, err := c.long.Agent().ConnectCALeaf(service, options)
			if err != nil {
				return leafFacts{}, nil, explain("get a leaf", serviceRule(service, "write"), err)
			}
			facts, err := readLeaf(answer)
			return facts, meta, err
		},
	})
}

// watchRoots follows the trusted roots.
func (c *Client) watchRoots(kick chan<- struct{}) *Watch[rootFacts] {
	return newWatch(watchConfig[rootFacts]{
		name: "roots", equal: rootFacts.equal, cached: true, kick: kick, logger: c.log,
		query: func(_ context.Context, options *api.QueryOptions) (rootFacts, *api.QueryMeta, error) {
			answer, meta, err := c.long.Agent().ConnectCARoots(options)
			if err != nil {
				return rootFacts{}, nil, explain("get the roots", "a token that the agent knows", err)
			}
			facts, err := readRoots(answer)
			return facts, meta, err
		},
	})
}

func readLeaf(answer *api.LeafCert) (leafFacts, error) {
	block, _ := pem.Decode([]byte(answer.CertPEM))
	if block == nil {
		return leafFacts{}, errors.New("read leaf: the agent's answer holds no certificate")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return leafFacts{}, fmt.Errorf("read leaf: %w", err)
	}
	return leafFacts{certificate: certificate}, nil
}

func readRoots(answer *api.CARootList) (rootFacts, error) {
	facts := rootFacts{trustDomain: answer.TrustDomain, pool: x509.NewCertPool()}
	if len(answer.Roots) == 0 || answer.TrustDomain == "" {
		return rootFacts{}, errors.New("read roots: Consul has no certificate authority yet (is connect enabled on its servers?)")
	}
	if err := whole(answer.Roots); err != nil {
		return rootFacts{}, fmt.Errorf("read roots: %w", err)
	}
	for _, root := range answer.Roots {
		if !facts.pool.AppendCertsFromPEM([]byte(root.RootCertPEM)) {
			return rootFacts{}, fmt.Errorf("read roots: root %s holds no certificate", root.ID)
		}
		facts.ids = append(facts.ids, root.ID)
	}
	slices.Sort(facts.ids)
	return facts, nil
}

// verifyChain checks that certificate, with the intermediates it carries, ends in
// roots, may be used on both sides of a connection and is valid at now.
func verifyChain(certificate *tls.Certificate, roots *x509.CertPool, now time.Time) error {
	intermediates := x509.NewCertPool()
	for _, raw := range certificate.Certificate[1:] {
		parsed, err := x509.ParseCertificate(raw)
		if err != nil {
			return fmt.Errorf("verify chain: intermediate: %w", err)
		}
		intermediates.AddCert(parsed)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		_, err := certificate.Leaf.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: intermediates, CurrentTime: now,
			KeyUsages: []x509.ExtKeyUsage{usage},
		})
		if err != nil {
			return fmt.Errorf("verify chain: %w", err)
		}
	}
	return nil
}

// judgeLeaf checks that a leaf says who it is expected to: service, in datacenter
// unless that is empty.
func judgeLeaf(leaf *x509.Certificate, service, datacenter string) (identity.ID, error) {
	id, err := identity.FromCertificate(leaf)
	if err != nil {
		return identity.ID{}, err
	}
	if id.Service() != service {
		return identity.ID{}, fmt.Errorf("the leaf is for service %s, want %s", id.Service(), service)
	}
	if datacenter != "" && id.Datacenter() != datacenter {
		return identity.ID{}, fmt.Errorf("the leaf is from datacenter %s, want %s", id.Datacenter(), datacenter)
	}
	return id, nil
}
