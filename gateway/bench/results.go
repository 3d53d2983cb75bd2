package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// results is all that a run found out, as results.json has it.
type results struct {
	Date    string `json:"date"`
	Machine string `json:"machine"`
	// Settings are those of the command line that figures depend on.
	Settings string `json:"settings"`
	// Generator sent the load that has no constant rate.
	Generator string            `json:"generator"`
	Versions  map[string]string `json:"versions"`
	// Missing says why a peer could not be had.
	Missing map[string]string `json:"missing"`
	Samples []sample          `json:"samples"`
	// Values are what is not measured in rounds.
	Values []value `json:"values"`
	// Refusals say why a proxy has no row in a scenario.
	Refusals []refusal `json:"refusals"`
	// builds are those of the programs that are measured now.
	builds map[string]string
}

// sample is one round of one proxy.
type sample struct {
	Scenario string `json:"scenario"`
	Peer     string `json:"peer"`
	Round    int    `json:"round"`
	// CPU is microseconds of the proxy's CPU time for a request.
	CPU float64 `json:"cpu_us"`
	// Rate is in requests a second; P50 and P99 are microseconds.
	Rate     float64 `json:"rate"`
	P50      float64 `json:"p50_us"`
	P99      float64 `json:"p99_us"`
	Requests int64   `json:"requests"`
	Failed   int64   `json:"failed"`
	Reason   string  `json:"reason,omitempty"`
	// Others and Steal are percent of the machine that other processes and the
	// hypervisor used meanwhile.
	Others float64 `json:"others_percent"`
	Steal  float64 `json:"steal_percent"`
	// Disturbed marks a round that stayed disturbed however often it was repeated.
	Disturbed bool `json:"disturbed,omitempty"`
	// Build is of the program's file; see buildOf.
	Build string `json:"build,omitempty"`
}

func newSample(peer string, r loadResult, before, after snapshot) sample {
	s := sample{
		Peer: peer, P50: r.P50, P99: r.P99, Requests: r.Requests, Failed: r.Failed + r.Late, Reason: r.Reason,
	}
	if r.Requests > 0 {
		s.CPU = float64(after.proxy-before.proxy) * microsPerTick / float64(r.Requests)
	}
	if r.Seconds > 0 {
		s.Rate = float64(r.Requests) / r.Seconds
	}
	s.Others, s.Steal = interference(before, after)
	return s
}

// disturbed reports whether others had more of the machine than a limit, in
// percent.
func (s sample) disturbed(limit float64) bool { return s.Others > limit || s.Steal > limit }

// value is one figure of a proxy.
type value struct {
	Scenario string  `json:"scenario"`
	Peer     string  `json:"peer"`
	Name     string  `json:"name"`
	Unit     string  `json:"unit"`
	Value    float64 `json:"value"`
	Note     string  `json:"note,omitempty"`
	// Of is how many there were: connections, restarts. 0 is not counted.
	Of int `json:"of,omitempty"`
	// Build is of the program's file; see buildOf.
	Build string `json:"build,omitempty"`
}

type refusal struct {
	Scenario string `json:"scenario"`
	Peer     string `json:"peer"`
	Why      string `json:"why"`
}

func newResults(now time.Time, machine string) *results {
	return &results{
		Date: now.Format(time.DateOnly), Machine: machine, Versions: map[string]string{}, Missing: map[string]string{},
		builds: map[string]string{},
	}
}

// of returns the samples of one proxy in one scenario.
func (r *results) of(scenario, peer string) []sample {
	var found []sample
	for _, s := range r.Samples {
		if s.Scenario == scenario && s.Peer == peer {
			found = append(found, s)
		}
	}
	return found
}

// value returns a figure.
func (r *results) value(scenario, peer, name string) (value, bool) {
	for _, v := range r.Values {
		if v.Scenario == scenario && v.Peer == peer && v.Name == name {
			return v, true
		}
	}
	return value{}, false
}

// refuse records why a proxy has no row, once however many rounds say so.
func (r *results) refuse(scenario, peer string, why string) {
	if f := (refusal{scenario, peer, why}); !slices.Contains(r.Refusals, f) {
		r.Refusals = append(r.Refusals, f)
	}
}

// why returns the reason for which a proxy has no figures in a scenario.
func (r *results) why(scenario, peer string) string {
	if why := r.Missing[peer]; why != "" {
		return "not available: " + why
	}
	for _, f := range r.Refusals {
		if f.Scenario == scenario && f.Peer == peer {
			return f.Why
		}
	}
	return ""
}

// figure is a column of samples.
type figure func(sample) float64

func cpu(s sample) float64  { return s.CPU }
func rate(s sample) float64 { return s.Rate }
func p50(s sample) float64  { return s.P50 }
func p99(s sample) float64  { return s.P99 }

// median returns the median of a figure, and false without samples.
func (r *results) median(scenario, peer string, f figure) (float64, bool) {
	values := column(r.of(scenario, peer), f)
	return median(values), len(values) > 0
}

func column(samples []sample, f figure) []float64 {
	values := make([]float64, 0, len(samples))
	for _, s := range samples {
		values = append(values, f(s))
	}
	return values
}

// save writes results.json.
func (r *results) save(folder string) error {
	r.sign()
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	content, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "results.json"), append(content, '\n'), 0o600)
}

// loadResults returns what an earlier run has saved, without the scenarios with these
// names; nothing if there was none.
func loadResults(folder string, without []string) (*results, error) {
	r := newResults(time.Now(), describeMachine())
	content, err := os.ReadFile(filepath.Join(folder, "results.json"))
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(content, r); err != nil {
		return nil, fmt.Errorf("read earlier results: %w", err)
	}
	r.Samples = slices.DeleteFunc(r.Samples, func(s sample) bool { return slices.Contains(without, s.Scenario) })
	r.Values = slices.DeleteFunc(r.Values, func(v value) bool { return slices.Contains(without, v.Scenario) })
	r.Refusals = slices.DeleteFunc(r.Refusals, func(f refusal) bool { return slices.Contains(without, f.Scenario) })
	// What is missing and which version runs is found out anew.
	clear(r.Missing)
	return r, nil
}

// describeMachine says in a line what the figures are of.
func describeMachine() string {
	model := "an unknown processor"
	if content, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(content)) {
			if name, found := strings.CutPrefix(line, "model name"); found {
				model = strings.Trim(name, " \t:\n")
				break
			}
		}
	}
	system := "Linux"
	var name syscall.Utsname
	if syscall.Uname(&name) == nil {
		var release strings.Builder
		for _, c := range name.Release {
			if c == 0 {
				break
			}
			release.WriteByte(byte(c))
		}
		system += " " + release.String()
	}
	return fmt.Sprintf("%d cores of %s, %s, %s", runtime.NumCPU(), model, system, runtime.Version())
}
