package client

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"sluice/ledger"
)

// ErrRunning means that the run which a ledger is about has not ended.
var ErrRunning = errors.New("the run is still going on")

// Create makes the file of a new ledger, which must not exist, and holds a lock
// on it until it is closed.
func Create(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a ledger: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return file, nil
}

// Open reads the ledger in a file: ErrRunning while somebody writes it.
func Open(path string) (ledger.Book, error) {
	file, err := os.Open(path)
	if err != nil {
		return ledger.Book{}, fmt.Errorf("read a ledger: %w", err)
	}
	defer file.Close()
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); err != nil {
		return ledger.Book{}, fmt.Errorf("read %s: %w", path, ErrRunning)
	}
	return ledger.Read(file)
}
