package main

import (
	"fmt"
	"strings"
)

// The verdicts on a bar.
const (
	met     = "met"
	missed  = "**missed**"
	unknown = "not judged"
)

// bar is one promise about speed, and whether this run kept it.
type bar struct {
	What, Limit, Found, Verdict string
}

// judge holds the results to every bar. A bar whose figures a run does not have is
// not judged, and says what is missing.
func judge(r *results) []bar {
	var bars []bar
	for _, s := range []struct{ scenario, title string }{{scenarioMTLS, "mTLS keep-alive"}, {scenarioPlain, "plain keep-alive"}} {
		for _, limit := range []struct {
			peer   string
			factor float64
		}{{envoy, .65}, {traefik, .55}, {fabioRepaired, .4}, {nginx, 1.35}} {
			if s.scenario == scenarioMTLS && limit.peer == fabioRepaired {
				continue
			}
			bars = append(bars, r.against(s.scenario, s.title+", CPU per request", limit.peer, limit.factor, cpu))
		}
	}
	bars = append(bars,
		r.against(scenarioRate, "p99 at a constant rate", envoy, 1, p99),
	)
	bars = append(bars, r.handshakeBars()...)
	bars = append(bars, r.routeBars()...)
	for _, kind := range changeKinds() {
		bars = append(bars, r.within(scenarioEffect, kind+" p99", kind+" change to effect, p99", 100, "ms"))
	}
	return append(bars,
		r.ofAtLeast(10, scenarioRestart, "failed", r.within(scenarioRestart, "failed", "failed requests in 10 rolling restarts", 0, "requests")),
		r.ofAtLeast(10_000, scenarioIdle, "resident", r.within(scenarioIdle, "resident", "memory with 10,000 idle connections", 100, "MB")),
	)
}

// ofAtLeast is for a bar that is about so many of something: a run with fewer does
// not keep it, and may still miss it.
func (r *results) ofAtLeast(count int, scenario, name string, b bar) bar {
	if v, ok := r.value(scenario, sluice, name); ok && v.Of < count && b.Verdict == met {
		b.Verdict = fmt.Sprintf("%s: with %d alone", unknown, v.Of)
	}
	return b
}

// handshakeBars are about new connections, by equal key exchange and as the two are
// without being told: a hybrid with ML-KEM costs more than X25519 alone, and keeps what
// is recorded today from who may break X25519 one day.
func (r *results) handshakeBars() []bar {
	const limit = 1.1
	return []bar{
		r.between(scenarioHandshake, "new mTLS handshake per request, CPU, both by X25519MLKEM768", [2]string{sluice, envoyHybrid}, limit, cpu),
		r.between(scenarioHandshake, "new mTLS handshake per request, CPU, both by X25519 alone", [2]string{sluiceClassic, envoy}, limit, cpu),
		r.against(scenarioHandshake, "new mTLS handshake per request, CPU, each as it is by default", envoy, limit, cpu),
	}
}

// against compares a figure with a peer's.
func (r *results) against(scenario, what, other string, factor float64, f figure) bar {
	return r.between(scenario, what, [2]string{sluice, other}, factor, f)
}

// between compares figures of two rows, of which the first is ours.
func (r *results) between(scenario, what string, rows [2]string, factor float64, f figure) bar {
	mine, other := rows[0], rows[1]
	b := bar{What: what, Limit: fmt.Sprintf("≤ %.2f× %s", factor, other), Verdict: unknown}
	ours, ok := r.median(scenario, mine, f)
	theirs, also := r.median(scenario, other, f)
	switch {
	case !ok:
		b.Found = r.lacking(scenario, mine)
	case !also:
		b.Found = r.lacking(scenario, other)
	default:
		b.Found = fmt.Sprintf("%.2f×", ours/theirs)
		b.Verdict = verdict(ours <= factor*theirs, r.failed(scenario, mine), r.disturbed(scenario, mine) || r.disturbed(scenario, other))
	}
	return b
}

// verdict words a comparison. Failed requests cost less than served ones, and a
// disturbed round is not the proxy's fault.
func verdict(kept, failed, disturbed bool) string {
	text := missed
	if kept {
		text = met
	}
	switch {
	case failed:
		return missed + ": requests failed"
	case disturbed:
		return text + ", in a disturbed round"
	}
	return text
}

func (r *results) failed(scenario, peer string) bool {
	for _, s := range r.of(scenario, peer) {
		if s.Failed > 0 {
			return true
		}
	}
	return false
}

func (r *results) disturbed(scenario, peer string) bool {
	for _, s := range r.of(scenario, peer) {
		if s.Disturbed {
			return true
		}
	}
	return false
}

// lacking says why there is nothing to compare.
func (r *results) lacking(scenario, peer string) string {
	if why := r.why(scenario, peer); why != "" {
		return peer + ": " + why
	}
	return peer + ": not measured in this run"
}

// within compares a figure of ours with a fixed limit.
func (r *results) within(scenario, name, what string, limit float64, unit string) bar {
	b := bar{What: what, Limit: fmt.Sprintf("≤ %g %s", limit, unit), Verdict: unknown}
	v, ok := r.value(scenario, sluice, name)
	if !ok {
		b.Found = r.lacking(scenario, sluice)
		return b
	}
	b.Found = strings.TrimSpace(fmt.Sprintf("%s %s", number(v.Value), v.Unit))
	b.Verdict = verdict(v.Value <= limit, false, false)
	return b
}

// routeBars are those about 10,000 routes.
func (r *results) routeBars() []bar {
	few, many := routesScenario(routeCounts()[0]), routesScenario(routeCounts()[2])
	cost := bar{What: "10,000 routes, CPU per request", Limit: "≤ 1.10× that of 10 routes", Verdict: unknown}
	a, ok := r.median(few, sluice, cpu)
	b, also := r.median(many, sluice, cpu)
	if ok && also {
		cost.Found = fmt.Sprintf("%.2f×", b/a)
		cost.Verdict = verdict(b <= 1.1*a, r.failed(many, sluice), r.disturbed(few, sluice) || r.disturbed(many, sluice))
	} else {
		cost.Found = r.lacking(many, sluice)
	}
	bars := []bar{cost, r.within(many, "resident more", "10,000 routes, memory more than with 10", 25, "MB")}
	for _, l := range []struct{ name, what string }{{layoutOne, "10,000 routes of one service"}, {layoutMany, "10,000 routes of 100 services"}} {
		bars = append(bars,
			r.within(l.name, "resident more", l.what+", memory more than with 10", 25, "MB"),
			r.within(l.name, "rebuild", l.what+", rebuild after one change, mean", 5, "ms"),
			r.within(l.name, "p99 ratio", l.what+", p99 while they change, against standing still", 1.1, "×"),
			r.within(l.name, "effect p99", l.what+", change to effect, p99", 100, "ms"),
		)
	}
	return bars
}
