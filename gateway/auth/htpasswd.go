package auth

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

const (
	// maxFile bounds a password file, in bytes.
	maxFile = 1 << 20
	// maxCost bounds the work of one hash. Each step doubles it; 14 is more than a
	// second on a small machine, and whoever knows a user's name could ask for it
	// again and again.
	maxCost = 14
	// maxPassword is as much of a password as bcrypt looks at, in bytes.
	maxPassword = 72
)

// passwords are the users of one file. They are immutable.
type passwords struct {
	hashes map[string][]byte
	// costliest is compared with the password of a user who does not exist, so that
	// the time of the answer does not tell who does.
	costliest []byte
	// sum tells one content of the file from another.
	sum [sha256.Size]byte
}

// parsePasswords reads the lines "user:hash" of a file that htpasswd -B has
// written. Blank lines and lines that begin with # are left out. An error names
// the line and never holds any of its content.
func parsePasswords(data []byte) (*passwords, error) {
	p := &passwords{hashes: map[string][]byte{}, sum: sha256.Sum256(data)}
	most, number := 0, 0
	for line := range bytes.Lines(data) {
		number++
		text := strings.TrimSpace(string(line))
		if text == "" || text[0] == '#' {
			continue
		}
		user, hash, found := strings.Cut(text, ":")
		if !found || user == "" {
			return nil, fmt.Errorf("line %d: want USER:HASH", number)
		}
		if p.hashes[user] != nil {
			return nil, fmt.Errorf("line %d: its user has a line above", number)
		}
		cost, err := costOf(hash)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		p.hashes[user] = []byte(hash)
		if cost > most {
			most, p.costliest = cost, []byte(hash)
		}
	}
	return p, nil
}

// costOf returns the cost of a bcrypt hash and refuses every other kind.
func costOf(hash string) (int, error) {
	for _, prefix := range []string{"$2y$", "$2a$", "$2b$"} {
		if !strings.HasPrefix(hash, prefix) {
			continue
		}
		cost, err := bcrypt.Cost([]byte(hash))
		if err != nil || len(hash) != 60 {
			return 0, errors.New("its bcrypt hash is damaged")
		}
		if cost > maxCost {
			return 0, fmt.Errorf("its bcrypt cost is %d, and the limit is %d", cost, maxCost)
		}
		return cost, nil
	}
	return 0, fmt.Errorf("its hash is %s; only bcrypt is taken: set the password again with htpasswd -B", kindOf(hash))
}

// kindOf names what else a password file may hold.
func kindOf(hash string) string {
	for _, kind := range []struct{ prefix, name string }{
		{"$apr1$", "MD5 (apr1)"},
		{"{SHA}", "SHA-1 without a salt"},
		{"{SSHA}", "SHA-1"},
		{"$1$", "MD5 (crypt)"},
		{"$5$", "SHA-256 (crypt)"},
		{"$6$", "SHA-512 (crypt)"},
	} {
		if strings.HasPrefix(hash, kind.prefix) {
			return kind.name
		}
	}
	return "of no known kind (DES, or plain text)"
}

// match compares a password with that of user, in a time that does not depend on
// whether there is such a user.
func (p *passwords) match(user, password string) bool {
	hash, known := p.hashes[user]
	if !known {
		hash = p.costliest
	}
	if hash == nil {
		return false
	}
	err := bcrypt.CompareHashAndPassword(hash, []byte(password))
	return err == nil && known
}
