package main

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"slices"
)

// buildOf tells one build of a program from another: the beginning of the SHA-256 of
// its file.
func buildOf(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)[:6]), nil
}

// sign writes down of which build what was measured now is.
func (r *results) sign() {
	for i := range r.Samples {
		if s := &r.Samples[i]; s.Build == "" {
			s.Build = r.builds[s.Peer]
		}
	}
	for i := range r.Values {
		if v := &r.Values[i]; v.Build == "" {
			v.Build = r.builds[v.Peer]
		}
	}
}

// dropOtherBuilds forgets the scenarios of which a row is of another build than the
// program of now, or does not say of which: a table of several builds would show a
// proxy that never was. All rows of a scenario go, because ratios are to rows of the
// same run. It returns the names of the scenarios.
func (r *results) dropOtherBuilds() []string {
	other := func(peer, build string) bool {
		now, found := r.builds[peer]
		return build == "" || found && build != now
	}
	var dropped []string
	for _, s := range scenarios() {
		has := func(name string) bool { return slices.Contains(s.samples, name) }
		if !slices.ContainsFunc(r.Samples, func(m sample) bool { return has(m.Scenario) && other(m.Peer, m.Build) }) &&
			!slices.ContainsFunc(r.Values, func(v value) bool { return has(v.Scenario) && other(v.Peer, v.Build) }) {
			continue
		}
		dropped = append(dropped, s.name)
		r.Samples = slices.DeleteFunc(r.Samples, func(m sample) bool { return has(m.Scenario) })
		r.Values = slices.DeleteFunc(r.Values, func(v value) bool { return has(v.Scenario) })
		r.Refusals = slices.DeleteFunc(r.Refusals, func(f refusal) bool { return has(f.Scenario) })
	}
	return dropped
}
