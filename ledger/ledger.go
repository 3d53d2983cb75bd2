// Package ledger holds what a client was told about its writes, and judges it
// against what a replica set holds in the end.
//
// A ledger is a file of lines that is only ever appended to: first the header,
// then one line for each thing that happened, in the order in which it was
// written down. A write is in the file before it is sent, so that no document can
// be in the set that its ledger does not name; an answer is in the file after it
// arrived. The client may be killed at any byte: a last line without its end is
// counted and left out, everything else that is not exactly as it must be makes
// the ledger unreadable.
//
// Nothing here opens a socket or asks for the time. A Book and a Report are
// values; a Writer may be used by several goroutines at once.
package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Format and Version are what a header must say of itself.
const (
	Format  = "sluice-ledger"
	Version = 1
)

// Header is the first line: how the run was made.
type Header struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	// Run is in the identity of every document, so that two runs never meet.
	Run string `json:"run"`
	// Started is the moment from which all times of the run are counted.
	Started time.Time `json:"started"`
	Node    string    `json:"node"`
	// Via is "port" or "members".
	Via string `json:"via"`
	// Rate is how many writes fall due each second.
	Rate float64 `json:"rate"`
	// Duration is how long writes fall due, in nanoseconds; 0 is until interrupted.
	Duration time.Duration `json:"duration_ns"`
	// WriteConcern is what each write asked for: "majority" or a number.
	WriteConcern string `json:"write_concern"`
	// ReadConcern is what each read asked for: "local", "majority" or "linearizable".
	ReadConcern string `json:"read_concern"`
	// Timeout bounds one write, with all its repetitions, in nanoseconds.
	Timeout time.Duration `json:"op_timeout_ns"`
}

// Document is the identity of the document of a write.
func (h Header) Document(seq uint64) string { return fmt.Sprintf("%s/%d", h.Run, seq) }

// Sequence is the reverse of Document; false means that it is not one of this
// run.
func (h Header) Sequence(document string) (uint64, bool) {
	rest, ours := strings.CutPrefix(document, h.Run+"/")
	seq, err := strconv.ParseUint(rest, 10, 64)
	return seq, ours && err == nil && h.Document(seq) == document
}

// valid returns what is wrong with a header.
func (h Header) valid() error {
	switch {
	case h.Format != Format:
		return fmt.Errorf("its format is %q, not %q", h.Format, Format)
	case h.Version != Version:
		return fmt.Errorf("its version is %d, and this program reads version %d", h.Version, Version)
	case h.Run == "" || strings.ContainsAny(h.Run, "/ \n"):
		return fmt.Errorf("%q names no run", h.Run)
	case h.Started.IsZero():
		return errors.New("it does not say when the run started")
	}
	return nil
}

// Kind is what a line tells.
type Kind byte

// The kinds of lines, by the letter that each begins with.
const (
	// Sent: a write is about to be sent.
	Sent Kind = 's'
	// Acknowledged: the write concern was met.
	Acknowledged Kind = 'a'
	// Refused: the write was never sent, or the server said that it did not do it.
	Refused Kind = 'r'
	// Unknown: it may be there or not.
	Unknown Kind = 'u'
	// Duplicate: a repetition met a document with the same identity. It is the
	// write's own, but it may yet be rolled back: only a majority read tells.
	Duplicate Kind = 'd'
	// Looked: a read for the newest acknowledged write ended.
	Looked Kind = 'l'
	// End: the run is over. Nothing follows.
	End Kind = 'e'
)

// Record is one line. All times are counted from the header's Started on the
// monotonic clock.
type Record struct {
	Kind Kind
	// Seq is the write's number; the write that a Looked looked for. 0 in an End.
	Seq uint64
	// From is when a Sent fell due, and when a Looked was started.
	From time.Duration
	// At is when it happened.
	At time.Duration
	// Attempts is how many commands a write took, for an answer.
	Attempts int
	// Text is the error of a Refused or Unknown; Found, Missing or an error of a
	// Looked; Complete or Interrupted of an End.
	Text string
}

// The texts with a meaning.
const (
	Found       = "found"
	Missing     = "missing"
	Complete    = "complete"
	Interrupted = "interrupted"
)

// appendTo writes the record's line, with its end.
func (r Record) appendTo(line []byte) []byte {
	number := func(n int64) { line = strconv.AppendInt(append(line, ' '), n, 10) }
	line = append(line, byte(r.Kind))
	if r.Kind != End {
		line = strconv.AppendUint(append(line, ' '), r.Seq, 10)
	}
	if r.Kind == Sent || r.Kind == Looked {
		number(int64(r.From))
	}
	number(int64(r.At))
	if r.Kind.answer() {
		number(int64(r.Attempts))
	}
	if r.Kind.told() {
		line = strconv.AppendQuoteToASCII(append(line, ' '), r.Text)
	}
	return append(line, '\n')
}

// answer reports whether the kind ends a write.
func (k Kind) answer() bool {
	return k == Acknowledged || k == Refused || k == Unknown || k == Duplicate
}

// told reports whether the kind has a text.
func (k Kind) told() bool { return k == Refused || k == Unknown || k == Looked || k == End }

// errLine means that a line is not what appendTo writes.
var errLine = errors.New("malformed")

// parseRecord reads a line without its end. It takes exactly what appendTo
// writes and nothing else.
func parseRecord(line string) (Record, error) {
	if line == "" || !strings.ContainsRune("sraudle", rune(line[0])) {
		return Record{}, errLine
	}
	r := Record{Kind: Kind(line[0])}
	rest := line[1:]
	numbers := []*int64{}
	var at, from, attempts int64
	if r.Kind == Sent || r.Kind == Looked {
		numbers = append(numbers, &from)
	}
	numbers = append(numbers, &at)
	if r.Kind.answer() {
		numbers = append(numbers, &attempts)
	}
	var err error
	if r.Kind != End {
		var word string
		if word, rest, err = next(rest); err != nil {
			return Record{}, err
		}
		if r.Seq, err = strconv.ParseUint(word, 10, 64); err != nil {
			return Record{}, errLine
		}
	}
	for _, number := range numbers {
		var word string
		if word, rest, err = next(rest); err != nil {
			return Record{}, err
		}
		if *number, err = strconv.ParseInt(word, 10, 64); err != nil || *number < 0 {
			return Record{}, errLine
		}
	}
	r.From, r.At, r.Attempts = time.Duration(from), time.Duration(at), int(attempts)
	if r.Kind.told() {
		if r.Text, err = strconv.Unquote(strings.TrimPrefix(rest, " ")); err != nil {
			return Record{}, errLine
		}
	}
	if string(r.appendTo(nil)) != line+"\n" {
		return Record{}, errLine
	}
	return r, nil
}

// next takes one word, with the space before it.
func next(line string) (word, rest string, err error) {
	if !strings.HasPrefix(line, " ") {
		return "", "", errLine
	}
	word, rest, more := strings.Cut(line[1:], " ")
	if more {
		rest = " " + rest
	}
	return word, rest, nil
}

// headerLine is the first line, with its end.
func headerLine(h Header) ([]byte, error) {
	line, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("write the ledger's header: %w", err)
	}
	return append(line, '\n'), nil
}
