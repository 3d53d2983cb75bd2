// Package files reads the small files that the gateway is told of, which whoever
// runs it may replace at any time, and may mistake for others.
package files

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

// Read returns the content of a file of at most most bytes, so that a wrong path is
// not read into memory. An error names the file and holds nothing of its content.
func Read(path string, most int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return data, nil
}

// Follow calls look once in an interval until ctx ends, and returns nil. Files are
// looked at, and not watched: what puts them there may rename, link or mount them.
func Follow(ctx context.Context, interval time.Duration, look func()) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			look()
		}
	}
}
