package ledger

import (
	"fmt"
	"io"
	"sync"
)

// Writer appends to a ledger. Each record reaches the file in one write, before
// Add returns: what is lost with the process is at most the line it was writing.
type Writer struct {
	mu   sync.Mutex
	to   io.Writer
	line []byte
	err  error
}

// NewWriter begins a ledger with its header; Format and Version are filled in.
func NewWriter(to io.Writer, header Header) (*Writer, error) {
	header.Format, header.Version = Format, Version
	if err := header.valid(); err != nil {
		return nil, fmt.Errorf("begin a ledger: %w", err)
	}
	line, err := headerLine(header)
	if err != nil {
		return nil, err
	}
	if _, err := to.Write(line); err != nil {
		return nil, fmt.Errorf("begin a ledger: %w", err)
	}
	return &Writer{to: to}, nil
}

// Add appends a record. After an error nothing more is written, so that the
// broken line stays the last one; the error is returned from then on.
func (w *Writer) Add(r Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	w.line = r.appendTo(w.line[:0])
	if _, err := w.to.Write(w.line); err != nil {
		w.err = fmt.Errorf("write to the ledger: %w", err)
	}
	return w.err
}
