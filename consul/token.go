package consul

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// maxTokenBytes is far above any Consul token (36 bytes) and keeps a wrong path
// from being read into memory.
const maxTokenBytes = 4096

// readToken reads an ACL token from a file that only its owner may read. The
// error never holds the content.
func readToken(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read token file: %w", err)
	}
	defer file.Close()
	// Stat of the open file, so that what was judged is what is read.
	info, err := file.Stat()
	if err != nil {
		return "", fmt.Errorf("read token file: %w", err)
	}
	if err := judgeTokenFile(info); err != nil {
		return "", fmt.Errorf("read token file %s: %w", path, err)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxTokenBytes+1))
	if err != nil {
		return "", fmt.Errorf("read token file: %w", err)
	}
	token := strings.TrimSpace(string(data))
	switch {
	case token == "":
		return "", fmt.Errorf("read token file %s: it is empty", path)
	case len(data) > maxTokenBytes || strings.ContainsFunc(token, notPrintable):
		return "", fmt.Errorf("read token file %s: it does not hold one token", path)
	}
	return token, nil
}

func judgeTokenFile(info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	if mode := info.Mode().Perm(); mode != 0o600 && mode != 0o400 {
		return fmt.Errorf("mode is %04o and others may read or run it; fix it with: chmod 600 %s", mode, info.Name())
	}
	return nil
}

func notPrintable(r rune) bool { return r <= ' ' || r > '~' }
