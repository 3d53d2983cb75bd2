package main

import (
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
)

// The marks between which the table stands in a page.
const (
	pageBegin = "<!-- make bench-gateway: begin -->"
	pageEnd   = "<!-- make bench-gateway: end -->"
)

// render returns the whole result as Markdown.
func render(r *results) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s, on %s. %s. Load by %s; at a constant rate by our own generator. Medians; ratios are to sluice.\n", r.Machine, r.Date, r.Settings, r.Generator)
	for _, s := range scenarios() {
		rows := r.rows(s)
		if len(rows) == 0 {
			continue
		}
		fmt.Fprintf(&text, "\n### %s\n\n%s\n\n%s", s.title, s.explains, strings.Join(rows, ""))
	}
	text.WriteString("\n### The bars\n\n| what | bar | found | |\n|---|---|---|---|\n")
	for _, b := range judge(r) {
		fmt.Fprintf(&text, "| %s | %s | %s | %s |\n", b.What, b.Limit, b.Found, b.Verdict)
	}
	text.WriteString("\n### The proxies\n\n| | version | |\n|---|---|---|\n")
	for _, p := range peers() {
		version, ok := r.Versions[p.name]
		switch {
		case ok:
			fmt.Fprintf(&text, "| %s | %s | %s |\n", p.name, version, p.remark)
		case r.Missing[p.name] != "":
			fmt.Fprintf(&text, "| %s | – | not available: %s |\n", p.name, cell(r.Missing[p.name]))
		}
	}
	return text.String()
}

// rows are the lines of a scenario's tables, with their heads; none if it was not
// run.
func (r *results) rows(s scenario) []string {
	var rows []string
	for _, name := range s.samples {
		measured, values := r.sampleRows(name), r.valueRows(name)
		if len(measured)+len(values) > 0 && len(s.samples) > 1 {
			rows = append(rows, "\n"+name+":\n\n")
		}
		if len(measured) > 0 {
			rows = append(append(rows, sampleHead), measured...)
		}
		if len(measured) > 0 && len(values) > 0 {
			rows = append(rows, "\n")
		}
		if len(values) > 0 {
			rows = append(append(rows, valueHead), values...)
		}
	}
	return rows
}

const (
	sampleHead = "| | CPU/request, µs | ratio | requests/s | ratio | p50, µs | p99, µs | spread of CPU | failed |\n|---|---|---|---|---|---|---|---|---|\n"
	valueHead  = "| | | | |\n|---|---|---|---|\n"
)

// sampleRows has a row for every peer, also for one without figures; none if no
// peer has any.
func (r *results) sampleRows(scenario string) []string {
	var rows []string
	any := false
	for _, p := range peers() {
		samples := r.of(scenario, p.name)
		if len(samples) == 0 {
			if why := r.why(scenario, p.name); why != "" {
				rows = append(rows, fmt.Sprintf("| %s | %s |||||||| \n", p.name, cell(why)))
			}
			continue
		}
		any = true
		rows = append(rows, r.sampleRow(scenario, p.name, samples))
	}
	if !any {
		return nil
	}
	return rows
}

func (r *results) sampleRow(scenario, peer string, samples []sample) string {
	var failed int64
	mark := ""
	for _, s := range samples {
		failed += s.Failed
		if s.Disturbed {
			mark = " (disturbed)"
		}
	}
	return fmt.Sprintf("| %s%s | %s | %s | %s | %s | %s | %s | %.0f %% | %d |\n", peer, mark,
		number(median(column(samples, cpu))), r.ratio(scenario, peer, cpu),
		number(median(column(samples, rate))), r.ratio(scenario, peer, rate),
		number(median(column(samples, p50))), number(median(column(samples, p99))),
		100*spread(column(samples, cpu)), failed)
}

// ratio is how often our figure a peer's is.
func (r *results) ratio(scenario, peer string, f figure) string {
	ours, ok := r.median(scenario, sluice, f)
	theirs, also := r.median(scenario, peer, f)
	if !ok || !also || ours == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", theirs/ours)
}

func (r *results) valueRows(scenario string) []string {
	var rows []string
	for _, v := range r.Values {
		if v.Scenario == scenario {
			rows = append(rows, fmt.Sprintf("| %s | %s | %s %s | %s |\n", v.Peer, v.Name, number(v.Value), v.Unit, cell(v.Note)))
		}
	}
	if len(rows) == 0 {
		return nil
	}
	for _, f := range r.Refusals {
		if f.Scenario == scenario {
			rows = append(rows, fmt.Sprintf("| %s | %s | | |\n", f.Peer, cell(f.Why)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Missing)) {
		rows = append(rows, fmt.Sprintf("| %s | not available | | |\n", name))
	}
	return rows
}

// cell is a text that breaks no table.
func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", "\\|")
}

// number rounds to three digits that say something, and groups thousands.
func number(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "–"
	case v != 0 && math.Abs(v) < 10:
		return fmt.Sprintf("%.2f", v)
	case v != 0 && math.Abs(v) < 100:
		return fmt.Sprintf("%.1f", v)
	}
	digits := fmt.Sprintf("%.0f", v)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// insert puts text between the marks of a page.
func insert(page, text string) (string, error) {
	before, rest, found := strings.Cut(page, pageBegin)
	_, after, closed := strings.Cut(rest, pageEnd)
	if !found || !closed {
		return "", fmt.Errorf("the page has no %s and %s", pageBegin, pageEnd)
	}
	return before + pageBegin + "\n" + strings.TrimSpace(text) + "\n" + pageEnd + after, nil
}

func replace(path, text string) error {
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	changed, err := insert(string(page), text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(changed), 0o644)
}
