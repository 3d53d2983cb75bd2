package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/lab"
)

func TestThePasswordOfTheAdministratorIsShownByTheUpThatMadeIt(t *testing.T) {
	const password = "THEPASSWORDOFTHEADMIN"
	file := filepath.Join(t.TempDir(), "blog-admin.password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, up := range map[string]struct{ made, already, shown bool }{
		"the first up":                     {true, false, true},
		"up while it runs":                 {true, true, false},
		"up of a lab whose state was kept": {false, false, false},
	} {
		var out strings.Builder
		printAdmin(&out, lab.Started{Already: up.already, Summary: lab.Summary{
			AdminPassword: file, NewAdmin: up.made, URLs: []lab.URL{{Name: "page", URL: "http://127.0.0.1:9999/web"}},
		}})
		if strings.Contains(out.String(), password) != up.shown || strings.Contains(out.String(), "shown this once") != up.shown {
			t.Errorf("%s: shown is not %t:\n%s", name, up.shown, &out)
		}
		if !strings.Contains(out.String(), "/web/admin as admin, password in ") || !strings.Contains(out.String(), filepath.Base(file)) {
			t.Errorf("%s does not say where the password is:\n%s", name, &out)
		}
	}
}
