package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/ledger"
)

func writeLedger(t *testing.T, records ...ledger.Record) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "writes.ledger")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	writer, err := ledger.NewWriter(file, ledger.Header{Run: "r", Started: time.Now(), Node: "web-1", ReadConcern: "local"})
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range records {
		if err := writer.Add(record); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestALedgerWithoutASetToReadIsInconclusiveAndNeverAPass(t *testing.T) {
	acknowledged := []ledger.Record{
		{Kind: ledger.Sent, At: 1}, {Kind: ledger.Acknowledged, At: 2, Attempts: 1}, {Kind: ledger.End, At: 3, Text: ledger.Complete},
	}
	torn := writeLedger(t)
	if err := os.Truncate(torn, 10); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"no lab":       writeLedger(t, acknowledged...),
		"an empty one": writeLedger(t),
		"a torn one":   torn,
		"no ledger":    os.DevNull,
	} {
		result := sluice(t, "--state", t.TempDir(), "ledger", "check", path)
		if result.code != exitInconclusive || !strings.Contains(result.out, "verdict: inconclusive") {
			t.Errorf("%s: %s", name, result)
		}
	}
	if result := sluice(t, "--state", t.TempDir(), "ledger", "check", filepath.Join(t.TempDir(), "none")); result.code != exitFailed {
		t.Errorf("no file: %s", result)
	}
}

func TestARunThatMakesNoSenseIsRefused(t *testing.T) {
	for _, flags := range [][]string{
		{"--rate", "0"},
		{"--rate", "NaN"},
		{"--via", "pigeon"},
		{"--write-concern", "most"},
		{"--write-concern", "0"},
		{"--read-concern", "hearsay"},
		{"--duration", "-1s"},
		{"--op-timeout", "0s"},
		{"--concurrency", "0"},
		{"--reads", "-1"},
	} {
		out := filepath.Join(t.TempDir(), "out.ledger")
		result := sluice(t, append([]string{"--state", t.TempDir(), "ledger", "run", "--out", out}, flags...)...)
		if result.code != exitFailed || strings.Contains(result.errOut, "not running") {
			t.Errorf("%q: %s", flags, result)
		}
		if _, err := os.Lstat(out); err == nil {
			t.Errorf("%q left a file", flags)
		}
	}
}

func TestALedgerThatExistsIsNeverWrittenTo(t *testing.T) {
	path := writeLedger(t)
	result := sluice(t, "--state", t.TempDir(), "ledger", "run", "--out", path)
	if result.code != exitFailed || !strings.Contains(result.errOut, "exists") {
		t.Errorf("%s", result)
	}
}

func TestAVerdictIsAnExitCode(t *testing.T) {
	for verdict, want := range map[ledger.Verdict]int{
		ledger.Pass: exitOK, ledger.Fail: exitNo, ledger.Inconclusive: exitInconclusive, "": exitInconclusive,
	} {
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		std := streams{out: null, err: null}
		a := &app{std: std, output: "json"}
		if code := exitCode(t.Context(), std, a.judged(ledger.Report{Verdict: verdict})); code != want {
			t.Errorf("%q ends with %d, want %d", verdict, code, want)
		}
		_ = null.Close()
	}
}

func TestAReportShowsWhatWasLost(t *testing.T) {
	var out strings.Builder
	showLedger(&out, ledger.Report{
		Verdict: ledger.Fail, Reasons: []string{"1 acknowledged and lost"}, Header: ledger.Header{Run: "r"},
		Lost: ledger.Finding{Count: 1, Documents: []string{"r/17"}}, Errors: map[string]int{"no way": 3},
		LongestGaps: []ledger.Gap{{From: time.Second, To: 2 * time.Second}},
		Latencies:   ledger.Latencies{Count: 2, Histogram: []ledger.Bucket{{UpTo: time.Millisecond, Count: 2}}},
	})
	for _, want := range []string{"verdict: fail", "1 acknowledged and lost", "1 (r/17)", "3 x no way", "1000.0 ms, from", "<=      1ms"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}
