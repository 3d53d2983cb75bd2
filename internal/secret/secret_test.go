package secret

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestASecretIsReadFromAFileOfItsOwnersAloneAndNeverShownInErrors(t *testing.T) {
	write := func(content string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask is
			t.Fatal(err)
		}
		return path
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path, want string
	}{
		{"a line", write("s3cret\n", 0o600), "s3cret"},
		{"no end of the line", write("s3cret", 0o600), "s3cret"},
		{"that of Windows", write("s3cret\r\n", 0o600), "s3cret"},
		{"blanks inside", write("s3cret and more\n", 0o600), "s3cret and more"},
		{"not to be written", write("s3cret\n", 0o400), "s3cret"},
		{"to be run by its owner", write("s3cret\n", 0o700), "s3cret"},
		{"for the group", write("s3cret\n", 0o640), ""},
		{"for others", write("s3cret\n", 0o604), ""},
		{"for others to run", write("s3cret\n", 0o601), ""},
		{"empty", write("", 0o600), ""},
		{"an empty line", write("\n", 0o600), ""},
		{"two lines", write("s3cret\nmore\n", 0o600), ""},
		{"a blank behind", write("s3cret \n", 0o600), ""},
		{"a blank before", write("\ts3cret\n", 0o600), ""},
		{"blanks alone", write("  \n", 0o600), ""},
		{"a byte order mark", write("\ufeffs3cret\n", 0o600), ""},
		{"a byte 0", write("s3cret\x00\n", 0o600), ""},
		{"not UTF-8", write("s3cret\xff\n", 0o600), ""},
		{"too long", write(strings.Repeat("s3cret", 1000), 0o600), ""},
		{"a folder", t.TempDir(), ""},
		{"a pipe that nobody writes to", pipe, ""},
		{"none", filepath.Join(t.TempDir(), "none"), ""},
	} {
		got, err := Read(c.path)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), c.path)) {
			t.Errorf("%s: %v; want the path and nothing of the content", c.name, err)
		}
	}
}
