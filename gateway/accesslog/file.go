package accesslog

import "os"

// File is a file that lines are appended to. One that was moved away or removed, as
// programs do that keep logs small, is made anew by the next write: nobody has to tell.
// It is for one goroutine.
type File struct {
	path string
	file *os.File
}

// OpenFile opens the file, which may be there already.
func OpenFile(path string) (*File, error) {
	file, err := appendTo(path)
	if err != nil {
		return nil, err
	}
	return &File{path: path, file: file}, nil
}

func appendTo(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
}

// Write appends to what is at the path now, or, where nothing can be opened there, to
// what was before.
func (f *File) Write(b []byte) (int, error) {
	if !f.current() {
		if next, err := appendTo(f.path); err == nil {
			_ = f.file.Close()
			f.file = next
		}
	}
	return f.file.Write(b)
}

// current reports whether the open file is the one at the path.
func (f *File) current() bool {
	there, err := os.Stat(f.path)
	if err != nil {
		return false
	}
	open, err := f.file.Stat()
	return err == nil && os.SameFile(there, open)
}

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }
