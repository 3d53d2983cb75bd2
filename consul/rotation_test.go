package consul

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"sluice/internal/consultest"
)

// rotateRoot makes Consul's CA change to a root with a new key.
func rotateRoot(t *testing.T, agent *consultest.Agent) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	private := string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	agent.Call(http.MethodPut, "/v1/connect/ca/configuration", map[string]any{
		"Provider": "consul", "Config": map[string]any{"PrivateKey": private, "LeafCertTTL": "72h", "IntermediateCertTTL": "8760h"},
	}, nil)
}

func TestARotationIsFollowedWhileTheOldRootIsStillTrusted(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	identity := open(t, agent, agent.ServiceFile("web")).Identity("web")
	running(t, identity.Run)
	if err := identity.Wait(within(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	old, err := identity.Credentials()
	if err != nil {
		t.Fatal(err)
	}
	before := identity.Provenance()
	if before.LeafIndex == 0 || before.RootsIndex == 0 || len(before.RootIDs) != 1 {
		t.Errorf("before: %+v; want both indexes, and one root", before)
	}
	changed := identity.Changed()
	rotateRoot(t, agent)
	// Consul's agent spreads renewals over 30 s.
	took := consultest.Await(t, 35*time.Second, "a leaf from the new root", func() error {
		now, err := identity.Credentials()
		if err != nil {
			return err
		}
		if now.Certificate.Leaf.Equal(old.Certificate.Leaf) {
			return errors.New("still the old leaf")
		}
		return identity.Ready()
	})
	t.Logf("rotated after %s", took)
	consultest.Await(t, 2*time.Second, "Changed tells it", closed(changed))
	now, err := identity.Credentials()
	if err != nil {
		t.Fatal(err)
	}
	if err := verifyChain(old.Certificate, now.Roots, time.Now()); err != nil {
		t.Errorf("the new roots do not trust the old leaf: %v", err)
	}
	// The SDK serves the new leaf a moment before our own watch has told of it.
	consultest.Await(t, 5*time.Second, "higher indexes, and both roots", func() error {
		if after := identity.Provenance(); after.LeafIndex <= before.LeafIndex || after.RootsIndex <= before.RootsIndex || len(after.RootIDs) != 2 {
			return fmt.Errorf("after: %+v, before: %+v", after, before)
		}
		return nil
	})
	newRoot := x509.NewCertPool()
	active, err := activeRoot(agent)
	if err != nil {
		t.Fatal(err)
	}
	newRoot.AppendCertsFromPEM(active)
	if err := verifyChain(now.Certificate, newRoot, time.Now()); err != nil {
		t.Errorf("the new leaf is not from the new root: %v", err)
	}
	if err := verifyChain(old.Certificate, newRoot, time.Now()); err == nil {
		t.Error("the old leaf is from the new root: nothing was rotated")
	}
	// A peer that has not seen the rotation yet trusts the old root only.
	if err := shakeHands(old, now); err != nil {
		t.Errorf("a handshake between a rotated client and a server that is not: %v", err)
	}
	if err := shakeHands(now, old); err != nil {
		t.Errorf("a handshake between a rotated server and a client that is not: %v", err)
	}
}

func activeRoot(agent *consultest.Agent) ([]byte, error) {
	var answer struct {
		Roots []struct {
			Active   bool
			RootCert string
		}
	}
	agent.Call(http.MethodGet, "/v1/connect/ca/roots", nil, &answer)
	for _, root := range answer.Roots {
		if root.Active {
			return []byte(root.RootCert), nil
		}
	}
	return nil, errors.New("no active root")
}
