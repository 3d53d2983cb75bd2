package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
)

// Of a load to the disk: what one write is, and when it begins at the start again.
const (
	loadPiece = 1 << 20
	loadFile  = 256 << 20
)

// load keeps one processor busy ("cpu"), or the disk under a file of that name,
// until ctx ends.
func load(ctx context.Context, what string) error {
	piece := make([]byte, loadPiece)
	if what == "cpu" {
		for ctx.Err() == nil {
			sum := sha256.Sum256(piece)
			copy(piece, sum[:])
		}
		return nil
	}
	file, err := os.OpenFile(what, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(what)
	defer file.Close()
	for at := int64(0); ctx.Err() == nil; at = (at + loadPiece) % loadFile {
		if _, err := file.WriteAt(piece, at); err != nil {
			return fmt.Errorf("load %s: %w", what, err)
		}
		if err := file.Sync(); err != nil {
			return fmt.Errorf("load %s: %w", what, err)
		}
	}
	return nil
}
