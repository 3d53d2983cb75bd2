package failover

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/ledger"
)

// Summary is what the runs of a row come to, for one profile and one way.
type Summary struct {
	N               int     `json:"n"`
	MedianMS        float64 `json:"median_ms"`
	LongestMS       float64 `json:"longest_ms"`
	Later           int     `json:"acknowledged_later"`
	BackLongestMS   float64 `json:"back_longest_ms"`
	SteadyLongestMS float64 `json:"steady_longest_ms"`
	UserErrors      int     `json:"user_errors"`
	Lost            int     `json:"lost"`
	StaleReads      int     `json:"stale_reads"`
	// Unproved are the runs whose ledger was not judged, Problems those that say
	// nothing of the row; neither is among N.
	Unproved int      `json:"unproved"`
	Problems []string `json:"problems,omitempty"`
}

// Summarize sums up the results of a row.
func Summarize(row Row, profile, via string, results []Result) Summary {
	var s Summary
	var gaps []float64
	for _, r := range results {
		if r.Row != row.Name || r.Profile != profile || r.Via != via {
			continue
		}
		s.Lost += r.Lost
		switch {
		case r.Problem != "":
			s.Problems = append(s.Problems, r.Problem)
			continue
		case r.Verdict != ledger.Pass && r.Verdict != ledger.Fail:
			s.Unproved++
			continue
		}
		s.N++
		gaps = append(gaps, r.GapMS)
		s.UserErrors += r.UserErrors
		s.StaleReads += r.StaleReads
		s.Later += r.Later
		s.BackLongestMS = max(s.BackLongestMS, r.BackMS)
		s.SteadyLongestMS = max(s.SteadyLongestMS, r.SteadyMS)
	}
	if len(gaps) > 0 {
		slices.Sort(gaps)
		s.MedianMS = (gaps[(len(gaps)-1)/2] + gaps[len(gaps)/2]) / 2
		s.LongestMS = gaps[len(gaps)-1]
	}
	return s
}

// Met reports whether the summary meets the row's bars.
func (s Summary) Met(row Row) bool {
	within := func(ms float64, bar time.Duration) bool { return bar == 0 || ms <= milliseconds(bar) }
	if s.Lost > 0 || s.Unproved > 0 || len(s.Problems) > 0 || s.N == 0 {
		return false
	}
	return row.Documented || s.UserErrors == 0 &&
		within(s.MedianMS, row.Median) && within(s.LongestMS, row.Longest) && within(s.BackLongestMS, row.Back)
}

func (row Row) bar() string {
	switch {
	case row.Documented:
		return "as documented, 0 lost"
	case row.Median == 0 && row.Longest == 0:
		return "fails over"
	case row.Median == 0:
		return fmt.Sprintf("<= %d", row.Longest.Milliseconds())
	}
	text := fmt.Sprintf("<= %d / %d", row.Median.Milliseconds(), row.Longest.Milliseconds())
	if row.Back > 0 {
		text += fmt.Sprintf("; back <= %d", row.Back.Milliseconds())
	}
	return text
}

func (s Summary) cell(row Row) string {
	switch {
	case s.N == 0 && len(s.Problems) > 0:
		return "no result"
	case s.N == 0:
		return "-"
	}
	text := fmt.Sprintf("%.0f / %.0f (n=%d)", s.MedianMS, s.LongestMS, s.N)
	if row.Back > 0 {
		text += fmt.Sprintf("; back %.0f", s.BackLongestMS)
	}
	return text
}

// Table is the result as Markdown: the fast profile, the same through a driver
// with every member, and the stock profile side by side. Times are milliseconds
// without an acknowledged write, median / longest.
func Table(rows []Row, results []Result) string {
	var b strings.Builder
	b.WriteString("| fault | bar | fast, port 5501 | met | user errors | lost | fast, all members | stock, port 5501 | stock, all members |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|\n")
	for _, row := range rows {
		port, members := Summarize(row, fast, "port", results), Summarize(row, fast, "members", results)
		stockPort, stockMembers := Summarize(row, stock, "port", results), Summarize(row, stock, "members", results)
		met := "no"
		if port.Met(row) {
			met = "yes"
		}
		if port.N == 0 {
			met = "-"
		}
		lost := port.Lost + members.Lost + stockPort.Lost + stockMembers.Lost
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %d | %d | %s | %s | %s |\n", row.Title, row.bar(), port.cell(row), met,
			port.UserErrors, lost, members.cell(row), stockPort.cell(row), stockMembers.cell(row))
	}
	b.WriteString(weak(rows, results))
	return b.String()
}

// weak says what became of those who wrote with a weak write concern.
func weak(rows []Row, results []Result) string {
	var b strings.Builder
	for _, row := range rows {
		for _, way := range row.Also {
			for _, profile := range []string{fast, stock} {
				if s := Summarize(row, profile, way.String(), results); s.N > 0 {
					fmt.Fprintf(&b, "\n%s, profile `%s`, a client with `w:%s` (n=%d): %d writes acknowledged after the fault had ended, %d of them lost.\n",
						row.Title, profile, way.WriteConcern, s.N, s.Later, s.Lost)
				}
			}
		}
	}
	return b.String()
}

// fast is the profile that the bars are for.
const fast = "fast"

// Timelines shows, for each row, the run of the fast profile whose gap is the
// median's.
func Timelines(rows []Row, results []Result) string {
	var b strings.Builder
	for _, row := range rows {
		var runs []Result
		for _, r := range results {
			if r.Row == row.Name && r.Profile == fast && r.Via == "port" && r.Problem == "" && len(r.Timeline) > 0 {
				runs = append(runs, r)
			}
		}
		if len(runs) == 0 {
			continue
		}
		slices.SortFunc(runs, func(x, y Result) int { return int(1000 * (x.GapMS - y.GapMS)) })
		middle := runs[len(runs)/2]
		fmt.Fprintf(&b, "- **%s** (%.0f ms):", row.Title, middle.GapMS)
		for i, m := range middle.Timeline {
			if i > 0 {
				b.WriteString(",")
			}
			fmt.Fprintf(&b, " %.0f %s", m.MS, m.What)
			if m.Who != "" {
				fmt.Fprintf(&b, " (%s)", m.Who)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// Markers between which Insert writes.
const (
	begin = "<!-- make bench-failover: begin -->"
	end   = "<!-- make bench-failover: end -->"
)

// Insert puts text between the markers of a page.
func Insert(page, text string) (string, error) {
	before, rest, found := strings.Cut(page, begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return "", fmt.Errorf("the page has no %s and %s", begin, end)
	}
	return before + begin + "\n" + strings.TrimSpace(text) + "\n" + end + after, nil
}
