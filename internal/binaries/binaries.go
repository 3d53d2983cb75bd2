// Package binaries finds the real programs that the lab runs: Consul and mongod.
//
// The order is: the environment (SLUICE_CONSUL, SLUICE_MONGOD), the cache that
// "make tools" fills, then PATH.
package binaries

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// ErrMissing means that a program is not on this machine. The text around it
// names the command that gets it.
var ErrMissing = errors.New("not found")

// Consul returns the path of the Consul binary.
func Consul() (string, error) { return find("consul", "SLUICE_CONSUL") }

// Mongod returns the path of the mongod binary.
func Mongod() (string, error) { return find("mongod", "SLUICE_MONGOD") }

// CacheDir returns the folder that "make tools" fills, outside any checkout, so
// that a second clone or a purge of the lab's state builds nothing again.
func CacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache folder: %w; set XDG_CACHE_HOME or HOME", err)
	}
	return filepath.Join(base, "sluice", "bin"), nil
}

func find(name, variable string) (string, error) {
	if path := os.Getenv(variable); path != "" {
		if err := executable(path); err != nil {
			return "", fmt.Errorf("%s=%s: %w", variable, path, err)
		}
		return path, nil
	}
	if dir, err := CacheDir(); err == nil {
		if path := filepath.Join(dir, name); executable(path) == nil {
			return path, nil
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return "", fmt.Errorf("%s: %w; get it with: make tools", name, ErrMissing)
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("%w: not an executable file", ErrMissing)
	}
	return nil
}
