package errorpages

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"sluice/gateway/files"
)

const (
	// maxFile bounds one file, in bytes, and maxFiles their number.
	maxFile  = 64 << 10
	maxFiles = 128
	// fallbackName is the page of every status without one of its own.
	fallbackName = "error.html"
	leastStatus  = 400
	mostStatus   = 599
)

// source is one file.
type source struct{ name, text string }

// theme is what a folder held at one moment. It is immutable.
type theme struct {
	byStatus map[int]*template.Template
	fallback *template.Template
	names    []string
	// sources are the files, for comparison with those that come.
	sources []source
}

// of returns the template of a status, or nil.
func (t *theme) of(status int) *template.Template {
	if own := t.byStatus[status]; own != nil {
		return own
	}
	if status < leastStatus || status > mostStatus {
		return nil
	}
	return t.fallback
}

// read returns the files of a folder in the order of their names.
func read(dir string) ([]source, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var sources []source
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, ".") {
			continue // what mounts a folder keeps its own there
		}
		if len(sources) == maxFiles {
			return nil, fmt.Errorf("there are more than %d files", maxFiles)
		}
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return nil, errors.Join(fmt.Errorf("%s is no file", name), err)
		}
		text, err := files.Read(path, maxFile)
		if err != nil {
			return nil, err
		}
		sources = append(sources, source{name, string(text)})
	}
	return sources, nil
}

// sumOf tells what was read from what was read before.
func sumOf(sources []source, err error) [sha256.Size]byte {
	var all bytes.Buffer
	for _, s := range sources {
		fmt.Fprintf(&all, "%q %q\n", s.name, s.text)
	}
	fmt.Fprintf(&all, "%v", err)
	return sha256.Sum256(all.Bytes())
}

// themeOf makes a theme of files, and tries each of its pages.
func themeOf(sources []source) (*theme, error) {
	shared := template.New("").Funcs(functions())
	var pages []source
	for _, s := range sources {
		switch {
		case !utf8.ValidString(s.text):
			return nil, fmt.Errorf("%s is not UTF-8", s.name)
		case strings.HasPrefix(s.name, "_") && strings.HasSuffix(s.name, ".html"):
			if _, err := shared.New(s.name).Parse(s.text); err != nil {
				return nil, err
			}
		default:
			pages = append(pages, s)
		}
	}
	if len(pages) == 0 {
		return nil, errors.New("there is no page in it; want error.html, or one named as a status, as in 503.html")
	}
	t := &theme{byStatus: map[int]*template.Template{}, sources: sources}
	for _, s := range pages {
		statuses, err := statusesOf(s.name)
		if err != nil {
			return nil, err
		}
		own, err := shared.Clone() // what a page defines is its own
		if err != nil {
			return nil, err
		}
		page, err := own.New(s.name).Parse(s.text)
		if err != nil {
			return nil, err
		}
		if err := count(page); err != nil {
			return nil, err
		}
		if err := try(page, statuses); err != nil {
			return nil, err
		}
		t.names = append(t.names, s.name)
		if s.name == fallbackName {
			t.fallback = page
			continue
		}
		t.byStatus[statuses[0]] = page
	}
	return t, nil
}

// statusesOf returns the statuses that the page of a name may have.
func statusesOf(name string) ([]int, error) {
	if name == fallbackName {
		var all []int
		for status := leastStatus; status <= mostStatus; status++ {
			all = append(all, status)
		}
		return all, nil
	}
	digits, ok := strings.CutSuffix(name, ".html")
	status, err := strconv.Atoi(digits)
	if !ok || err != nil || len(digits) != 3 || status < leastStatus || status > mostStatus {
		return nil, fmt.Errorf("%s is no name of a page; want error.html, %d.html to %d.html, or _NAME.html for what pages share", name, leastStatus, mostStatus)
	}
	return []int{status}, nil
}

// try makes a page of everything that a page may tell, and of the least.
func try(page *template.Template, statuses []int) error {
	for _, status := range statuses {
		title := http.StatusText(status)
		for _, sample := range []Page{
			{Status: status, Title: title, Reason: "The service is not available right now.", RequestID: "0123456789abcdef0123456789abcdef"},
			{
				Status: status, Title: "Denied", Reason: "web -> mongo: denied", RequestID: "0123456789abcdef0123456789abcdef",
				Facts: []Fact{{"source", "web"}, {"destination", "mongo"}, {"decided by", "web -> *, deny (precedence 8)"}},
				Hint:  "To allow it:", Command: "sluice intentions allow web mongo",
			},
		} {
			body, err := execute(page, sample)
			if err != nil {
				return fmt.Errorf("%s for status %d: %w", page.Name(), status, err)
			}
			switch {
			case len(bytes.TrimSpace(body)) == 0:
				return fmt.Errorf("%s is blank for status %d", page.Name(), status)
			case bytes.Contains(bytes.ToLower(body), []byte("<script")):
				return fmt.Errorf("%s has a script, which the policy of error pages lets no browser run", page.Name())
			}
		}
	}
	return nil
}
