package ledger

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// ErrUnreadable means that a file is no ledger, or not one that can be believed.
var ErrUnreadable = errors.New("unreadable ledger")

// Write is one write with what was answered.
type Write struct {
	Due, Sent time.Duration
	// Outcome is Acknowledged, Refused, Unknown or Duplicate; 0 while there is no
	// answer, which says as little as Unknown.
	Outcome  Kind
	At       time.Duration
	Attempts int
	Text     string
}

// Look is one read for the write that was acknowledged last when it started.
type Look struct {
	Seq         uint64
	Started, At time.Duration
	// Text is Found, Missing, or why there was no answer.
	Text string
}

// Book is a ledger as it was read.
type Book struct {
	Header Header
	Writes map[uint64]Write
	Looks  []Look
	// Last is the time of the newest line.
	Last time.Duration
	// End is Complete or Interrupted; empty when the client was killed.
	End string
	// Torn is how many last lines were cut short: 0 or 1.
	Torn int
}

// Read reads a ledger. The error is an ErrUnreadable with the number of the line,
// or what reading failed with.
func Read(from io.Reader) (Book, error) {
	book := Book{Writes: map[uint64]Write{}}
	lines := bufio.NewReader(from)
	for number := 1; ; number++ {
		line, err := lines.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return book, fmt.Errorf("read a ledger: %w", err)
		}
		text, whole := strings.CutSuffix(line, "\n")
		switch {
		case number == 1 && !whole:
			return book, fmt.Errorf("%w: it has no header", ErrUnreadable)
		case !whole && text != "":
			book.Torn++
			return book, nil
		case !whole:
			return book, nil
		case number == 1:
			book.Header, err = parseHeader(line)
		default:
			err = book.take(text)
		}
		if err != nil {
			return book, fmt.Errorf("%w: line %d: %w", ErrUnreadable, number, err)
		}
	}
}

func parseHeader(line string) (Header, error) {
	var header Header
	decoder := json.NewDecoder(strings.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&header); err != nil {
		return header, fmt.Errorf("it is no header: %w", err)
	}
	if err := header.valid(); err != nil {
		return header, err
	}
	if again, err := headerLine(header); err != nil || !bytes.Equal(again, []byte(line)) {
		return header, errors.New("the header is not as a ledger's is written")
	}
	return header, nil
}

// take adds one line to the book, if it can follow what is there.
func (b *Book) take(text string) error {
	r, err := parseRecord(text)
	if err != nil {
		return err
	}
	if b.End != "" {
		return errors.New("it follows the end of the run")
	}
	write, sent := b.Writes[r.Seq]
	switch {
	case r.Kind == Sent && sent:
		return fmt.Errorf("write %d is sent a second time", r.Seq)
	case r.Kind == Sent:
		b.Writes[r.Seq] = Write{Due: r.From, Sent: r.At}
	case r.Kind == End && r.Text != Complete && r.Text != Interrupted:
		return errLine
	case r.Kind == End:
		b.End = r.Text
	case !sent:
		return fmt.Errorf("write %d was never sent", r.Seq)
	case r.Kind == Looked && write.Outcome != Acknowledged:
		return fmt.Errorf("write %d is looked for, and was never acknowledged", r.Seq)
	case r.Kind == Looked && r.At < r.From:
		return errors.New("it ends before it begins")
	case r.Kind == Looked:
		b.Looks = append(b.Looks, Look{Seq: r.Seq, Started: r.From, At: r.At, Text: r.Text})
	case write.Outcome != 0:
		return fmt.Errorf("write %d is answered a second time", r.Seq)
	case r.At < write.Sent:
		return fmt.Errorf("write %d is answered before it was sent", r.Seq)
	default:
		write.Outcome, write.At, write.Attempts, write.Text = r.Kind, r.At, r.Attempts, r.Text
		b.Writes[r.Seq] = write
	}
	b.Last = max(b.Last, r.At)
	return nil
}
