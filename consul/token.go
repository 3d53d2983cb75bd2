package consul

import (
	"fmt"
	"strings"

	"sluice/internal/secret"
)

// readToken reads an ACL token from a file, by the rule of every secret. A token goes
// into a header of HTTP, so it is of printable ASCII without a blank. The error never
// holds the content.
func readToken(path string) (string, error) {
	token, err := secret.Read(path)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("token file %s: it does not hold one token: want printable ASCII without blanks", path)
	}
	return token, nil
}
