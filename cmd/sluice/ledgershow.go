package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"sluice/ledger"
)

// judged shows a report and turns its verdict into the exit code.
func (a *app) judged(report ledger.Report) error {
	if a.json() {
		if err := a.print(report); err != nil {
			return err
		}
	} else {
		showLedger(a.std.out, report)
	}
	switch report.Verdict {
	case ledger.Pass:
		return nil
	case ledger.Fail:
		return no()
	default:
		return &codeError{code: exitInconclusive}
	}
}

// showLedger prints a report for people.
func showLedger(out io.Writer, r ledger.Report) {
	fmt.Fprintf(out, "verdict: %s\n", r.Verdict)
	for _, reason := range r.Reasons {
		fmt.Fprintf(out, "  %s\n", reason)
	}
	if r.Header.Run == "" {
		return
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(what string, format string, args ...any) { fmt.Fprintf(table, what+"\t"+format+"\n", args...) }
	line("written", "%d sent: %d acknowledged, %d refused, %d unknown, %d met a duplicate key, %d without an answer",
		r.Sent, r.Acknowledged, r.Refused, r.Unknown, r.Duplicate, r.Unanswered)
	line("lost", "%s", findings(r.Lost))
	line("duplicates", "%s", findings(r.Duplicates))
	line("phantoms", "%s", findings(r.Phantoms))
	line("refused, but there", "%s", findings(r.RefusedPresent))
	line("unknown", "%d are there, %d are not", r.UnknownPresent, r.UnknownAbsent)
	line("duplicate key", "%d are there, %d are not", r.DuplicatePresent, r.DuplicateAbsent.Count)
	line("stale reads", "%s of %d (%s), %d failed", findings(r.StaleReads), r.Reads, r.Header.ReadConcern, r.ReadErrors)
	line("user errors", "%d; %d acknowledged writes took more than one command", r.UserErrors, r.Repeated)
	for _, text := range r.FrequentErrors(3) {
		line("", "%s", text)
	}
	line("started late", "%d, at most %s", r.Late, ms(r.LateMost))
	line("latency", "median %s, 90 %% %s, 99 %% %s, longest %s", ms(r.Latencies.P50), ms(r.Latencies.P90), ms(r.Latencies.P99), ms(r.Latencies.Longest))
	for i, gap := range r.LongestGaps {
		what := ""
		if i == 0 {
			what = "without an acknowledged write"
		}
		line(what, "%s, from %s to %s", ms(gap.Length()), gap.Began.Format(clock), gap.Ended.Format(clock))
	}
	_ = table.Flush()
	showHistogram(out, r.Latencies)
}

// clock is how moments are shown that others are matched with.
const clock = "15:04:05.000"

func findings(f ledger.Finding) string {
	if f.Count == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%s)", f.Count, strings.Join(f.Documents[:min(3, len(f.Documents))], ", "))
}

func ms(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

// showHistogram draws the latencies.
func showHistogram(out io.Writer, l ledger.Latencies) {
	const width = 50
	for _, bucket := range l.Histogram {
		bar := strings.Repeat("#", (bucket.Count*width+l.Count-1)/l.Count)
		fmt.Fprintf(out, "  <= %8s %7d %s\n", bucket.UpTo, bucket.Count, bar)
	}
}
