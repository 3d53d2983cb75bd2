package mesh

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"sync"
	"time"
)

// maxVerified is how many chains are remembered. There is one for each instance, and
// one more for each leaf that an instance has renewed.
const maxVerified = 1024

// verified remembers the chains that have been verified, since the signatures of a
// chain, and what its certificates may be used for, are the same at each handshake: a
// tenth of what one costs. That the peer has the leaf's key is proven in each
// handshake, by TLS, and who the peer is, is judged each time. Chains are known by
// all of their bytes, for one set of roots and while every certificate on the way is
// valid; a chain that was refused is looked at again. The zero value is ready, and safe
// for concurrent use.
type verified struct {
	mu    sync.Mutex
	roots *x509.CertPool
	until map[[sha256.Size]byte]validity
}

// validity is when all certificates of a chain are valid.
type validity struct{ from, to time.Time }

func (v validity) at(now time.Time) bool { return !now.Before(v.from) && !now.After(v.to) }

// check is verifyChain for a server.
func (v *verified) check(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) error {
	key := fingerprint(chain)
	if v.knows(key, roots, now) {
		return nil
	}
	ways, err := verifyChain(chain, roots, now, x509.ExtKeyUsageServerAuth)
	if err != nil {
		return err
	}
	v.keep(key, roots, of(ways[0]))
	return nil
}

func (v *verified) knows(key [sha256.Size]byte, roots *x509.CertPool, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	valid, ok := v.until[key]
	return ok && v.roots == roots && valid.at(now)
}

func (v *verified) keep(key [sha256.Size]byte, roots *x509.CertPool, valid validity) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.until == nil || v.roots != roots || len(v.until) >= maxVerified {
		v.roots, v.until = roots, make(map[[sha256.Size]byte]validity)
	}
	v.until[key] = valid
}

// of is when every certificate of a way from a leaf to a root is valid.
func of(way []*x509.Certificate) validity {
	valid := validity{way[0].NotBefore, way[0].NotAfter}
	for _, certificate := range way[1:] {
		if certificate.NotBefore.After(valid.from) {
			valid.from = certificate.NotBefore
		}
		if certificate.NotAfter.Before(valid.to) {
			valid.to = certificate.NotAfter
		}
	}
	return valid
}

// fingerprint is of all bytes of a chain, and of where each certificate ends.
func fingerprint(chain []*x509.Certificate) [sha256.Size]byte {
	hash := sha256.New()
	var length [8]byte
	for _, certificate := range chain {
		binary.BigEndian.PutUint64(length[:], uint64(len(certificate.Raw)))
		_, _ = hash.Write(length[:])
		_, _ = hash.Write(certificate.Raw)
	}
	return [sha256.Size]byte(hash.Sum(nil))
}
