package command_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/gateway/command"
	"sluice/internal/service"
)

func check(t *testing.T, args ...string) (text string, err error) {
	t.Helper()
	var out strings.Builder
	err = command.Run(t.Context(), command.Streams{Out: &out, Err: t.Output()}, append([]string{"check"}, args...))
	return out.String(), err
}

func TestCheckJudgesSettingsAndFilesAsTheStartWould(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	place := []string{"-node", "n", "-address", "127.0.0.1"}
	token := write("token", "good\n", 0o600)
	good := write("gateway.conf", "node = n\naddress = 127.0.0.1\nretries = 1\ntoken-file = "+token+"\n", 0o644)
	text, err := check(t, "-config", good)
	if err != nil {
		t.Fatal(err)
	}
	said(t, text, "are good", "token-file = "+token+" ("+good+":4)", "retries = 1 ("+good+":3)")
	if text, err = check(t, "-h"); err != nil || !strings.Contains(text, "-admin-token-file") {
		t.Errorf("-h: %v, %q", err, text)
	}

	var usage service.UsageError
	_, err = check(t, "-config", write("bad.conf", "node = n\nretires = 1\nlisten = :80\n", 0o644))
	if !errors.As(err, &usage) || !strings.Contains(err.Error(), `bad.conf:2: there is no "retires"; do you mean "retries"?`) {
		t.Errorf("a slip in the file: %v", err)
	}
	for fault, args := range map[string][]string{
		"-token-file: ":           {"-token-file", write("open", "x\n", 0o644)},
		"-admin-token-file: ":     {"-admin-token-file", filepath.Join(dir, "none")},
		"-auth: ":                 {"-auth", "name=staff;file=" + write("htpasswd", "a:{SHA}x\n", 0o600)},
		"-error-pages: ":          {"-error-pages", filepath.Join(dir, "pages")},
		"-access-log: ":           {"-access-log", filepath.Join(dir, "logs", "a.log")},
		"-listen 127.0.0.1:443: ": {"-listen", "127.0.0.1:443;proto=https;certs=" + filepath.Join(dir, "certs")},
	} {
		if _, err := check(t, append(place, args...)...); err == nil || errors.As(err, &usage) || !strings.HasPrefix(err.Error(), fault) {
			t.Errorf("%q: %v, want %q", args, err, fault)
		}
	}
	all := append(place, "-token-file", filepath.Join(dir, "open"), "-access-log", filepath.Join(dir, "logs", "a.log"))
	if _, err := check(t, all...); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("two faults: %v", err)
	}
}
