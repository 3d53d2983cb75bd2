package proxy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"sluice/gateway/auth"
	"sluice/gateway/errorpages"
	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
)

// staff is a guard that knows anna.
func staff(t *testing.T) *auth.Guard {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte("anna:"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	guard, err := auth.Open(auth.Config{Schemes: []auth.Scheme{{Name: "staff", File: file}}})
	if err != nil {
		t.Fatal(err)
	}
	return guard
}

// allOf is an operator's page that shows everything that it is given.
type allOf struct{}

func (allOf) Render(content errorpages.Page) ([]byte, bool) {
	return fmt.Appendf(nil, "<p>themed %+v", content), true
}

func TestTheOutsideLearnsNothingOfTheInsideUnlessPagesAreToExplain(t *testing.T) {
	t.Run("with the gateway's own pages", func(t *testing.T) { learnsNothing(t, nil) })
	t.Run("with the operator's", func(t *testing.T) { learnsNothing(t, allOf{}) })
}

func learnsNothing(t *testing.T, pages proxy.ErrorPages) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	instance := serve(world, "web", "web-1", echo, "urlprefix-/open", "urlprefix-/staff auth=staff", "urlprefix-/unknown auth=nobody",
		"urlprefix-/local deny=ip:127.0.0.1", "urlprefix-/closed allow=ip:300.0.0.0")
	cfg := proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Auth: staff(t), ErrorPages: pages}
	l := silent(t, world, cfg)
	wants := func(path string, status int) {
		t.Helper()
		for _, accept := range []string{"text/html", "application/json", "text/plain"} {
			got := l.get(path, "Accept", accept)
			if got.status != status {
				t.Errorf("%s: %d, want %d", path, got.status, status)
			}
			body := strings.ToLower(got.body)
			for _, inside := range []string{"web-1", "gateway ->", "intention", instance.Address, "127.0.0.1", "dc1", "sluice status", "sluice intentions", "gateway lint", "tag", path + " ", path + "."} {
				if strings.Contains(body, inside) {
					t.Errorf("%s: the page tells of %q:\n%s", path, inside, got.body)
				}
			}
		}
	}
	wants("/staff", 401)
	wants("/unknown", 403)
	wants("/local", 403)
	wants("/closed", 403)
	world.Policy.Set(meshtest.Deny("gateway", "web"))
	wants("/open", 403)
	world.Policy.Set(allowWeb)
	world.Catalog.Remove(instance)
	meshtest.Wait(t, "the instance is gone", func() bool { return l.get("/open").status == 503 })
	wants("/open", 503)
}
