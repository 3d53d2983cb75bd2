// Package secret reads secrets from files: a Consul token, a password, the token of an
// operations page. There is one rule for all of them.
package secret

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
)

// Max bounds a secret's file, in bytes, so that a wrong path is not read into memory.
const Max = 4096

// byteOrderMark is what some editors begin a text with.
const byteOrderMark = "\ufeff"

// Read reads a secret from a file that its owner alone may read, write or run. The
// secret is the only line of the file, without its end: UTF-8, not empty, without
// control characters, and without a byte order mark or blanks around it, which nobody
// sees. The error never holds any of the content.
func Read(path string) (string, error) {
	// O_NONBLOCK, so that a pipe without a writer is refused instead of waited for.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err) // it names the file
	}
	defer file.Close()
	// Stat of the open file, so that what was judged is what is read.
	info, err := file.Stat()
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	if err := judgeFile(info, path); err != nil {
		return "", fmt.Errorf("read secret %s: %w", path, err)
	}
	data, err := io.ReadAll(io.LimitReader(file, Max+1))
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	text, err := parse(data)
	if err != nil {
		return "", fmt.Errorf("read secret %s: %w", path, err)
	}
	return text, nil
}

func judgeFile(info fs.FileInfo, path string) error {
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("its mode is %04o, so that it is not its owner's alone; mend it with: chmod 600 %s", mode, path)
	}
	return nil
}

func parse(data []byte) (string, error) {
	if len(data) > Max {
		return "", fmt.Errorf("it has more than %d bytes", Max)
	}
	text := strings.TrimRight(string(data), "\r\n")
	switch {
	case text == "":
		return "", errors.New("it is empty")
	case strings.ContainsAny(text, "\r\n"):
		return "", errors.New("it has more than one line")
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		return "", errors.New("it holds what is no text: want UTF-8 without control characters")
	case strings.HasPrefix(text, byteOrderMark):
		return "", errors.New("it begins with a byte order mark, which nobody sees: save it as UTF-8 without one")
	case strings.TrimSpace(text) != text:
		return "", errors.New("there are blanks before or behind the secret: take them away")
	}
	return text, nil
}
