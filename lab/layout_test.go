package lab

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAFolderThatIsNotALabsIsNeitherUsedNorDeleted(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "precious")
	if err := os.WriteFile(precious, []byte("keep"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	layout, err := NewLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := layout.Prepare(); err == nil {
		t.Error("a folder with somebody's file became a state folder")
	}
	if err := layout.purge(); err == nil {
		t.Error("a folder with somebody's file was purged")
	}
	if _, err := Down(t.Context(), dir, true); err == nil {
		t.Error("down --purge took a folder that is not a lab's")
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the folder was changed: %v, %v", info, err)
	}
	if content, err := os.ReadFile(precious); err != nil || string(content) != "keep" {
		t.Errorf("the file was touched: %q, %v", content, err)
	}
}

func TestAStateFolderIsMadeUsedAgainAndDeletedWhole(t *testing.T) {
	layout, err := NewLayout(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := layout.Prepare(); err != nil {
			t.Fatal(err)
		}
	}
	// What is left of a lab that nobody can read keeps nobody from starting anew.
	if err := os.WriteFile(layout.OptionsFile(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if running, err := Down(t.Context(), layout.Root(), true); err != nil || running {
		t.Fatalf("down --purge: running %v, %v", running, err)
	}
	if _, err := os.Stat(layout.Root()); !os.IsNotExist(err) {
		t.Errorf("the state folder is still there: %v", err)
	}
}
