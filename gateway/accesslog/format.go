package accesslog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The formats that have a name; the last two are those of Fabio and of every web
// server.
const (
	JSON     = "json"
	Common   = "common"
	Combined = "combined"

	commonFormat   = `$remote_host - - [$time_common] "$request" $response_status $response_body_size`
	combinedFormat = commonFormat + ` "$header.Referer" "$header.User-Agent"`
)

// format turns entries into lines.
type format struct {
	// line appends one line, with its end.
	line func(dst []byte, v *view) []byte
	// headers are the request headers that it needs.
	headers []string
}

// parseFormat reads a name, or a text with fields as Fabio's log.access.format
// has them: $NAME, or $header.NAME for a header of the request.
func parseFormat(text string) (format, error) {
	switch text {
	case JSON:
		return format{line: appendObject}, nil
	case Common:
		text = commonFormat
	case Combined:
		text = combinedFormat
	case "":
		return format{}, errors.New("access log format: it is empty")
	}
	p := parser{fields: fields()}
	if err := p.parse(text); err != nil {
		return format{}, fmt.Errorf("access log format: %w", err)
	}
	parts := p.parts
	return format{headers: p.headers, line: func(dst []byte, v *view) []byte {
		for i := range parts {
			dst = parts[i].append(dst, v)
		}
		return append(dst, '\n')
	}}, nil
}

// part is a literal or a field.
type part struct {
	literal string
	value   field
	// quoted is true where the format has quotes around the field.
	quoted bool
}

func (p *part) append(dst []byte, v *view) []byte {
	if p.value == nil {
		return append(dst, p.literal...)
	}
	v.scratch = p.value(v.scratch[:0], v)
	if len(v.scratch) == 0 && !p.quoted {
		return append(dst, '-') // so that the next field keeps its place
	}
	return appendText(dst, v.scratch, p.quoted)
}

type parser struct {
	fields  map[string]field
	parts   []part
	headers []string
	quoted  bool
}

func (p *parser) parse(text string) error {
	for text != "" {
		dollar := strings.IndexByte(text, '$')
		if dollar < 0 {
			dollar = len(text)
		}
		if err := p.literal(text[:dollar]); err != nil {
			return err
		}
		if text = text[dollar:]; text == "" {
			break
		}
		name := text[1:wordEnd(text, 1)]
		if name == "" {
			if err := p.literal("$"); err != nil {
				return err
			}
			text = text[1:]
			continue
		}
		text = text[1+len(name):]
		if name == "header" && strings.HasPrefix(text, ".") {
			header := text[1:wordEnd(text, 1)]
			text = text[1+len(header):]
			if err := p.header(header); err != nil {
				return err
			}
			continue
		}
		value, ok := p.fields[name]
		if !ok {
			return fmt.Errorf("the field $%s is unknown", name)
		}
		// The blank in this one is ours, and there are brackets around it.
		quoted := p.quoted || name == "time_common"
		p.parts = append(p.parts, part{value: value, quoted: quoted})
	}
	if p.quoted {
		return errors.New("a quote is not closed")
	}
	return nil
}

func (p *parser) literal(text string) error {
	for _, c := range []byte(text) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return errors.New("it holds a control character")
		}
		if c == '"' {
			p.quoted = !p.quoted
		}
	}
	if text != "" {
		p.parts = append(p.parts, part{literal: text})
	}
	return nil
}

func (p *parser) header(name string) error {
	if name == "" {
		return errors.New("$header. has no name")
	}
	if isSecretHeader(name) {
		return fmt.Errorf("the header %s may hold a secret and is never written", name)
	}
	switch strings.ToLower(name) {
	case "referer":
		p.parts = append(p.parts, part{value: ofTarget(textReferer), quoted: p.quoted})
		return nil
	case "user-agent":
		p.parts = append(p.parts, part{value: ofText(textUserAgent), quoted: p.quoted})
		return nil
	}
	i := slices.IndexFunc(p.headers, func(other string) bool { return strings.EqualFold(other, name) })
	if i < 0 {
		if i = len(p.headers); i == maxHeaders {
			return fmt.Errorf("it has more than %d headers", maxHeaders)
		}
		p.headers = append(p.headers, name)
	}
	// A header may hold a URL.
	value := func(dst []byte, v *view) []byte { return v.secrets.Append(dst, v.header(i)) }
	p.parts = append(p.parts, part{value: value, quoted: p.quoted})
	return nil
}

// wordEnd returns where the word that begins at from ends.
func wordEnd(text string, from int) int {
	end := from
	for end < len(text) && isWord(text[end]) {
		end++
	}
	return end
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}

// CheckFormat returns why New would refuse a format, or nil.
func CheckFormat(text string) error {
	_, err := parseFormat(text)
	return err
}
