package intentions

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// maxFile is the size in bytes above which a file is not an intention file but a
// mistake. It also bounds how deep the parser can recurse.
const maxFile = 64 << 10

// Load reads every *.hcl file of dir, in order of name; each holds the entry of
// one destination. The error is Problems when the content is wrong: everything
// that was found, in all files, each with its file and line.
func Load(dir string) ([]Entry, error) {
	paths, err := filepath.Glob(filepath.Join(escape(dir), "*.hcl"))
	if err != nil {
		return nil, fmt.Errorf("load intentions: %w", err)
	}
	if len(paths) == 0 {
		if _, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("load intentions: %w", err)
		}
		return nil, fmt.Errorf("load intentions: %s holds no *.hcl file", dir)
	}
	slices.Sort(paths)
	var entries []Entry
	var problems Problems
	for _, path := range paths {
		source, err := read(path)
		if err != nil {
			return nil, fmt.Errorf("load intentions: %w", err)
		}
		entry, err := Parse(path, source)
		if wrong := Problems(nil); errors.As(err, &wrong) {
			problems = append(problems, wrong...)
			continue
		}
		entries = append(entries, entry)
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	return entries, nil
}

func read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	source, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(source) > maxFile {
		return nil, fmt.Errorf("read %s: larger than %d bytes, not an intention file", path, maxFile)
	}
	return source, nil
}

// escape quotes what filepath.Glob would read as a pattern.
func escape(dir string) string {
	var escaped []byte
	for i := range len(dir) {
		if slices.Contains([]byte(`*?[\`), dir[i]) {
			escaped = append(escaped, '\\')
		}
		escaped = append(escaped, dir[i])
	}
	return string(escaped)
}
