package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// maxFile bounds the file, in bytes, so that a wrong path is not read for long.
const maxFile = 1 << 20

// parseFile reads lines of NAME = VALUE. A line that begins with # says nothing. A
// value goes to the end of its line, without quotes, because formats of access
// logs hold both # and quotes.
func parseFile(all []setting, name string, data []byte) (map[string][]given, []error) {
	if len(data) > maxFile {
		return nil, []error{fmt.Errorf("%s: it is larger than %s", name, sizeText(maxFile))}
	}
	byWord := map[string]setting{}
	var words []string
	for _, s := range all {
		for _, word := range []string{s.name, s.alias} {
			if word != "" {
				byWord[word], words = s, append(words, word)
			}
		}
	}
	found := map[string][]given{}
	var problems []error
	line := 0
	for text := range strings.Lines(string(bytes.TrimPrefix(data, []byte("\ufeff")))) {
		line++
		text = strings.TrimSpace(text)
		if text == "" || text[0] == '#' {
			continue
		}
		word, value, ok := strings.Cut(text, "=")
		word = strings.TrimSpace(word)
		s, known := byWord[word]
		var err error
		switch {
		case !ok:
			err = fmt.Errorf("%q has no =; want NAME = VALUE", text)
		case word == configName:
			err = errors.New("a file cannot name another one")
		case !known && strings.HasPrefix(word, "-"):
			err = fmt.Errorf("%q: names have no dash in front here", word)
		case !known:
			err = fmt.Errorf("there is no %q%s", word, suggestion(word, words, ""))
		case len(found[s.name]) > 0 && !s.repeat:
			err = fmt.Errorf("%s is given before, in line %d", word, found[s.name][0].origin.Line)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s:%d: %w", name, line, err))
			continue
		}
		origin := Origin{Kind: FromFile, Name: word, File: name, Line: line}
		found[s.name] = append(found[s.name], given{text: strings.TrimSpace(value), origin: origin})
	}
	return found, problems
}
