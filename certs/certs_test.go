package certs

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAServersCertificateHoldsTheNamesThatAgentsVerify(t *testing.T) {
	now := time.Now()
	authority := newAuthority(t, now)
	subject := Subject{Node: "consul-1", Datacenter: "dc1", Addresses: []netip.Addr{netip.MustParseAddr("198.18.1.2")}}
	server, err := authority.IssueServer(subject, now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	client, err := authority.IssueClient(subject, now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"server.dc1.consul", "consul-1", "localhost", "127.0.0.1", "198.18.1.2"} {
		if err := server.Certificate().VerifyHostname(name); err != nil {
			t.Errorf("server: %v", err)
		}
	}
	if err := server.Certificate().VerifyHostname("server.dc2.consul"); err == nil {
		t.Error("a server of dc1 may pose as a server of dc2")
	}
	if err := client.Certificate().VerifyHostname("server.dc1.consul"); err == nil {
		t.Error("a client may pose as a server")
	}
	for usage, want := range map[x509.ExtKeyUsage]bool{x509.ExtKeyUsageClientAuth: true, x509.ExtKeyUsageServerAuth: false} {
		options := x509.VerifyOptions{Roots: authority.Pool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}}
		if _, err := server.Certificate().Verify(options); err != nil {
			t.Errorf("server for usage %v: %v", usage, err)
		}
		if _, err := client.Certificate().Verify(options); (err == nil) != want {
			t.Errorf("client for usage %v: %v", usage, err)
		}
	}
	if server.Certificate().IsCA || !authority.Certificate().IsCA {
		t.Error("a server may sign, or the authority may not")
	}
}

func TestNoCertificateOutlivesItsAuthority(t *testing.T) {
	now := time.Now()
	authority := newAuthority(t, now)
	subject := Subject{Node: "n", Datacenter: "dc1"}
	for _, c := range []struct {
		name     string
		subject  Subject
		now      time.Time
		lifetime time.Duration
	}{
		{"too long", subject, now, 25 * time.Hour},
		{"too early", subject, now.Add(-time.Hour), time.Minute},
		{"too late", subject, now.Add(25 * time.Hour), time.Minute},
		{"no lifetime", subject, now, 0},
		{"no node", Subject{Datacenter: "dc1"}, now, time.Hour},
		{"no datacenter", Subject{Node: "n"}, now, time.Hour},
		{"empty address", Subject{Node: "n", Datacenter: "dc1", Addresses: []netip.Addr{{}}}, now, time.Hour},
	} {
		if _, err := authority.IssueServer(c.subject, c.now, c.lifetime); err == nil {
			t.Errorf("%s: issued", c.name)
		}
	}
	if _, err := NewAuthority("", now, time.Hour); err == nil {
		t.Error("made an authority without a name")
	}
	if _, err := NewAuthority("x", now, 0); err == nil {
		t.Error("made an authority without a lifetime")
	}
}

func TestWhatIsWrittenIsPrivateAndReadsBack(t *testing.T) {
	now := time.Now()
	dir := filepath.Join(t.TempDir(), "tls")
	authority := newAuthority(t, now)
	pair := newPair(t, authority, now)
	if err := errors.Join(authority.Write(dir), pair.Write(dir, "consul-1"), pair.Write(dir, "consul-1")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", info.Mode(), err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		names = append(names, file.Name())
		if info, err := file.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file.Name(), info.Mode(), err)
		}
	}
	if want := []string{"ca-key.pem", "ca.pem", "consul-1-key.pem", "consul-1.pem"}; !slices.Equal(names, want) {
		t.Errorf("files are %q, want %q", names, want)
	}
	loaded, err := LoadAuthority(dir)
	if err != nil || !loaded.Certificate().Equal(authority.Certificate()) {
		t.Fatalf("authority reads back as %v, %v", loaded, err)
	}
	if again, err := LoadPair(dir, "consul-1"); err != nil || !again.Certificate().Equal(pair.Certificate()) {
		t.Errorf("pair reads back as %v, %v", again, err)
	}
	if _, err := tls.LoadX509KeyPair(CertificateFile(dir, "consul-1"), KeyFile(dir, "consul-1")); err != nil {
		t.Errorf("crypto/tls: %v", err)
	}
	if other := newPair(t, loaded, now); Judge([]*x509.Certificate{other.Certificate()}, authority.Pool(), now).State != OK {
		t.Error("the authority that was read back signs differently")
	}
	node := filepath.Join(t.TempDir(), "node")
	if err := authority.WriteCertificate(node); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(KeyFile(node, AuthorityName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a node got the authority's key: %v", err)
	}
}

func TestFilesThatAreNotInOrderAreRefusedWithoutShowingKeys(t *testing.T) {
	now := time.Now()
	authority := newAuthority(t, now)
	pair := newPair(t, authority, now)
	cases := []struct {
		name  string
		spoil func(dir string) error
		want  string
	}{
		{"no certificate", func(dir string) error { return os.Remove(CertificateFile(dir, "n")) }, "no such file"},
		{"no key", func(dir string) error { return os.Remove(KeyFile(dir, "n")) }, "no such file"},
		{"readable key", func(dir string) error { return os.Chmod(KeyFile(dir, "n"), 0o644) }, "others may read it"},
		{"not a key", func(dir string) error { return os.WriteFile(KeyFile(dir, "n"), []byte("secret"), 0o600) }, "no private key"},
		{"broken key", func(dir string) error {
			return os.WriteFile(KeyFile(dir, "n"), encode("PRIVATE KEY", []byte("secret")), 0o600)
		}, "not a PKCS #8"},
		{"key in place of the certificate", func(dir string) error { return os.Rename(KeyFile(dir, "n"), CertificateFile(dir, "n")) }, `found a "PRIVATE KEY"`},
		{"empty certificate", func(dir string) error { return os.Truncate(CertificateFile(dir, "n"), 0) }, "found no certificate"},
		{"certificate of another", func(dir string) error {
			return os.WriteFile(CertificateFile(dir, "n"), newPair(t, authority, now).CertificatePEM(), 0o600)
		}, "does not belong"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "tls")
			if err := errors.Join(pair.Write(dir, "n"), c.spoil(dir)); err != nil {
				t.Fatal(err)
			}
			_, err := LoadPair(dir, "n")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
	if _, err := LoadAuthority(write(t, pair)); err == nil || !strings.Contains(err.Error(), "may not sign") {
		t.Errorf("a leaf was taken as an authority: %v", err)
	}
	open := t.TempDir()
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := pair.Write(open, "n"); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("wrote a key into an open folder: %v", err)
	}
	secret, err := pair.key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%v %+v %#v %s", pair, pair, pair, pair)
	if strings.Contains(text, "ecdsa") || strings.Contains(text, fmt.Sprintf("%x", secret)) || strings.Contains(text, new(big.Int).SetBytes(secret).String()) {
		t.Errorf("formatting shows the key: %s", text)
	}
}

func TestACertificateIsJudgedByTimeAndChain(t *testing.T) {
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	authority := newAuthority(t, start)
	pair := newPair(t, authority, start) // valid for 1 h and the minute before
	stranger := newAuthority(t, start)
	roots, intermediate, leaf := withIntermediate(t, start)
	cases := []struct {
		name  string
		chain []*x509.Certificate
		roots *x509.CertPool
		now   time.Time
		want  State
		words string
	}{
		{"fresh", list(pair), authority.Pool(), start, OK, "for 1h 0m"},
		{"before the last tenth", list(pair), authority.Pool(), start.Add(53 * time.Minute), OK, "for 7m 0s"},
		{"in the last tenth", list(pair), authority.Pool(), start.Add(54 * time.Minute), ExpiresSoon, "in 6m 0s: less than 10 %"},
		{"at its last second", list(pair), authority.Pool(), start.Add(time.Hour), ExpiresSoon, "in 0s"},
		{"past it", list(pair), authority.Pool(), start.Add(time.Hour + time.Second), Expired, "1s ago"},
		{"before its time", list(pair), authority.Pool(), start.Add(-2 * time.Minute), NotYetValid, "is a clock wrong?"},
		{"other roots", list(pair), stranger.Pool(), start, ChainBroken, `signed by "lab", which leads to no root`},
		{"no roots", list(pair), nil, start, ChainBroken, "there are no roots"},
		{"empty roots", list(pair), x509.NewCertPool(), start, ChainBroken, "leads to no root"},
		{"nothing", nil, authority.Pool(), start, ChainBroken, "no certificate"},
		{"with its intermediate", []*x509.Certificate{leaf, intermediate}, roots, start, OK, ""},
		{"without its intermediate", []*x509.Certificate{leaf}, roots, start, ChainBroken, `signed by "intermediate"`},
		{"expired intermediate", []*x509.Certificate{leaf, intermediate}, roots, start.Add(25 * time.Hour), ChainBroken, `"intermediate", which it hangs on, is valid from`},
		{"the root itself", []*x509.Certificate{authority.Certificate()}, authority.Pool(), start, OK, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			verdict := Judge(c.chain, c.roots, c.now)
			if verdict.State != c.want || !strings.Contains(verdict.Words, c.words) {
				t.Errorf("got %+v, want %s with %q", verdict, c.want, c.words)
			}
			if verdict.Usable() != (c.want == OK || c.want == ExpiresSoon) {
				t.Errorf("%s is usable: %v", verdict.State, verdict.Usable())
			}
		})
	}
}

func TestARowShowsTheIdentityTheSerialAndTheTimeLeft(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	uri, err := url.Parse("spiffe://11111111-2222-3333-4444-555555555555.consul/ns/default/dc/dc1/svc/web")
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(0x0a1b2c), NotAfter: now.Add(71*time.Hour + 30*time.Minute), URIs: []*url.URL{uri}}
	row := Describe(leaf, now)
	if want := []string{uri.String(), "0a:1b:2c", "2030-01-03 23:30:00Z", "2d 23h"}; !slices.Equal(row.Columns(), want) {
		t.Errorf("got %q, want %q", row.Columns(), want)
	}
	if row.ID.Service() != "web" {
		t.Errorf("identity is %v", row.ID)
	}
	if got := Describe(leaf, now.Add(100*time.Hour)).Columns()[3]; got != "expired 28h 30m ago" {
		t.Errorf("past its end: %q", got)
	}
	agent := newPair(t, newAuthority(t, now), now).Certificate()
	if row := Describe(agent, now); row.Name != "consul-1.server.dc1.consul" || !row.ID.IsZero() {
		t.Errorf("an agent's certificate: %+v", row)
	}
	if text, err := json.Marshal(Describe(agent, now)); err != nil || strings.Contains(string(text), `"id"`) {
		t.Errorf("as JSON: %s, %v", text, err)
	}
	if Serial(&x509.Certificate{}) != "" {
		t.Error("a certificate without a serial has one")
	}
}

func newAuthority(t *testing.T, now time.Time) *Authority {
	t.Helper()
	authority, err := NewAuthority("lab", now, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

func newPair(t *testing.T, authority *Authority, now time.Time) Pair {
	t.Helper()
	pair, err := authority.IssueServer(Subject{Node: "consul-1", Datacenter: "dc1"}, now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// withIntermediate returns a root, an intermediate that is valid for 24 h from
// start, and a leaf that the intermediate signed, which is valid for 48 h: the
// shape of a chain in a secondary datacenter.
func withIntermediate(t *testing.T, start time.Time) (roots *x509.CertPool, intermediate, leaf *x509.Certificate) {
	t.Helper()
	sign := func(name string, parent *Authority, lifetime time.Duration) *Authority {
		pair, err := issue(&x509.Certificate{
			Subject: pkix.Name{CommonName: name}, NotBefore: start.Add(-Backdate), NotAfter: start.Add(lifetime),
			IsCA: name != "leaf", BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}, parent)
		if err != nil {
			t.Fatal(err)
		}
		return &Authority{certificate: pair.certificate, key: pair.key}
	}
	root := sign("root", nil, 1000*time.Hour)
	middle := sign("intermediate", root, 24*time.Hour)
	return root.Pool(), middle.certificate, sign("leaf", middle, 48*time.Hour).certificate
}

func list(pair Pair) []*x509.Certificate { return []*x509.Certificate{pair.Certificate()} }

// write writes pair as if it were an authority and returns the folder.
func write(t *testing.T, pair Pair) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tls")
	if err := pair.Write(dir, AuthorityName); err != nil {
		t.Fatal(err)
	}
	return dir
}
