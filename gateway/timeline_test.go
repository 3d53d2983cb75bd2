package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/gateway/proxy"
	"sluice/internal/consultest"
)

// tells waits until the timeline has an event after the number with a kind and a
// text, and returns it.
func tells(t *testing.T, admin string, after uint64, kind, text string) (found proxy.Event) {
	t.Helper()
	consultest.Await(t, time.Minute, fmt.Sprintf("the timeline tells %s %q", kind, text), func() error {
		_, body, err := get(admin + "/timeline")
		if err != nil {
			return err
		}
		var events []proxy.Event
		if err := json.Unmarshal([]byte(body), &events); err != nil {
			return err
		}
		for _, e := range events {
			if e.Number > after && e.Kind == kind && strings.Contains(e.Subject+" "+e.Text, text) {
				found = e
				return nil
			}
		}
		return fmt.Errorf("it is %s", body)
	})
	return found
}

// newest is the number of the last event.
func newest(t *testing.T, admin string) uint64 {
	t.Helper()
	_, body, err := get(admin + "/timeline")
	if err != nil {
		t.Fatal(err)
	}
	var events []proxy.Event
	if err := json.Unmarshal([]byte(body), &events); err != nil || len(events) == 0 {
		t.Fatalf("%v: %s", err, body)
	}
	return events[len(events)-1].Number
}

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
	agent.Call(http.MethodPut, "/v1/connect/ca/configuration", map[string]any{
		"Provider": "consul", "Config": map[string]any{
			"PrivateKey":  string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})),
			"LeafCertTTL": "72h", "IntermediateCertTTL": "8760h",
		},
	}, nil)
}

// mintFile writes a certificate that is signed by itself, and its key, into a file.
func mintFile(t *testing.T, path string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "minted"}, DNSNames: []string{"gateway.test"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})...)
	if err := errors.Join(os.WriteFile(path+".new", both, 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

func TestTheTimelineHasTheIndexOfEachChangeInARealConsul(t *testing.T) {
	agent := consultest.Start(t, consultest.Config{})
	intend(agent, "allow")
	startWeb(t, agent)
	a := &arena{Agent: agent, t: t}
	a.register(0)
	dir := t.TempDir()
	mintFile(t, filepath.Join(dir, "a.pem"), 1)
	clients := filepath.Join(t.TempDir(), "clients.pem")
	mintFile(t, clients, 2)
	passwords := filepath.Join(t.TempDir(), "staff")
	write := func(text string) {
		if err := errors.Join(os.WriteFile(passwords+".new", []byte(text), 0o600), os.Rename(passwords+".new", passwords)); err != nil {
			t.Fatal(err)
		}
	}
	write("# nobody yet\n")
	startProcess(t, "-auth", "name=staff;file="+passwords, "-listen", agent.Host+":9443;proto=https;certs="+dir+";clientca="+clients, "-node", agent.Node, "-address", agent.Host, "-loopback", agent.Host,
		"-consul", agent.Address, "-token-file", agent.PolicyFile(overrideRights))
	admin := "http://" + net.JoinHostPort(agent.Host, "9998")
	consultest.Await(t, 20*time.Second, "both instances serve", answers(admin+"/routes", 200, "web-1", "web-2"))

	tells(t, admin, 0, "route", "/web new: ") // it is written down after it serves
	began := newest(t, admin)
	for _, c := range []struct {
		kind, text string
		change     func()
	}{
		{"health", "is critical: by hand", func() {
			agent.Call(http.MethodPut, "/v1/agent/check/fail/web-2?note=by+hand", nil, nil)
		}},
		{"health", "healthy: it is picked from now on", func() { a.pass(0) }},
		{"health", "it is not in the catalog any more", func() { agent.Call(http.MethodPut, "/v1/agent/service/deregister/web-2", nil, nil) }},
		{"intention", "+ gateway -> web: deny", func() { intend(agent, "deny") }},
		{"override", "1 command holds", func() { writeOverride(t, agent, "fabio/config", "route del web /flap") }},
		{"tag", "quarantined on " + agent.Node + ": \"urlprefix-wrong\"", func() { a.register(1, "urlprefix-wrong") }},
		{"tag", "gone from quarantine on " + agent.Node + ": \"urlprefix-wrong\"", func() { a.register(1) }},
		{"root", "+ ", func() { rotateRoot(t, agent) }},
	} {
		last := newest(t, admin)
		c.change()
		e := tells(t, admin, last, c.kind, c.text)
		if e.Index == 0 || e.Effect <= 0 || e.Effect > time.Second || time.Since(e.At) > 10*time.Second {
			t.Errorf("%+v; want an index, and when it was applied", e)
		}
		t.Logf("%s %s: %s (index %d, in %v)", e.Kind, e.Subject, e.Text, e.Index, e.Effect.Round(time.Microsecond))
	}
	for kind, text := range map[string]string{"route": "- web-2", "leaf": "connections with the old one"} {
		if e := tells(t, admin, began, kind, text); e.Index == 0 {
			t.Errorf("%+v; want an index", e)
		}
	}
	mintFile(t, clients, 3)
	mintFile(t, filepath.Join(dir, "a.pem"), 4)
	write("ann:plain text\n")
	for kind, text := range map[string]string{
		"password": "scheme staff refused, those before stay: ",
		"clientca": ":9443 + CN=minted (serial 3); - CN=minted (serial 2)", "certificate": ":9443 + gateway.test (serial 4); - gateway.test (serial 1)",
	} {
		if e := tells(t, admin, began, kind, text); e.Effect <= 0 || e.Effect > time.Second {
			t.Errorf("%+v; want the time to its effect", e)
		}
	}
	if err := answers(admin+"/", 200, "trusted roots", "by hand", "newer passwords are not used: scheme staff: ")(); err != nil {
		t.Errorf("the page: %v", err)
	}
}
