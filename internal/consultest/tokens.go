package consultest

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
)

// ManagementFile returns a token file with every right.
func (a *Agent) ManagementFile() string {
	a.t.Helper()
	return a.tokenFile("management", a.management)
}

// ServiceFile returns a token file with the service identities named, and no more
// than those give: write on itself, read on every service and node.
func (a *Agent) ServiceFile(services ...string) string {
	a.t.Helper()
	return a.tokenFile("service", a.ServiceToken(services...))
}

// ServiceToken returns a token as ServiceFile does.
func (a *Agent) ServiceToken(services ...string) string {
	a.t.Helper()
	type identity struct{ ServiceName string }
	identities := make([]identity, 0, len(services))
	for _, service := range services {
		identities = append(identities, identity{service})
	}
	return a.token(map[string]any{"ServiceIdentities": identities})
}

// PolicyFile returns a token file with one policy, written in HCL.
func (a *Agent) PolicyFile(rules string) string {
	a.t.Helper()
	var policy struct{ ID string }
	a.Call(http.MethodPut, "/v1/acl/policy", map[string]any{
		"Name": fmt.Sprintf("policy-%d", rand.Uint64()), "Rules": rules,
	}, &policy)
	return a.tokenFile("policy", a.token(map[string]any{"Policies": []map[string]string{{"ID": policy.ID}}}))
}

func (a *Agent) token(request map[string]any) string {
	a.t.Helper()
	var token struct{ SecretID string }
	a.Call(http.MethodPut, "/v1/acl/token", request, &token)
	return token.SecretID
}

func (a *Agent) tokenFile(name, token string) string {
	a.t.Helper()
	path := filepath.Join(a.t.TempDir(), name+".token")
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// Management returns the token with every right.
func (a *Agent) Management() string { return a.management }
