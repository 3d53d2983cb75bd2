// Package consul is the only room that speaks to a Consul agent. It turns the
// agent's answers into the values that the other rooms understand: credentials,
// policies, instances, entries. No Consul type leaves it.
//
// Reading rests on one blocking-query loop, Watch. Each Watch has one writer, the
// goroutine in Run; readers load an immutable snapshot and never wait. A snapshot
// outlives the agent: when Consul cannot be asked, the last known good value
// stays, together with the time at which it was confirmed and the error that
// keeps it from being confirmed again.
//
// What a watch asks again and again is read by consul/answers while it arrives, and
// shares with the last answer all that is the same. Answers are not packed: the agent
// is nearly always on the same machine (see Config.DialContext for who is elsewhere).
//
// An answer that cannot be Consul's (a null in a list, what was not asked for, no index,
// no end) is refused as a whole. The Connect SDK gets none about the roots that would be.
//
// Writing is either reconciled (Registrar: desired against actual, for ever) or
// guarded (compare-and-set of config entries, locks held by a session).
//
// Identity comes from hashicorp/consul/connect, with its known faults closed; see
// Identity. Everything else comes from hashicorp/consul/api. The token is read
// from a file that only its owner may read, travels in one header, and is in no
// log line and no error.
package consul
