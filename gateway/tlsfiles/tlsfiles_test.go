package tlsfiles_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/gateway/tlsfiles"
)

// mint returns a certificate for names and its key, PEM. Its serial number tells
// it from others.
func mint(t testing.TB, serial int64, notAfter time.Time, names ...string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return mintWith(t, private, serial, notAfter, names...)
}

func mintWith(t testing.TB, private crypto.Signer, serial int64, notAfter time.Time, names ...string) (cert, key string) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: names, NotAfter: notAfter,
		NotBefore: time.Now().Add(-time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func tomorrow() time.Time { return time.Now().Add(24 * time.Hour) }

// write fills a folder; the content "" removes the file.
func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		err := os.Remove(path)
		if content != "" {
			err = os.WriteFile(path, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// served shakes hands and returns the serial of the certificate that a client
// gets, and the protocol that was agreed; 0 if it gets none.
func served(config *tls.Config, client *tls.Config) (serial int64, protocol string, err error) {
	near, far := net.Pipe()
	defer near.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		_ = tls.Server(far, config).Handshake()
	}()
	client.InsecureSkipVerify = true
	session := tls.Client(near, client)
	err = session.Handshake()
	state := session.ConnectionState()
	if err == nil {
		serial = state.PeerCertificates[0].SerialNumber.Int64()
	}
	_ = near.Close()
	<-done
	return serial, state.NegotiatedProtocol, err
}

func TestServerNameChoosesTheCertificate(t *testing.T) {
	dir := t.TempDir()
	single := func(serial int64, names ...string) string {
		cert, key := mint(t, serial, tomorrow(), names...)
		return cert + key
	}
	cert4, key4 := mint(t, 4, tomorrow(), "d.example")
	cert5, key5 := mint(t, 5, tomorrow(), "e.example")
	write(t, dir, map[string]string{
		"a.pem": single(1, "a.example", "WWW.a.example"), "b.pem": single(2, "*.b.example"), "c.pem": single(3, "x.b.example"),
		"d-cert.pem": cert4, "d-key.pem": key4, "e.crt": cert5, "e.key": key5,
		".hidden.pem": "x", "README": "x",
	})
	if err := os.Mkdir(filepath.Join(dir, "folder.pem"), 0o700); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name            string
		lenient, strict int64
	}{
		{"a.example", 1, 1},
		{"A.Example", 1, 1},
		{"www.a.example", 1, 1},
		{"y.b.example", 2, 2},
		{"x.b.example", 3, 3},
		{"d.example", 4, 4},
		{"e.example", 5, 5},
		{"b.example", 1, 0},
		{"z.y.b.example", 1, 0},
		{"other.example", 1, 0},
		{"*.b.example", 2, 2},
		{"", 1, 0},
	}
	for _, strict := range []bool{false, true} {
		store, err := tlsfiles.Open(tlsfiles.Config{Dir: dir, Strict: strict})
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range tests {
			want := test.lenient
			if strict {
				want = test.strict
			}
			serial, protocol, err := served(store.TLSConfig(), &tls.Config{ServerName: test.name, NextProtos: []string{"http/1.1", "h2"}})
			if serial != want {
				t.Errorf("strict %t, %q: got %d, %v, want %d", strict, test.name, serial, err, want)
			}
			if want == 0 && (err == nil || !strings.Contains(err.Error(), "unrecognized name")) {
				t.Errorf("%q: the client learns %v", test.name, err)
			}
			if want != 0 && protocol != "h2" {
				t.Errorf("%q: protocol %q", test.name, protocol)
			}
		}
	}
}

func TestClientWithoutTLS12IsRefused(t *testing.T) {
	dir := t.TempDir()
	cert, key := mint(t, 1, tomorrow(), "a.example")
	write(t, dir, map[string]string{"a.pem": cert + key})
	store, err := tlsfiles.Open(tlsfiles.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if serial, _, err := served(store.TLSConfig(), &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); serial != 0 {
		t.Errorf("TLS 1.1: got %d, %v", serial, err)
	}
	if serial, _, err := served(store.TLSConfig(), &tls.Config{MaxVersion: tls.VersionTLS12}); serial != 1 {
		t.Errorf("TLS 1.2: got %d, %v", serial, err)
	}
}

func TestOfSeveralForANameTheClientGetsOneThatItCanUse(t *testing.T) {
	dir := t.TempDir()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	expired, expiredKey := mint(t, 1, time.Now().Add(-time.Minute), "a.example")
	modern, modernKey := mint(t, 2, tomorrow(), "a.example")
	old, oldKey := mintWith(t, rsaKey, 3, tomorrow(), "a.example")
	write(t, dir, map[string]string{"1.pem": expired + expiredKey, "2.pem": modern + modernKey, "3.pem": old + oldKey})
	store, err := tlsfiles.Open(tlsfiles.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if serial, _, err := served(store.TLSConfig(), &tls.Config{ServerName: "a.example"}); serial != 2 {
		t.Errorf("a client of today got %d, %v", serial, err)
	}
	onlyRSA := &tls.Config{ServerName: "a.example", MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}
	if serial, _, err := served(store.TLSConfig(), onlyRSA); serial != 3 {
		t.Errorf("a client that knows RSA alone got %d, %v", serial, err)
	}
	if got := store.Earliest(); !got.Before(time.Now()) {
		t.Errorf("the earliest expiry is %s", got)
	}
}

func TestChangeIsServedAndABadOneIsNot(t *testing.T) {
	dir, log := t.TempDir(), &bytes.Buffer{}
	cert1, key1 := mint(t, 1, tomorrow(), "a.example")
	cert2, key2 := mint(t, 2, tomorrow(), "a.example")
	cert3, key3 := mint(t, 3, tomorrow(), "0.example")
	write(t, dir, map[string]string{"a-cert.pem": cert1, "a-key.pem": key1})
	var told []string
	store, err := tlsfiles.Open(tlsfiles.Config{
		Dir: dir, Tell: func(c tlsfiles.Change) { told = append(told, words(c)) }, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	config := store.TLSConfig()
	steps := []struct {
		name    string
		files   map[string]string
		want    int64
		problem string
	}{
		{"new certificate, old key", map[string]string{"a-cert.pem": cert2}, 1, "does not match"},
		{"new key too", map[string]string{"a-key.pem": key2}, 2, ""},
		{"cut off", map[string]string{"a-cert.pem": cert2[:100]}, 2, "a-cert.pem"},
		{"key gone", map[string]string{"a-cert.pem": cert2, "a-key.pem": ""}, 2, "a-cert.pem has no a-key.pem"},
		{"all gone", map[string]string{"a-cert.pem": ""}, 2, "no certificate"},
		{"back", map[string]string{"a-cert.pem": cert1, "a-key.pem": key1}, 1, ""},
		{"another comes first", map[string]string{"0.pem": cert3 + key3}, 3, ""},
		{"and goes", map[string]string{"0.pem": ""}, 1, ""},
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- store.Run(ctx) }()
		for _, step := range steps {
			write(t, dir, step.files)
			time.Sleep(2 * tlsfiles.DefaultInterval) // virtual
			synctest.Wait()
			if serial, _, err := served(config, &tls.Config{Time: tomorrow}); serial != step.want {
				t.Errorf("%s: got %d, %v, want %d", step.name, serial, err, step.want)
			}
			problem := store.Problem()
			if (problem != nil) != (step.problem != "") || problem != nil && !strings.Contains(problem.Error(), step.problem) {
				t.Errorf("%s: problem %v, want %q", step.name, problem, step.problem)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	want := []string{
		"does not match", "+a.example (serial 2) -a.example (serial 1)", "a-cert.pem", "has no a-key.pem", "no certificate",
		"+a.example (serial 1) -a.example (serial 2)", "+0.example (serial 3) -", "+ -0.example (serial 3)",
	}
	if !slices.EqualFunc(told, want, strings.Contains) {
		t.Errorf("told were %q, want %q", told, want)
	}
	if n := strings.Count(log.String(), "refused"); n != 4 {
		t.Errorf("four problems were told %d times:\n%s", n, log)
	}
	if strings.Contains(log.String(), "PRIVATE") {
		t.Error("the log holds a key")
	}
}

func TestStartWithoutAUsableCertificateFails(t *testing.T) {
	cert, key := mint(t, 1, tomorrow(), "a.example")
	tests := []struct {
		name, want string
		files      map[string]string
	}{
		{"empty folder", "no certificate", nil},
		{"key alone", "a-key.pem has no a-cert.pem", map[string]string{"a-key.pem": key}},
		{"no key inside", "a.pem", map[string]string{"a.pem": cert}},
		{"two troubles", "a.crt has no a.key\nb.crt has no b.key", map[string]string{"a.crt": cert, "b.crt": cert}},
		{"too large", "larger than", map[string]string{"a.pem": strings.Repeat("x", 1<<20+1)}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, test.files)
			if _, err := tlsfiles.Open(tlsfiles.Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	if _, err := tlsfiles.Open(tlsfiles.Config{Dir: "does/not/exist"}); err == nil {
		t.Error("a folder that does not exist was taken")
	}
	if _, err := tlsfiles.Open(tlsfiles.Config{Files: []tlsfiles.Pair{{Cert: "does/not/exist"}}}); err == nil {
		t.Error("a file that does not exist was taken")
	}
}

func TestCertificatesSaysWhatIsServed(t *testing.T) {
	dir := t.TempDir()
	cert1, key1 := mint(t, 26, tomorrow(), "B.example", "b.example")
	cert2, key2 := mint(t, 27, tomorrow(), "a.example")
	write(t, dir, map[string]string{"a.pem": cert2 + key2, "own.crt.x": cert1, "own.key.x": key1})
	single := tlsfiles.Pair{Cert: filepath.Join(dir, "own.crt.x"), Key: filepath.Join(dir, "own.key.x")}
	store, err := tlsfiles.Open(tlsfiles.Config{Dir: dir, Files: []tlsfiles.Pair{single}})
	if err != nil {
		t.Fatal(err)
	}
	infos := store.Certificates()
	if len(infos) != 2 || infos[0].Serial != "1a" || strings.Join(infos[0].Names, " ") != "b.example" || infos[0].File != single.Cert {
		t.Errorf("got %+v", infos)
	}
	if until := time.Until(store.Earliest()); until < 23*time.Hour || until > 24*time.Hour {
		t.Errorf("the first expires in %s", until)
	}
}
