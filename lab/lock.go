package lab

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockState holds the state folder for as long as the file stays open.
func lockState(layout Layout) (*os.File, error) {
	file, err := lockFile(layout.LockFile(), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("another supervisor holds it: %w", err)
	}
	return file, err
}

func lockFile(path string, how int) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the state folder: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), how); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock the state folder: %w", err)
	}
	return file, nil
}
