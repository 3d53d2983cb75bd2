// Package corpus has messages of HTTP/1.1 with the verdict on each. It is for tests:
// those of the codec, and those that send the same bytes to the whole gateway.
//
// A file of testdata is a list of cases:
//
//	--- the name of the case
//	send GET / HTTP/1.1\r\nHost: x\r\n\r\n
//	accept host=x body=none keep=true
//	pass GET / HTTP/1.1\r\nHost: x\r\n\r\n
//
// What is sent is one line or several; "chunked" instead of "send" puts the head of a
// chunked request before it. The verdict is "accept" with some of what was understood,
// "refuse" with a status, or "cut" for a message that ends too early; messages=N says
// how many came before that were good. "pass" is what must be sent on; if it is
// missing, an accepted case must be sent on as it came. It has HTTP/1.1, Host: none.invalid
// first if there was none, and an upgrade last. In a file whose name begins with
// "response", "to" is the method of the request.
//
// Escapes are \r \n \t \0 \s (a space) \\ \xNN, and \*N(text) is N times the text.
package corpus

import (
	"embed"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// NoHost is the Host of a request that is sent on and came without one.
const NoHost = "none.invalid"

// ChunkedHead is what "chunked" puts before a body.
const ChunkedHead = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

// Case is what one side sends on a connection, and what becomes of it.
type Case struct {
	// File is the theme, Name a sentence that is unique in it.
	File, Name string
	// Response is true if it is a server that sends; To is the method that it answers.
	Response bool
	To       string
	// Body is true if the case is about the body.
	Body bool
	// Input is all that the peer sends before it ends.
	Input string
	// Status of the refusal; 0 if nothing is refused.
	Status int
	// Cut is true if the peer ended within a message.
	Cut bool
	// Messages is how many good ones come before the end, or before what is refused.
	Messages int
	// Want has what is understood of the last good message, by name.
	Want map[string]string
	// Output is what is sent on, if HasOutput is true.
	Output    string
	HasOutput bool
}

//go:embed testdata/*.txt
var files embed.FS

// Load returns all cases.
func Load(t testing.TB) []Case {
	t.Helper()
	entries, err := files.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	var cases []Case
	for _, entry := range entries {
		text, err := files.ReadFile("testdata/" + entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		file := strings.TrimSuffix(entry.Name(), ".txt")
		found, err := parse(file, string(text))
		if err != nil {
			t.Fatalf("%s: %v", entry.Name(), err)
		}
		cases = append(cases, found...)
	}
	return cases
}

func parse(file, text string) ([]Case, error) {
	var cases []Case
	var c *Case
	names, number := map[string]bool{}, 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSuffix(line, "\n")
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case word == "---":
			if names[rest] {
				return nil, fmt.Errorf("line %d: %q comes twice", number, rest)
			}
			names[rest] = true
			cases = append(cases, Case{
				File: file, Name: rest, Response: strings.HasPrefix(file, "response"),
				Body: strings.HasPrefix(file, "body"), To: "GET", Messages: -1,
			})
			c = &cases[len(cases)-1]
		case c == nil:
			return nil, fmt.Errorf("line %d: no case has begun", number)
		default:
			if err := c.line(word, rest); err != nil {
				return nil, fmt.Errorf("line %d: %w", number, err)
			}
		}
	}
	for i := range cases {
		cases[i].complete()
		if cases[i].Messages < 0 {
			return nil, fmt.Errorf("%q has no verdict", cases[i].Name)
		}
	}
	return cases, nil
}

// complete fills in what a case leaves out.
func (c *Case) complete() {
	if !c.HasOutput && c.Want != nil {
		c.Output, c.HasOutput = c.Input, true
	}
}

func (c *Case) line(word, rest string) error {
	var err error
	var text string
	switch word {
	case "send", "chunked", "pass", "passes-chunked":
		text, err = unescape(rest)
	}
	switch word {
	case "send":
		c.Input += text
	case "chunked":
		c.Input += ChunkedHead + text
	case "pass":
		c.Output, c.HasOutput = c.Output+text, true
	case "passes-chunked":
		c.Output, c.HasOutput = c.Output+ChunkedHead+text, true
	case "to":
		c.To = rest
	case "accept":
		c.Messages, c.Want = 1, map[string]string{}
		return c.details(rest)
	case "cut":
		c.Messages, c.Cut = 0, true
		return c.details(rest)
	case "refuse":
		status, details, _ := strings.Cut(rest, " ")
		if c.Status, err = strconv.Atoi(status); err != nil {
			return err
		}
		c.Messages = 0
		return c.details(details)
	default:
		return fmt.Errorf("%q means nothing", word)
	}
	return err
}

// details reads NAME=VALUE pairs.
func (c *Case) details(text string) error {
	for _, pair := range strings.Fields(text) {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("%q is no pair", pair)
		}
		value, err := unescape(value)
		if err != nil {
			return err
		}
		if name == "messages" {
			if c.Messages, err = strconv.Atoi(value); err != nil {
				return err
			}
			continue
		}
		if c.Want == nil {
			return fmt.Errorf("%q is for what is accepted", name)
		}
		c.Want[name] = value
	}
	return nil
}

func unescape(s string) (string, error) {
	var b strings.Builder
	for len(s) > 0 {
		if s[0] != '\\' {
			b.WriteByte(s[0])
			s = s[1:]
			continue
		}
		text, n, err := escape(s)
		if err != nil {
			return "", err
		}
		b.WriteString(text)
		s = s[n:]
	}
	return b.String(), nil
}

// escape returns what the escape at the start of s stands for, and its length.
func escape(s string) (text string, n int, err error) {
	if len(s) < 2 {
		return "", 0, fmt.Errorf("a \\ ends the line")
	}
	if i := strings.IndexByte(`rnt0s\`, s[1]); i >= 0 {
		return "\r\n\t\x00 \\"[i : i+1], 2, nil
	}
	switch {
	case s[1] == 'x' && len(s) >= 4:
		v, err := strconv.ParseUint(s[2:4], 16, 8)
		return string([]byte{byte(v)}), 4, err
	case s[1] == '*':
		count, rest, _ := strings.Cut(s[2:], "(")
		inner, _, closed := strings.Cut(rest, ")")
		times, err := strconv.Atoi(count)
		if err != nil || !closed {
			return "", 0, fmt.Errorf("%.20q is no repetition", s)
		}
		inner, err = unescape(inner)
		return strings.Repeat(inner, times), len(`\*()`) + len(count) + strings.IndexByte(rest, ')'), err
	}
	return "", 0, fmt.Errorf("%.4q is no escape", s)
}
