package proxy

import (
	"fmt"
	"html/template"
	"strings"
	"time"
)

// soon is how long before its end a certificate is marked.
const soon = 7 * 24 * time.Hour

// adminFuncs put values into words for the page.
func adminFuncs() template.FuncMap {
	return template.FuncMap{
		"join":    func(list []string) string { return strings.Join(list, ", ") },
		"number":  func(f float64) string { return shortNumber(f) },
		"percent": func(f float64) string { return fmt.Sprintf("%.0f %%", 100*f) },
		"took":    shortTime,
		"stamp":   func(t time.Time) string { return t.UTC().Format("15:04:05") },
		"full":    func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
		"until":   until,
		"expiry":  expiry,
		"row":     func(v *adminView, i InstanceState) instanceRow { return instanceRow{i, v.Changes} },
		"inc":     func(i int) int { return i + 1 },
	}
}

// instanceRow is an instance, and whether it can be drained from the page.
type instanceRow struct {
	InstanceState
	Changes bool
}

// State says in a word how an instance is, for its color: good, bad or warn.
func (r instanceRow) State() string {
	switch {
	case !r.Allowed:
		return "bad"
	case r.Draining, !r.Eligible, r.Deferred:
		return "warn"
	}
	return "good"
}

func shortNumber(f float64) string {
	switch {
	case f == 0:
		return "0"
	case f < 10:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.0f", f)
}

// shortTime has about two digits; "" is none.
func shortTime(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case d == 0:
		return ""
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", ms)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", ms)
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f s", d.Seconds())
}

// until says how far off a moment is.
func until(now, then time.Time) string {
	d := then.Sub(now)
	switch {
	case d <= 0:
		return "expired"
	case d < 2*time.Hour:
		return fmt.Sprintf("in %.0f minutes", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("in %.0f hours", d.Hours())
	}
	return fmt.Sprintf("in %.0f days", d.Hours()/24)
}

// expiry is the color of a certificate's end.
func expiry(now, then time.Time) string {
	switch d := then.Sub(now); {
	case d <= 0:
		return "bad"
	case d < soon:
		return "warn"
	}
	return "good"
}
