package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
)

// Bounds of what is kept of a process's output.
const (
	logSize    = 10 << 20 // bytes of one log file; one older file is kept beside it
	tailLines  = 500
	lineLength = 4 << 10 // of a line in the tail; the file has all of it
)

// output keeps what a process writes: all of it in a file that is rotated, and
// the last lines in memory.
type output struct {
	path  string // empty: no file
	limit int64

	mu      sync.Mutex
	file    *os.File
	size    int64
	partial []byte   // of a line that has not ended
	lines   []string // a ring once it is full
	next    int      // where the ring's oldest line is
}

func openOutput(path string) (*output, error) {
	o := &output{path: path, limit: logSize}
	return o, o.open()
}

// open opens the file if there is one to open and it is closed.
func (o *output) open() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.path == "" || o.file != nil {
		return nil
	}
	return o.reopen()
}

func (o *output) reopen() error {
	file, err := os.OpenFile(o.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("open log: %w", err), file.Close())
	}
	o.file, o.size = file, info.Size()
	return nil
}

// Write never fails: an error would end the process's output for good, and with it
// perhaps the process, over a full disk.
func (o *output) Write(data []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.remember(data)
	if o.file == nil {
		return len(data), nil
	}
	if o.size > 0 && o.size+int64(len(data)) > o.limit {
		o.rotate()
	}
	if o.file != nil {
		n, _ := o.file.Write(data)
		o.size += int64(n)
	}
	return len(data), nil
}

// rotate moves the file to PATH.1. When that fails, the file is started anew
// rather than left to grow.
func (o *output) rotate() {
	_ = o.file.Close()
	o.file = nil
	if err := os.Rename(o.path, o.path+".1"); err != nil {
		_ = os.Remove(o.path)
	}
	_ = o.reopen()
}

func (o *output) remember(data []byte) {
	for len(data) > 0 {
		line, rest, ended := bytes.Cut(data, []byte{'\n'})
		if room := lineLength - len(o.partial); room > 0 {
			o.partial = append(o.partial, line[:min(len(line), room)]...)
		}
		if !ended {
			return
		}
		o.addLine(string(bytes.TrimSuffix(o.partial, []byte{'\r'})))
		o.partial = o.partial[:0]
		data = rest
	}
}

func (o *output) addLine(line string) {
	if len(o.lines) < tailLines {
		o.lines = append(o.lines, line)
		return
	}
	o.lines[o.next] = line
	o.next = (o.next + 1) % tailLines
}

func (o *output) tail(n int) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := make([]string, 0, len(o.lines)+1)
	all = append(append(all, o.lines[o.next:]...), o.lines[:o.next]...)
	if len(o.partial) > 0 {
		all = append(all, string(o.partial))
	}
	return all[max(0, len(all)-max(0, n)):]
}

// Close closes the file; the tail stays. A line that had not ended ends here.
func (o *output) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.partial) > 0 {
		o.addLine(string(o.partial))
		o.partial = o.partial[:0]
	}
	if o.file == nil {
		return nil
	}
	err := o.file.Close()
	o.file = nil
	return err
}
