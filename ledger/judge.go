package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Verdict is pass, fail or inconclusive.
type Verdict string

// The verdicts.
const (
	Pass         Verdict = "pass"
	Fail         Verdict = "fail"
	Inconclusive Verdict = "inconclusive"
)

// Final is what the set held in the end, as a majority of it says.
type Final struct {
	// Documents are the identities that begin with the run's name, each as often as
	// it was seen.
	Documents []string `json:"documents"`
	// Confirmed says that the read was ordered after every acknowledgement of the
	// run: without it the read proves nothing.
	Confirmed bool `json:"confirmed"`
	// Error is why there is no final read.
	Error string `json:"error,omitempty"`
}

// lateAfter is how long after its moment a write may start and still be on time.
const lateAfter = 10 * time.Millisecond

// shown is how many examples a report holds of each finding.
const shown = 20

// Finding is a set of writes with one thing in common.
type Finding struct {
	Count int `json:"count"`
	// Documents are the first of them.
	Documents []string `json:"documents,omitempty"`
}

func (f *Finding) add(document string) {
	f.Count++
	if len(f.Documents) < shown {
		f.Documents = append(f.Documents, document)
	}
}

// Report is what a check found.
type Report struct {
	Verdict Verdict `json:"verdict"`
	// Reasons say why it is no pass.
	Reasons []string `json:"reasons"`
	Header  Header   `json:"run"`

	Sent         int `json:"sent"`
	Acknowledged int `json:"acknowledged"`
	Refused      int `json:"refused"`
	Unknown      int `json:"unknown"`
	Duplicate    int `json:"duplicate_key_answers"`
	// Unanswered were sent, and the client ended before there was an answer.
	Unanswered int `json:"unanswered"`

	// Lost were acknowledged and are not there.
	Lost Finding `json:"lost"`
	// Duplicates are there more than once.
	Duplicates Finding `json:"duplicates"`
	// Phantoms are there and were never sent.
	Phantoms Finding `json:"phantoms"`
	// RefusedPresent were refused and are there.
	RefusedPresent Finding `json:"refused_but_present"`
	// UnknownPresent and UnknownAbsent are what became of the writes without a clear
	// answer; the same for those that met a duplicate key.
	UnknownPresent   int     `json:"unknown_present"`
	UnknownAbsent    int     `json:"unknown_absent"`
	DuplicatePresent int     `json:"duplicate_key_present"`
	DuplicateAbsent  Finding `json:"duplicate_key_absent"`
	// StaleReads began after a write was acknowledged, and missed it.
	StaleReads Finding `json:"stale_reads"`
	Reads      int     `json:"reads"`
	ReadErrors int     `json:"read_errors"`

	// UserErrors are the writes whose caller was told of an error.
	UserErrors int            `json:"user_errors"`
	Errors     map[string]int `json:"errors,omitempty"`
	// Repeated are the acknowledged writes that took more than one command.
	Repeated int `json:"repeated"`
	// Late writes started more than 10 ms after they fell due.
	Late     int           `json:"late"`
	LateMost time.Duration `json:"late_most_ns"`

	LongestGaps []Gap     `json:"longest_gaps"`
	Latencies   Latencies `json:"latencies"`
	Torn        int       `json:"torn_lines"`
	End         string    `json:"end"`
}

// Unjudged is the report on a ledger that could not be read.
func Unjudged(err error) Report {
	return Report{Verdict: Inconclusive, Reasons: []string{err.Error()}}
}

// Judge compares what was answered with what is there. Only a ledger with at
// least one acknowledgement and a final read that is ordered after all of them
// can pass.
func Judge(book Book, final Final) Report {
	r := Report{
		Header: book.Header, Sent: len(book.Writes), Reads: len(book.Looks), Torn: book.Torn, End: book.End,
		LongestGaps: longestGaps(book.Gaps(), 5), Latencies: book.Latencies(), Reasons: []string{}, Errors: map[string]int{},
	}
	r.answers(book)
	r.looks(book)
	readable := final.Error == "" && final.Confirmed
	if readable {
		r.compare(book, final)
	}
	var failed []string
	for _, f := range []struct {
		finding Finding
		what    string
	}{
		{r.Lost, "acknowledged and lost"},
		{r.Duplicates, "written more than once"},
		{r.Phantoms, "present and never sent"},
	} {
		if f.finding.Count > 0 {
			failed = append(failed, fmt.Sprintf("%d %s", f.finding.Count, f.what))
		}
	}
	if book.Header.ReadConcern == "linearizable" && r.StaleReads.Count > 0 {
		failed = append(failed, fmt.Sprintf("%d linearizable reads missed an acknowledged write", r.StaleReads.Count))
	}
	switch {
	case len(failed) > 0:
		r.Verdict, r.Reasons = Fail, failed
	case r.Sent == 0:
		r.inconclusive("the ledger is empty: nothing was sent")
	case r.Acknowledged == 0:
		r.inconclusive("no write was acknowledged, so none could be lost")
	case final.Error != "":
		r.inconclusive("the final read was impossible: " + final.Error)
	case !final.Confirmed:
		r.inconclusive("the final read is not known to be newer than the last acknowledgement")
	default:
		r.Verdict = Pass
	}
	return r
}

func (r *Report) inconclusive(why string) {
	r.Verdict, r.Reasons = Inconclusive, []string{why}
}

// answers counts what the client was told.
func (r *Report) answers(book Book) {
	for _, w := range book.Writes {
		if late := w.Sent - w.Due; late > lateAfter {
			r.Late++
			r.LateMost = max(r.LateMost, late)
		}
		switch w.Outcome {
		case Acknowledged:
			r.Acknowledged++
			if w.Attempts > 1 {
				r.Repeated++
			}
		case Refused:
			r.Refused++
		case Unknown:
			r.Unknown++
		case Duplicate:
			r.Duplicate++
		default:
			r.Unanswered++
		}
		if w.Outcome == Refused || w.Outcome == Unknown {
			r.UserErrors++
			r.Errors[w.Text]++
		}
	}
}

// looks counts the reads.
func (r *Report) looks(book Book) {
	for _, look := range book.Looks {
		switch look.Text {
		case Found:
		case Missing:
			r.StaleReads.add(book.Header.Document(look.Seq))
		default:
			r.ReadErrors++
		}
	}
}

// compare holds each write against the final read.
func (r *Report) compare(book Book, final Final) {
	present := map[uint64]int{}
	for _, document := range final.Documents {
		seq, ours := book.Header.Sequence(document)
		if _, sent := book.Writes[seq]; !ours || !sent {
			r.Phantoms.add(document)
			continue
		}
		present[seq]++
	}
	for _, seq := range slices.Sorted(maps.Keys(book.Writes)) {
		document, times := book.Header.Document(seq), present[seq]
		if times > 1 {
			r.Duplicates.add(document)
		}
		switch outcome := book.Writes[seq].Outcome; {
		case outcome == Acknowledged && times == 0:
			r.Lost.add(document)
		case outcome == Acknowledged:
		case outcome == Refused && times > 0:
			r.RefusedPresent.add(document)
		case outcome == Refused:
		case outcome == Duplicate && times == 0:
			r.DuplicateAbsent.add(document)
		case outcome == Duplicate:
			r.DuplicatePresent++
		case times > 0:
			r.UnknownPresent++
		default:
			r.UnknownAbsent++
		}
	}
}

// FrequentErrors returns the errors with their numbers, most frequent first, at
// most n.
func (r Report) FrequentErrors(n int) []string {
	texts := slices.SortedFunc(maps.Keys(r.Errors), func(x, y string) int {
		return cmp.Or(cmp.Compare(r.Errors[y], r.Errors[x]), strings.Compare(x, y))
	})
	texts = texts[:min(n, len(texts))]
	for i, text := range texts {
		texts[i] = fmt.Sprintf("%d x %s", r.Errors[text], text)
	}
	return texts
}
