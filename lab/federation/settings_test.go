//go:build dc2

package federation_test

import (
	"net/http"
	"strings"
)

// webIsConfigured sets a key in the second datacenter: its web alone takes it over.
func webIsConfigured(t *trial) {
	said := t.lab.Must("web", "config", "set", "web/maintenance", "true", "--dc", "dc2").Stderr
	if !strings.Contains(said, "web/maintenance is true in dc2") || !strings.Contains(said, "web-3/web runs with it") || strings.Contains(said, "web-1") {
		t.Errorf("set in dc2: %s", said)
	}
	t.Log(strings.TrimSpace(said))
	if status, _, err := t.page(gateway2); err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("the page in dc2: %d, %v", status, err)
	}
	if status, _, err := t.page(gateway1); err != nil || status != http.StatusOK {
		t.Errorf("the page in dc1: %d, %v", status, err)
	}
	if got := t.lab.Run("web", "config", "get", "web/maintenance"); got.Code != 0 || got.Stdout != "false\n" {
		t.Errorf("dc1 has it, too: %s", got)
	}
	t.lab.Must("web", "config", "unset", "web/maintenance", "--dc", "dc2")
	if status, _, err := t.page(gateway2); err != nil || status != http.StatusOK {
		t.Errorf("the page in dc2 after unset: %d, %v", status, err)
	}
	if got := t.lab.Run("web", "config", "list", "--dc", "dc3"); got.Code != 2 || !strings.Contains(got.Stderr, "there are dc1, dc2") {
		t.Errorf("a datacenter that there is none: %s", got)
	}
}
