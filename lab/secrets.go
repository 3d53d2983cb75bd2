package lab

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/hashicorp/go-uuid"

	"sluice/datacenters"
	"sluice/lab/consulconfig"
)

// Names of the tokens that belong to people, not to a process.
const (
	// managementToken can do everything. It stays in the supervisor.
	managementToken = "management"
	// operatorToken is what the command line uses: intentions and reads.
	operatorToken = "operator"
	// replicationToken is what a secondary datacenter's servers copy with.
	replicationToken = "replication"
	// breakGlassToken is what denies in one datacenter by itself.
	breakGlassToken = "break-glass"
	// uiToken is what a person types into Consul's page: reads only.
	uiToken = "ui"
)

// secrets are what one lab must keep to itself. They are made once, at the first
// `up`, and live in the state folder until `down --purge`.
type secrets struct {
	// Gossip is Consul's symmetric gossip key, base64 of 32 bytes.
	Gossip string
	// Tokens are the ACL secrets by token name.
	Tokens map[string]string
	// NewAdmin says that the blog's administrator was made just now.
	NewAdmin bool
}

// loadSecrets reads the secrets of a lab, and makes those that are not there.
func loadSecrets(layout Layout, topology datacenters.Topology) (secrets, error) {
	s := secrets{Tokens: map[string]string{}}
	gossip, err := secretFile(layout.GossipKey(), func() (string, error) { return randomBase64(32) })
	if err != nil {
		return secrets{}, err
	}
	s.Gossip = gossip
	names := []string{managementToken, operatorToken, uiToken, replicationToken, breakGlassToken}
	for _, dc := range topology.Datacenters {
		for _, token := range consulconfig.Tokens(dc) {
			names = append(names, token.Name)
		}
	}
	for _, name := range names {
		if s.Tokens[name], err = secretFile(layout.TokenFile(name), uuid.GenerateUUID); err != nil {
			return secrets{}, err
		}
	}
	// 756 bytes of base64: within the 6 to 1,024 characters that mongod takes.
	if _, err := secretFile(layout.KeyFile(), func() (string, error) { return randomBase64(567) }); err != nil {
		return secrets{}, err
	}
	if _, err := secretFile(layout.AppPasswordFile(), func() (string, error) { return randomBase64(24) }); err != nil {
		return secrets{}, err
	}
	_, err = secretFile(layout.AdminPasswordFile(), func() (string, error) {
		s.NewAdmin = true
		return rand.Text(), nil
	})
	return s, err
}

// secretFile returns what the file holds, or fills it by generate.
func secretFile(path string, generate func() (string, error)) (string, error) {
	content, err := os.ReadFile(path)
	if err == nil && len(content) > 0 {
		return strings.TrimSpace(string(content)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read a secret: %w", err)
	}
	secret, err := generate()
	if err != nil {
		return "", fmt.Errorf("make a secret: %w", err)
	}
	return secret, writeSecret(path, []byte(secret))
}

func randomBase64(bytes int) (string, error) {
	buffer := make([]byte, bytes)
	if _, err := rand.Read(buffer); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(buffer), nil
}
