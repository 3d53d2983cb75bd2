package accesslog_test

import (
	"os"
	"path/filepath"
	"testing"

	"sluice/gateway/accesslog"
)

func TestAFileThatIsMovedAwayIsMadeAnew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "logs", "access.log")
	if _, err := accesslog.OpenFile(path); err == nil {
		t.Fatal("a file in no folder was opened")
	}
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := accesslog.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	write := func(line string) {
		t.Helper()
		if n, err := file.Write([]byte(line + "\n")); err != nil || n != len(line)+1 {
			t.Fatalf("%d bytes of %q, %v", n, line, err)
		}
	}
	holds := func(path, want string) {
		t.Helper()
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v; want %q", path, got, err, want)
		}
	}
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	move(path, path+".1")
	write("two")
	write("three")
	holds(path+".1", "before\none\n")
	holds(path, "two\nthree\n")
	if err := os.Truncate(path, 0); err != nil { // another way to keep it small
		t.Fatal(err)
	}
	write("four")
	holds(path, "four\n")
	move(filepath.Dir(path), filepath.Join(dir, "moved"))
	write("five") // there is no folder for a new file
	holds(filepath.Join(dir, "moved", "access.log"), "four\nfive\n")
}
