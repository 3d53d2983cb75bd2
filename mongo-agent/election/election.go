// Package election decides when an agent should ask its mongod to stand for
// election, because the set's own time-outs would only be waited out.
//
// It is pure, and it decides nothing about who wins: votes, terms and the
// comparison of logs are mongod's (Raft). The worst that a wrong decision does is
// a needless election, so it is careful with those: one member per failure
// stands, one whose log another candidate is known to be ahead of never does,
// and only so many times in a while.
package election

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/mongo-agent/role"
)

// Member is one member of the set and its agent, as one agent knows them.
type Member struct {
	// Node is the member's node, Address its name in the set.
	Node    string
	Address string
	// Reached says that its agent answers; what the rest says is old if it does
	// not.
	Reached bool
	Role    role.State
	Frozen  bool
	Term    int64
	OpTime  role.OpTime
	// Source is the member that it replicates from.
	Source string
	// Lost are the nodes whose agents its agent does not hear.
	Lost []string
	// Round is the failure for which its OpTime was asked for.
	Round string
	// Standing is the failure because of which it stands, or has won.
	Standing string
	// Successor is the node that it wants to hand the primary's role to.
	Successor string
}

// Picture is what one agent knows at one moment.
type Picture struct {
	// Me is the agent's own node.
	Me string
	// Members are all members, in the order of the configuration.
	Members []Member
}

func (p Picture) find(node string) *Member {
	for i := range p.Members {
		if p.Members[i].Node == node {
			return &p.Members[i]
		}
	}
	return nil
}

// Failure is a reason why somebody else should become the primary.
type Failure struct {
	// Subject is the node of the primary that failed, and Term its term.
	Subject string
	Term    int64
	// Why is one sentence.
	Why string
	// Planned says that the primary itself asks for it, and Graceful that it has
	// stopped taking writes by itself and may have chosen somebody.
	Planned, Graceful bool
}

// Round names the failure: agents that look for the freshest member compare what
// they have asked for after they knew of it.
func (f Failure) Round() string { return fmt.Sprintf("%s@%d", f.Subject, f.Term) }

// RoundTerm returns the term of the primary that failed in a round; 0 for what is
// no Round.
func RoundTerm(round string) int64 {
	_, text, _ := strings.Cut(round, "@")
	term, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return term
}

// Advice is what to do about a failure.
type Advice struct {
	Failure
	// Since is when the failure was first seen.
	Since time.Time
	// Stand says that the own mongod should stand for election now.
	Stand bool
	// Wait says why not, if it should not.
	Wait string
}

// Limits bound how often one agent asks.
type Limits struct {
	// Again is the least time between two tries of one agent, and Most the number
	// of tries in Window.
	Again, Window time.Duration
	Most          int
	// Patience is how long another member that stands is given to take writes.
	Patience time.Duration
	// Fresh is how long a candidate waits for the logs of the others, and Grace
	// how long a primary that has stepped down may choose its successor itself.
	Fresh, Grace time.Duration
}

// DefaultLimits are what agents run with.
func DefaultLimits() Limits {
	return Limits{Again: 300 * time.Millisecond, Window: 20 * time.Second, Most: 6, Patience: time.Second, Fresh: 60 * time.Millisecond, Grace: 150 * time.Millisecond}
}

// Helper remembers what the decision needs of the past. It is for one goroutine.
type Helper struct {
	limits Limits
	// primary is the node that was primary in the highest term known, in term.
	primary string
	term    int64
	// round is the failure that was last seen, since when, and why its newest
	// reason, since when.
	round    string
	since    time.Time
	why      string
	whySince time.Time
	tries    []time.Time
}

// NewHelper returns a helper that has seen no primary yet.
func NewHelper(limits Limits) *Helper { return &Helper{limits: limits} }

// Look takes a picture and returns the failure in it, if there is one, and what
// to do about it. Call Tried after each try.
func (h *Helper) Look(now time.Time, p Picture) (Advice, bool) {
	h.learn(p)
	failure, failed := h.failure(p)
	if !failed {
		h.round, h.why = "", ""
		return Advice{}, false
	}
	if h.why != failure.Why {
		h.why, h.whySince = failure.Why, now
	}
	if h.round != failure.Round() {
		h.round, h.since = failure.Round(), now
	}
	wait := h.reasonToWait(now, p, failure)
	return Advice{Failure: failure, Since: h.since, Stand: wait == "", Wait: wait}, true
}

// Tried takes note of a try at now.
func (h *Helper) Tried(now time.Time) { h.tries = append(h.tries, now) }

// Ended takes note that the newest try ended at now. What it changed is not in the
// picture yet, so the pause until the next one begins here.
func (h *Helper) Ended(now time.Time) {
	if n := len(h.tries); n > 0 {
		h.tries[n-1] = now
	}
}

// learn remembers who is primary in the highest term.
func (h *Helper) learn(p Picture) {
	for _, m := range p.Members {
		if m.Role == role.Primary && m.Term > h.term {
			h.primary, h.term = m.Node, m.Term
		}
	}
}

// failure says what is wrong with the primary, if anything.
func (h *Helper) failure(p Picture) (Failure, bool) {
	s := p.find(h.primary)
	if s == nil || h.primary == p.Me {
		return Failure{}, false
	}
	f := Failure{Subject: s.Node, Term: h.term}
	missing := missedBy(p, s.Node)
	switch {
	case !s.Reached && 2*missing > len(p.Members):
		f.Why = fmt.Sprintf("%d of %d agents do not hear that of %s", missing, len(p.Members), s.Node)
	case !s.Reached:
		return Failure{}, false
	case s.Frozen:
		f.Why = "mongod on " + s.Node + " is frozen"
	case s.Role == role.Dead:
		f.Why = "mongod on " + s.Node + " has ended"
	case s.Successor != "":
		f.Why, f.Planned = s.Node+" hands over", true
	case s.Role == role.Secondary:
		f.Why, f.Graceful = s.Node+" has stepped down", true
	case s.Role == role.Other:
		// It still stands in the way, as during its own shutdown.
		f.Why, f.Graceful = s.Node+" takes no writes", true
	default:
		return Failure{}, false
	}
	return f, true
}

// missedBy counts the agents that do not hear a node's agent, as far as those are
// heard themselves.
func missedBy(p Picture, node string) int {
	n := 0
	for _, m := range p.Members {
		switch {
		case m.Node == p.Me:
			if subject := p.find(node); subject != nil && !subject.Reached {
				n++
			}
		case m.Node != node && m.Reached && slices.Contains(m.Lost, node):
			n++
		}
	}
	return n
}

// reasonToWait returns why the own member should not stand now; empty if it
// should.
func (h *Helper) reasonToWait(now time.Time, p Picture, f Failure) string {
	me := p.find(p.Me)
	candidates := electable(p, f)
	if me == nil || !slices.ContainsFunc(candidates, func(m Member) bool { return m.Node == p.Me }) {
		return "the own member cannot be elected"
	}
	best, certain := choose(candidates, f)
	standing := slices.IndexFunc(p.Members, func(m Member) bool { return m.Node != p.Me && m.Reached && m.Standing == f.Round() })
	fresh := certain || now.Sub(h.since) >= h.limits.Fresh
	switch {
	case standing >= 0 && now.Sub(h.since) < h.limits.Patience:
		// It may have won: elected and not yet writable, it is no candidate any more.
		return p.Members[standing].Node + " stands"
	case best.Node != p.Me:
		return best.Node + " is the one to stand"
	case f.Graceful && now.Sub(h.whySince) < h.limits.Grace:
		return f.Subject + " may have chosen its successor"
	case (f.Planned || f.Graceful) && me.OpTime.Compare(p.find(f.Subject).OpTime) < 0:
		return "the own member has not caught up yet"
	case !fresh:
		return "the others' logs are not known yet"
	case h.recent(now) >= h.limits.Most:
		return fmt.Sprintf("%d tries in %v are enough; the set's own time-out decides", h.limits.Most, h.limits.Window)
	case len(h.tries) > 0 && now.Sub(h.tries[len(h.tries)-1]) < h.limits.Again:
		return "the last try is too recent"
	default:
		return ""
	}
}

func (h *Helper) recent(now time.Time) int {
	h.tries = slices.DeleteFunc(h.tries, func(t time.Time) bool { return now.Sub(t) > h.limits.Window })
	return len(h.tries)
}

// electable returns the members that may be asked to stand: secondaries whose
// agents answer. In a hand-over the named successor is the only one.
func electable(p Picture, f Failure) []Member {
	var out []Member
	subject := p.find(f.Subject)
	for _, m := range p.Members {
		if m.Node == f.Subject || m.Node != p.Me && !m.Reached || m.Role != role.Secondary || m.Frozen {
			continue
		}
		if f.Planned && m.Node != subject.Successor {
			continue
		}
		out = append(out, m)
	}
	return out
}

// choose returns the candidate that should stand, and whether more news could
// not change that: the member that the others replicate from cannot be behind
// them, whatever was heard of their logs; else the one with the longest log, when
// all were asked after the failure, and of equals the first in the configuration.
func choose(candidates []Member, f Failure) (best Member, certain bool) {
	if len(candidates) == 1 {
		return candidates[0], true
	}
	for _, m := range candidates {
		if leads(m, candidates) {
			return m, true
		}
	}
	certain = true
	for i, m := range candidates {
		if i == 0 || m.OpTime.Compare(best.OpTime) > 0 {
			best = m
		}
		certain = certain && m.Round == f.Round()
	}
	return best, certain
}

// leads reports whether all other candidates replicate from m.
func leads(m Member, candidates []Member) bool {
	for _, other := range candidates {
		if other.Node != m.Node && other.Source != m.Address {
			return false
		}
	}
	return m.Source == "" || !slices.ContainsFunc(candidates, func(other Member) bool { return other.Address == m.Source })
}
