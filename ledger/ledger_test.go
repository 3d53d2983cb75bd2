package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/quick"
	"time"
)

func header() Header {
	return Header{
		Format: Format, Version: Version, Run: "run1", Started: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		Node: "web-1", Via: "port", Rate: 200, WriteConcern: "majority", ReadConcern: "local", Timeout: time.Second,
	}
}

// text is a ledger with these lines after its header.
func text(t testing.TB, records ...Record) string {
	t.Helper()
	var buffer bytes.Buffer
	writer, err := NewWriter(&buffer, header())
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range records {
		if err := writer.Add(record); err != nil {
			t.Fatal(err)
		}
	}
	return buffer.String()
}

func book(t testing.TB, records ...Record) Book {
	t.Helper()
	b, err := Read(strings.NewReader(text(t, records...)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// whole is a run with one of each.
func whole() []Record {
	return []Record{
		{Kind: Sent, Seq: 0, From: 0, At: 1000},
		{Kind: Acknowledged, Seq: 0, At: 3000, Attempts: 1},
		{Kind: Sent, Seq: 1, From: 5000, At: 5100},
		{Kind: Looked, Seq: 0, From: 5200, At: 5300, Text: Found},
		{Kind: Refused, Seq: 1, At: 6000, Text: "no \"way\"\nhere"},
		{Kind: Sent, Seq: 2, From: 6000, At: 6100},
		{Kind: Unknown, Seq: 2, At: 6200, Attempts: 2, Text: "§ silence"},
		{Kind: Sent, Seq: 3, From: 7000, At: 7100},
		{Kind: Duplicate, Seq: 3, At: 7200, Attempts: 2},
		{Kind: Sent, Seq: 4, From: 8000, At: 8100},
		{Kind: End, At: 9000, Text: Complete},
	}
}

func TestALineReadsBackAsItWasWritten(t *testing.T) {
	kinds := []Kind{Sent, Acknowledged, Refused, Unknown, Duplicate, Looked, End}
	property := func(kind uint8, seq uint64, from, at int64, attempts uint16, text string) bool {
		record := Record{Kind: kinds[int(kind)%len(kinds)], At: time.Duration(at & (1<<62 - 1))}
		if record.Kind != End {
			record.Seq = seq
		}
		if record.Kind == Sent || record.Kind == Looked {
			record.From = time.Duration(from & (1<<62 - 1))
		}
		if record.Kind.answer() {
			record.Attempts = int(attempts)
		}
		if record.Kind.told() {
			record.Text = strings.ToValidUTF8(text, "")
		}
		line := string(record.appendTo(nil))
		read, err := parseRecord(strings.TrimSuffix(line, "\n"))
		return err == nil && read == record && strings.Count(line, "\n") == 1
	}
	if err := quick.Check(property, &quick.Config{MaxCount: 2000}); err != nil {
		t.Error(err)
	}
}

func TestALedgerCutAtAnyByteIsReadUpToItsLastWholeLine(t *testing.T) {
	all := text(t, whole()...)
	first := strings.Index(all, "\n") + 1
	for size := range len(all) {
		read, err := Read(strings.NewReader(all[:size]))
		if size < first {
			if !errors.Is(err, ErrUnreadable) {
				t.Fatalf("%d bytes, without a whole header: %v", size, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if torn := all[size-1] != '\n'; (read.Torn == 1) != torn {
			t.Errorf("%d bytes: torn is %d", size, read.Torn)
		}
		if read.End != "" {
			t.Errorf("%d of %d bytes have an end", size, len(all))
		}
	}
}

func TestALineThatCannotBeMakesTheLedgerUnreadable(t *testing.T) {
	begin := text(t)
	sent := "s 0 0 0\n"
	for name, lines := range map[string]string{
		"an empty line":            "\n",
		"an unknown kind":          "x 1 2 3\n",
		"too few words":            "s 0 0\n",
		"too many words":           "s 0 0 0 0\n",
		"two spaces":               "s 0  0 0\n",
		"a number in another form": "s 00 0 0\n",
		"a sign":                   "s +1 0 0\n",
		"a time before the start":  "s 0 -1 0\n",
		"a carriage return":        "s 0 0 0\r\n",
		"zeros from a torn block":  "s 0 0 0\n\x00\x00\x00\n",
		"a text in other quotes":   sent + "r 0 1 1 `no`\n",
		"a text without its end":   sent + "r 0 1 1 \"no\n",
		"a torn line inside":       "s 0 0" + sent,
		"sent twice":               sent + sent,
		"answered twice":           sent + "a 0 1 1\na 0 1 1\n",
		"answered and never sent":  "a 0 1 1\n",
		"answered before sent":     "s 0 0 5\na 0 4 1\n",
		"looked for a stranger":    "l 0 1 2 \"found\"\n",
		"looked before it is told": sent + "l 0 1 2 \"found\"\n",
		"a look that ends early":   sent + "a 0 1 1\nl 0 3 2 \"found\"\n",
		"an end of another kind":   "e 1 \"perhaps\"\n",
		"something after the end":  "e 1 \"complete\"\n" + sent,
	} {
		if _, err := Read(strings.NewReader(begin + lines)); !errors.Is(err, ErrUnreadable) {
			t.Errorf("%s is read: %v", name, err)
		}
	}
	for name, first := range map[string]string{
		"nothing":                "",
		"no header":              sent,
		"another format":         strings.Replace(begin, Format, "diary", 1),
		"a later version":        strings.Replace(begin, `"version":1`, `"version":2`, 1),
		"a field that is new":    strings.Replace(begin, `{"format"`, `{"extra":1,"format"`, 1),
		"a header and something": strings.Replace(begin, "}\n", "} {}\n", 1),
		"a header in other form": strings.Replace(begin, `,"version"`, `, "version"`, 1),
	} {
		if _, err := Read(strings.NewReader(first)); !errors.Is(err, ErrUnreadable) {
			t.Errorf("%s is read: %v", name, err)
		}
	}
}

// What is read is exactly what would be written: nothing is taken that a Writer
// does not make.
func FuzzRead(f *testing.F) {
	f.Add(text(f, whole()...))
	f.Add(text(f))
	f.Add(text(f, whole()...)[:300])
	f.Add("s 0 0 0\n")
	f.Fuzz(func(t *testing.T, input string) {
		first, rest, _ := strings.Cut(input, "\n")
		read, err := Read(strings.NewReader(input))
		if err != nil {
			return
		}
		again, err := headerLine(read.Header)
		if err != nil || string(again) != first+"\n" {
			t.Fatalf("header %q is written as %q: %v", first, again, err)
		}
		for rest != "" {
			line, more, whole := strings.Cut(rest, "\n")
			rest = more
			record, err := parseRecord(line)
			if !whole {
				if read.Torn != 1 {
					t.Fatalf("torn line %q is not counted", line)
				}
				continue
			}
			if err != nil || string(record.appendTo(nil)) != line+"\n" {
				t.Fatalf("line %q was taken: %v", line, err)
			}
		}
		Judge(read, Final{Confirmed: true, Documents: []string{read.Header.Document(0)}})
	})
}

type brokenWriter struct{ room int }

func (w *brokenWriter) Write(p []byte) (int, error) {
	if len(p) > w.room {
		n := w.room
		w.room = 0
		return n, errors.New("disk full")
	}
	w.room -= len(p)
	return len(p), nil
}

func TestNothingIsWrittenAfterALineThatBroke(t *testing.T) {
	broken := &brokenWriter{room: 500}
	writer, err := NewWriter(broken, header())
	if err != nil {
		t.Fatal(err)
	}
	for seq := range uint64(200) {
		if err = writer.Add(Record{Kind: Sent, Seq: seq}); err != nil {
			break
		}
	}
	if err == nil {
		t.Fatal("the full disk was not noticed")
	}
	broken.room = 500
	if again := writer.Add(Record{Kind: Sent, Seq: 999}); again == nil || broken.room != 500 {
		t.Error("a line was written after the broken one")
	}
}

func TestTheVerdictIsNeverAPassWithoutProof(t *testing.T) {
	acknowledged := []Record{{Kind: Sent, Seq: 0, At: 1}, {Kind: Acknowledged, Seq: 0, At: 2, Attempts: 1}}
	there := Final{Confirmed: true, Documents: []string{"run1/0"}}
	for _, c := range []struct {
		name    string
		records []Record
		final   Final
		want    Verdict
	}{
		{"acknowledged and there", acknowledged, there, Pass},
		{"nothing sent", nil, Final{Confirmed: true}, Inconclusive},
		{"nothing acknowledged", []Record{{Kind: Sent, At: 1}, {Kind: Unknown, At: 2, Text: "x"}}, there, Inconclusive},
		{"no final read", acknowledged, Final{Error: "no primary"}, Inconclusive},
		{"an empty final read that failed", acknowledged, Final{Error: "no primary", Confirmed: true}, Inconclusive},
		{"a final read without an order", acknowledged, Final{Documents: []string{"run1/0"}}, Inconclusive},
		{"a stale final read", acknowledged, Final{}, Inconclusive},
		{"lost", acknowledged, Final{Confirmed: true}, Fail},
		{"there twice", acknowledged, Final{Confirmed: true, Documents: []string{"run1/0", "run1/0"}}, Fail},
		{"a phantom", acknowledged, Final{Confirmed: true, Documents: []string{"run1/0", "run1/7"}}, Fail},
		{"a phantom in another form", acknowledged, Final{Confirmed: true, Documents: []string{"run1/0", "run1/00"}}, Fail},
		{"a phantom, nothing sent", nil, there, Fail},
	} {
		if got := Judge(book(t, c.records...), c.final); got.Verdict != c.want {
			t.Errorf("%s: %s (%s), want %s", c.name, got.Verdict, got.Reasons, c.want)
		}
	}
	if got := Unjudged(ErrUnreadable); got.Verdict != Inconclusive {
		t.Errorf("an unreadable ledger: %s", got.Verdict)
	}
}

// A primary that is cut off answers a duplicate key and rolls the document back.
func TestADuplicateKeyIsNoAcknowledgement(t *testing.T) {
	records := []Record{
		{Kind: Sent, Seq: 0, At: 1},
		{Kind: Acknowledged, Seq: 0, At: 2, Attempts: 1},
		{Kind: Sent, Seq: 1, At: 3},
		{Kind: Duplicate, Seq: 1, At: 4, Attempts: 2},
	}
	r := Judge(book(t, records...), Final{Confirmed: true, Documents: []string{"run1/0"}})
	if r.Verdict != Pass || r.Acknowledged != 1 || r.Lost.Count != 0 || r.DuplicateAbsent.Count != 1 {
		t.Errorf("rolled back: %+v", r)
	}
	r = Judge(book(t, records...), Final{Confirmed: true, Documents: []string{"run1/0", "run1/1"}})
	if r.Verdict != Pass || r.DuplicatePresent != 1 || r.DuplicateAbsent.Count != 0 {
		t.Errorf("kept: %+v", r)
	}
}

func TestAStaleReadIsCountedAndFailsOnlyWhereFreshnessWasPromised(t *testing.T) {
	records := []Record{
		{Kind: Sent, Seq: 0, At: 1},
		{Kind: Acknowledged, Seq: 0, At: 2, Attempts: 1},
		{Kind: Looked, Seq: 0, From: 3, At: 4, Text: Missing},
		{Kind: Looked, Seq: 0, From: 5, At: 6, Text: "silence"},
	}
	b := book(t, records...)
	final := Final{Confirmed: true, Documents: []string{"run1/0"}}
	if r := Judge(b, final); r.Verdict != Pass || r.StaleReads.Count != 1 || r.ReadErrors != 1 || r.Reads != 2 {
		t.Errorf("local: %+v", r)
	}
	b.Header.ReadConcern = "linearizable"
	if r := Judge(b, final); r.Verdict != Fail {
		t.Errorf("linearizable: %s", r.Verdict)
	}
}

// Random runs are judged as a second, slower count of the same says.
func TestEveryWriteIsCountedOnce(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		var records []Record
		var documents []string
		lost, duplicates, phantoms, acknowledged := 0, 0, 0, 0
		for seq := range uint64(random.IntN(60)) {
			records = append(records, Record{Kind: Sent, Seq: seq, At: time.Duration(seq)})
			kind := []Kind{Acknowledged, Acknowledged, Acknowledged, Refused, Unknown, Duplicate, 0}[random.IntN(7)]
			if kind != 0 {
				records = append(records, Record{Kind: kind, Seq: seq, At: time.Duration(seq + 1)})
			}
			times := []int{0, 1, 1, 1, 1, 1, 1, 2}[random.IntN(8)]
			documents = append(documents, slices.Repeat([]string{fmt.Sprintf("run1/%d", seq)}, times)...)
			if kind == Acknowledged {
				acknowledged++
				if times == 0 {
					lost++
				}
			}
			if times == 2 {
				duplicates++
			}
		}
		if random.IntN(4) == 0 {
			phantoms++
			documents = append(documents, "run1/1000")
		}
		random.Shuffle(len(documents), func(i, j int) { documents[i], documents[j] = documents[j], documents[i] })
		r := Judge(book(t, records...), Final{Confirmed: true, Documents: documents})
		if r.Lost.Count != lost || r.Duplicates.Count != duplicates || r.Phantoms.Count != phantoms {
			t.Errorf("seed %d: lost %d, duplicates %d, phantoms %d; want %d, %d, %d",
				seed, r.Lost.Count, r.Duplicates.Count, r.Phantoms.Count, lost, duplicates, phantoms)
		}
		want := Pass
		switch {
		case lost+duplicates+phantoms > 0:
			want = Fail
		case acknowledged == 0:
			want = Inconclusive
		}
		if r.Verdict != want {
			t.Errorf("seed %d: %s, want %s", seed, r.Verdict, want)
		}
		if total := r.Acknowledged + r.Refused + r.Unknown + r.Duplicate + r.Unanswered; total != r.Sent {
			t.Errorf("seed %d: %d of %d writes are counted", seed, total, r.Sent)
		}
	}
}

func TestTheLongestGapIsTheOneThatTouchesTheFault(t *testing.T) {
	at := func(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }
	var records []Record
	for i, ms := range []int{10, 20, 500, 510, 520, 820, 830} {
		records = append(records,
			Record{Kind: Sent, Seq: uint64(i), From: at(ms - 5), At: at(ms - 5)},
			Record{Kind: Acknowledged, Seq: uint64(i), At: at(ms), Attempts: 1})
	}
	b := book(t, append(records, Record{Kind: End, At: at(840), Text: Complete})...)
	gaps := b.Gaps()
	if len(gaps) != 8 || gaps[0].Length() != at(10) || gaps[7].Length() != at(10) {
		t.Errorf("gaps: %v", gaps)
	}
	start := b.Header.Started
	if gap := b.LongestGap(start.Add(at(600)), start.Add(at(700))); gap.From != at(520) || gap.To != at(820) {
		t.Errorf("the fault's gap: %v", gap)
	}
	if gap := b.LongestGap(start, start.Add(at(900))); gap.Length() != at(480) {
		t.Errorf("the longest gap: %v", gap)
	}
	if r := Judge(b, Final{}); r.LongestGaps[0].Length() != at(480) || r.LongestGaps[1].Length() != at(300) {
		t.Errorf("longest first: %v", r.LongestGaps)
	}
}

func TestAWriteThatHadToWaitForItsTurnCountsFromItsMoment(t *testing.T) {
	b := book(t,
		Record{Kind: Sent, Seq: 0, From: 0, At: 0},
		Record{Kind: Acknowledged, Seq: 0, At: time.Millisecond, Attempts: 1},
		Record{Kind: Sent, Seq: 1, From: time.Second, At: 3 * time.Second},
		Record{Kind: Acknowledged, Seq: 1, At: 3*time.Second + time.Millisecond, Attempts: 1},
	)
	l := b.Latencies()
	if l.Count != 2 || l.P50 != time.Millisecond || l.Longest != 2*time.Second+time.Millisecond {
		t.Errorf("latencies: %+v", l)
	}
	count := 0
	for _, bucket := range l.Histogram {
		count += bucket.Count
	}
	if count != 2 || l.Histogram[0] != (Bucket{UpTo: time.Millisecond, Count: 1}) {
		t.Errorf("histogram: %v", l.Histogram)
	}
	if r := Judge(b, Final{}); r.Late != 1 || r.LateMost != 2*time.Second {
		t.Errorf("late: %d, at most %s", r.Late, r.LateMost)
	}
}
