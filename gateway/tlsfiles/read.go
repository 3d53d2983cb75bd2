package tlsfiles

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sluice/gateway/files"
)

const (
	// maxFile bounds one file, in bytes; maxFiles bounds a folder.
	maxFile  = 1 << 20
	maxFiles = 4096
)

// Pair are the files of one certificate, PEM: the chain, leaf first, and its key.
type Pair struct {
	Cert string
	// Key is "" where Cert holds the key too.
	Key string
}

// pairsOf returns the pairs of a folder by the names of its files, in
// alphabetical order: NAME-cert.pem with NAME-key.pem, NAME.crt with NAME.key, or
// any other NAME.pem, which holds both. Names that begin with a dot, and other
// endings, are left out.
func pairsOf(names []string) ([]Pair, error) {
	slices.Sort(names)
	var pairs []Pair
	var missing []error
	for _, name := range names {
		if strings.HasPrefix(name, ".") {
			continue
		}
		other := ""
		for _, ends := range [][2]string{{"-cert.pem", "-key.pem"}, {".crt", ".key"}} {
			for i, end := range ends {
				if base, found := strings.CutSuffix(name, end); found {
					other = base + ends[1-i]
				}
			}
		}
		switch {
		case other != "" && !slices.Contains(names, other):
			missing = append(missing, fmt.Errorf("%s has no %s", name, other))
		case other != "" && (strings.HasSuffix(name, "-cert.pem") || strings.HasSuffix(name, ".crt")):
			pairs = append(pairs, Pair{Cert: name, Key: other})
		case other == "" && strings.HasSuffix(name, ".pem"):
			pairs = append(pairs, Pair{Cert: name})
		}
	}
	return pairs, errors.Join(missing...)
}

// content is what was read at one moment.
type content struct {
	pairs []Pair
	// certs and keys are parallel to pairs.
	certs, keys [][]byte
	sum         [sha256.Size]byte
}

// read reads all files of a configuration. The sum covers what was read until the
// error, so that the same trouble is known again.
func (cfg Config) read() (content, error) {
	c := content{pairs: slices.Clone(cfg.Files)}
	digest := sha256.New()
	err := c.fill(cfg.Dir, digest)
	if err != nil {
		_, _ = io.WriteString(digest, err.Error())
	}
	digest.Sum(c.sum[:0])
	return c, err
}

func (c *content) fill(dir string, digest hash.Hash) error {
	if dir != "" {
		found, err := list(dir)
		if err != nil {
			return err
		}
		c.pairs = append(c.pairs, found...)
	}
	for _, pair := range c.pairs {
		cert, err := files.Read(pair.Cert, maxFile)
		if err != nil {
			return err
		}
		key := cert
		if pair.Key != "" {
			if key, err = files.Read(pair.Key, maxFile); err != nil {
				return err
			}
		}
		c.certs, c.keys = append(c.certs, cert), append(c.keys, key)
		for _, part := range [][]byte{[]byte(pair.Cert), cert, key} {
			_, _ = fmt.Fprintf(digest, "%d:", len(part))
			_, _ = digest.Write(part)
		}
	}
	return nil
}

// list returns the pairs of a folder with their paths.
func list(dir string) ([]Pair, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if !entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	if len(names) > maxFiles {
		return nil, fmt.Errorf("%s holds more than %d files", dir, maxFiles)
	}
	pairs, err := pairsOf(names)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	for i := range pairs {
		pairs[i].Cert = filepath.Join(dir, pairs[i].Cert)
		if pairs[i].Key != "" {
			pairs[i].Key = filepath.Join(dir, pairs[i].Key)
		}
	}
	return pairs, nil
}

// parse turns what was read into certificates. An error names the file and holds
// nothing of its content.
func (c content) parse() (*set, error) {
	s := &set{byName: map[string][]*tls.Certificate{}}
	for i, pair := range c.pairs {
		certificate, err := tls.X509KeyPair(c.certs[i], c.keys[i])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", pair.Cert, err)
		}
		s.add(pair, &certificate)
	}
	if len(s.infos) == 0 {
		return nil, errors.New("there is no certificate")
	}
	return s, nil
}
