package lab

import (
	"os"
	"path/filepath"
	"testing"

	"sluice/datacenters"
)

func TestTheAdministratorsPasswordIsMadeOnceAndClosedToOthers(t *testing.T) {
	layout, err := NewLayout(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	if err := layout.Prepare(); err != nil {
		t.Fatal(err)
	}
	var password string
	for up, made := range []bool{true, false, false} {
		s, err := loadSecrets(layout, datacenters.Topology{})
		if err != nil {
			t.Fatal(err)
		}
		if s.NewAdmin != made {
			t.Errorf("up %d: made now is %t", up+1, s.NewAdmin)
		}
		file, err := os.Stat(layout.AdminPasswordFile())
		if err != nil || file.Mode().Perm() != 0o600 {
			t.Errorf("up %d: %v, %v, want a file of mode 0600", up+1, file, err)
		}
		content, err := os.ReadFile(layout.AdminPasswordFile())
		if err != nil || len(content) < 20 || password != "" && password != string(content) {
			t.Errorf("up %d: %d characters, and they were others before (%v)", up+1, len(content), err)
		}
		password = string(content)
	}
}
