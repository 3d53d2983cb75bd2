package mesh

import (
	"crypto/x509"
	"testing"
	"time"

	"sluice/internal/testca"
)

// chainOf mints a leaf, with what leads to the root.
func chainOf(tb testing.TB, ca *testca.CA, leaf testca.Leaf) []*x509.Certificate {
	tb.Helper()
	var chain []*x509.Certificate
	for _, der := range ca.Leaf(tb, leaf).Certificate {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			tb.Fatal(err)
		}
		chain = append(chain, certificate)
	}
	return chain
}

const testDomain = "11111111-2222-3333-4444-555555555555.consul"

// TestARememberedChainIsJudgedLikeANewOne: whatever was verified before, the verdict is
// that of verifyChain.
func TestARememberedChainIsJudgedLikeANewOne(t *testing.T) {
	now := time.Now()
	ca := testca.NewRoot(t, testDomain).Intermediate(t, "dc1")
	other := testca.NewRoot(t, testDomain)
	roots, others := testca.Pool(ca), testca.Pool(other)
	good := chainOf(t, ca, testca.Leaf{Datacenter: "dc1", Service: "web"})
	forged := *good[0]
	forged.Raw = append([]byte(nil), forged.Raw...)
	forged.Raw[len(forged.Raw)-1] ^= 1
	forged.Signature = append([]byte(nil), forged.Signature...)
	forged.Signature[len(forged.Signature)-1] ^= 1
	for _, c := range []struct {
		name  string
		chain []*x509.Certificate
		roots *x509.CertPool
		now   time.Time
	}{
		{"the same again", good, roots, now},
		{"other roots", good, others, now},
		{"no roots", good, nil, now},
		{"the first roots again", good, roots, now},
		{"after its end", good, roots, good[0].NotAfter.Add(time.Second)},
		{"before its beginning", good, roots, good[0].NotBefore.Add(-time.Second)},
		{"a leaf that nobody has signed", append([]*x509.Certificate{&forged}, good[1:]...), roots, now},
		{"without its intermediate", good[:1], roots, now},
		{"another leaf of the same signer", chainOf(t, ca, testca.Leaf{Datacenter: "dc1", Service: "api"}), roots, now},
		{"a leaf for clients alone", chainOf(t, ca, testca.Leaf{Datacenter: "dc1", Service: "web", ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}), roots, now},
		{"a leaf of others", chainOf(t, other, testca.Leaf{Datacenter: "dc1", Service: "web"}), roots, now},
		{"nothing", nil, roots, now},
	} {
		t.Run(c.name, func(t *testing.T) {
			var v verified
			if err := v.check(good, roots, now); err != nil {
				t.Fatal(err)
			}
			_, want := verifyChain(c.chain, c.roots, c.now, x509.ExtKeyUsageServerAuth)
			for range 2 {
				if got := v.check(c.chain, c.roots, c.now); (got == nil) != (want == nil) {
					t.Errorf("judged %v, want %v", got, want)
				}
			}
		})
	}
}

func TestWhatIsRememberedEndsWithTheFirstCertificateOfTheChainThatDoes(t *testing.T) {
	ca := testca.NewRoot(t, testDomain).Intermediate(t, "dc1")
	now := time.Now()
	// The leaf would outlive who has signed it.
	chain := chainOf(t, ca, testca.Leaf{Datacenter: "dc1", Service: "web", NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(50, 0, 0)})
	var v verified
	if err := v.check(chain, testca.Pool(ca), now); err != nil {
		t.Fatal(err)
	}
	if len(v.until) != 1 {
		t.Fatalf("%d chains are remembered, want 1", len(v.until))
	}
	for _, valid := range v.until {
		for _, certificate := range append(chain, ca.Root().Certificate) {
			if valid.from.Before(certificate.NotBefore) || valid.to.After(certificate.NotAfter) {
				t.Errorf("remembered from %v to %v, though a certificate is valid from %v to %v", valid.from, valid.to, certificate.NotBefore, certificate.NotAfter)
			}
		}
	}
}

func TestNoMoreChainsAreRememberedThanTheBound(t *testing.T) {
	roots := x509.NewCertPool()
	var v verified
	for i := range 3 * maxVerified {
		var key [32]byte
		key[0], key[1] = byte(i), byte(i>>8)
		v.keep(key, roots, validity{})
		if len(v.until) > maxVerified {
			t.Fatalf("%d chains are remembered, want at most %d", len(v.until), maxVerified)
		}
	}
}

// BenchmarkVerify is a server's chain of a leaf and an intermediate, seen before and not.
func BenchmarkVerify(b *testing.B) {
	ca := testca.NewRoot(b, testDomain).Intermediate(b, "dc1")
	roots := testca.Pool(ca)
	chain := chainOf(b, ca, testca.Leaf{Datacenter: "dc1", Service: "web"})
	now := time.Now()
	var v verified
	b.Run("remembered", func(b *testing.B) {
		for b.Loop() {
			if err := v.check(chain, roots, now); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("anew", func(b *testing.B) {
		for b.Loop() {
			if _, err := verifyChain(chain, roots, now, x509.ExtKeyUsageServerAuth); err != nil {
				b.Fatal(err)
			}
		}
	})
}
