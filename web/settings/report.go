package settings

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Report is what a process says of its configuration, as JSON, at GET /settings of
// its operations endpoint.
type Report struct {
	// Known is false before Consul's first answer.
	Known bool `json:"known"`
	// Index is Consul's index up to which the process knows the keys: whoever wrote
	// at a higher one has not been heard yet.
	Index uint64 `json:"index"`
	// Confirmed is when Consul last said so; Away is why it cannot be asked now, and
	// AwaySince since when.
	Confirmed time.Time `json:"confirmed,omitzero"`
	Away      string    `json:"away,omitempty"`
	AwaySince time.Time `json:"away_since,omitzero"`
	// Keys are the values in force.
	Keys []ReportKey `json:"keys"`
	// Unknown are keys that mean nothing.
	Unknown []string `json:"unknown,omitempty"`
}

// ReportKey is one key with the value in force.
type ReportKey struct {
	Key     string `json:"key"`
	Value   string `json:"value"`
	Default bool   `json:"default"`
	// Refused is what was written instead, if it is not in force, and Why says why.
	Refused string `json:"refused,omitempty"`
	Why     string `json:"why,omitempty"`
	// Since is when Value took effect, and Index Consul's index of the answer that
	// brought it.
	Since time.Time `json:"since"`
	Index uint64    `json:"index,omitempty"`
}

// Report returns what is in force now.
func (l *Live) Report() Report {
	// The index first: a value that is read after it is at least as new.
	written, now := l.Source(), l.Current()
	report := Report{Known: written.Known, Index: written.Index, Confirmed: written.Confirmed, Unknown: now.Unknown}
	if written.Err != nil {
		report.Away, report.AwaySince = written.Err.Error(), written.FailingSince
	}
	for _, item := range now.Items {
		report.Keys = append(report.Keys, ReportKey(item))
	}
	return report
}

// Handler serves the report.
func (l *Live) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(l.Report()) // whoever asks has gone
	})
}

// RunsWith returns nil when the report's process has heard of Consul's index and has
// value in force for key, else what it has.
func (r Report) RunsWith(key, value string, index uint64) error {
	for _, item := range r.Keys {
		switch {
		case item.Key != key:
			continue
		case r.Index < index:
			return fmt.Errorf("it has heard of Consul's index %d, not of %d yet", r.Index, index)
		case item.Value != value:
			return fmt.Errorf("it runs with %q", item.Value)
		}
		return nil
	}
	return fmt.Errorf("it knows no key %q", key)
}
