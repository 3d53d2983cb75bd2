package files_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/gateway/files"
)

func TestAFileIsReadUpToItsBound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(path, []byte("SECRET"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := files.Read(path, 6); err != nil || string(data) != "SECRET" {
		t.Errorf("got %q, %v", data, err)
	}
	data, err := files.Read(path, 5)
	if err == nil || data != nil || !strings.Contains(err.Error(), path+" is larger than 5 bytes") || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("one byte too many: %q, %v", data, err)
	}
	if _, err := files.Read(path+"x", 5); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that does not exist: %v", err)
	}
	if _, err := files.Read(filepath.Dir(path), 5); err == nil {
		t.Error("a folder was read")
	}
}
