package certs

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// AuthorityName is the name under which Authority.Write and LoadAuthority keep
// the authority in a folder.
const AuthorityName = "ca"

// CertificateFile returns the path of the certificate called name in dir.
func CertificateFile(dir, name string) string { return filepath.Join(dir, name+".pem") }

// KeyFile returns the path of the private key called name in dir.
func KeyFile(dir, name string) string { return filepath.Join(dir, name+"-key.pem") }

// Write writes the authority's certificate and key into dir; see Pair.Write.
func (a *Authority) Write(dir string) error {
	return Pair{certificate: a.certificate, key: a.key}.Write(dir, AuthorityName)
}

// WriteCertificate writes the authority's certificate alone into dir, for a node
// that is to verify and not to sign.
func (a *Authority) WriteCertificate(dir string) error {
	if err := privateDir(dir); err != nil {
		return fmt.Errorf("write authority: %w", err)
	}
	if err := replace(CertificateFile(dir, AuthorityName), a.CertificatePEM()); err != nil {
		return fmt.Errorf("write authority: %w", err)
	}
	return nil
}

// LoadAuthority reads back what Authority.Write wrote.
func LoadAuthority(dir string) (*Authority, error) {
	pair, err := LoadPair(dir, AuthorityName)
	if err != nil {
		return nil, err
	}
	if !pair.certificate.IsCA {
		return nil, fmt.Errorf("read %s: the certificate may not sign others", CertificateFile(dir, AuthorityName))
	}
	return &Authority{certificate: pair.certificate, key: pair.key}, nil
}

// Write writes the pair as CertificateFile and KeyFile. The folder is made with
// mode 0700; one that others may enter is refused. Each file has mode 0600 and
// is replaced as a whole. The key goes first: after a crash in between, LoadPair
// fails instead of returning a mixture.
func (p Pair) Write(dir, name string) error {
	raw, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return fmt.Errorf("write certificate %q: %w", name, err)
	}
	if err := privateDir(dir); err != nil {
		return fmt.Errorf("write certificate %q: %w", name, err)
	}
	if err := replace(KeyFile(dir, name), encode("PRIVATE KEY", raw)); err != nil {
		return fmt.Errorf("write certificate %q: %w", name, err)
	}
	if err := replace(CertificateFile(dir, name), p.CertificatePEM()); err != nil {
		return fmt.Errorf("write certificate %q: %w", name, err)
	}
	return nil
}

// LoadPair reads back what Pair.Write wrote. It fails if the key does not belong
// to the certificate, or if others may read the key.
func LoadPair(dir, name string) (Pair, error) {
	raw, err := os.ReadFile(CertificateFile(dir, name))
	if err != nil {
		return Pair{}, fmt.Errorf("read certificate: %w", err)
	}
	chain, err := ParsePEM(raw)
	if err != nil {
		return Pair{}, fmt.Errorf("read certificate %s: %w", CertificateFile(dir, name), err)
	}
	key, err := loadKey(KeyFile(dir, name))
	if err != nil {
		return Pair{}, err
	}
	if !key.PublicKey.Equal(chain[0].PublicKey) {
		return Pair{}, fmt.Errorf("read certificate %s: the key in %s does not belong to it", CertificateFile(dir, name), KeyFile(dir, name))
	}
	return Pair{certificate: chain[0], key: key}, nil
}

// ParsePEM returns the certificates of a PEM text, in its order; at least one.
func ParsePEM(text []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("found a %q where certificates are expected", block.Type)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		chain = append(chain, certificate)
	}
	if len(chain) == 0 {
		return nil, errors.New("found no certificate in PEM form")
	}
	return chain, nil
}

func loadKey(path string) (*ecdsa.PrivateKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("read key %s: others may read it; make it anew, or run: chmod 600 %s", path, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("read key %s: no private key in PEM form", path)
	}
	// The parser's own error could quote the content, so it is not passed on.
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read key %s: not a PKCS #8 private key", path)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read key %s: not an ECDSA key", path)
	}
	return key, nil
}

// privateDir makes dir with mode 0700, or checks that it is closed to others.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("folder %s is open to others; run: chmod 700 %s", dir, dir)
	}
	return nil
}

// replace puts content at path in one step: a reader sees the old file or the
// new one, never a part.
func replace(path string, content []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close(), os.Remove(file.Name()))
		}
	}()
	if _, err = file.Write(content); err != nil {
		return err
	}
	if err = file.Sync(); err != nil {
		return err
	}
	if err = os.Rename(file.Name(), path); err != nil {
		return err
	}
	return file.Close()
}
