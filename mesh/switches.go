package mesh

import (
	"sync"
	"time"
)

// keptSwitches is how many switches a report remembers.
const keptSwitches = 32

// UpstreamReport is the state of one Upstream at one moment.
type UpstreamReport struct {
	Service string `json:"service"`
	// Address is where the local client connects.
	Address string `json:"address"`
	// Live counts the connections that are carried now, Held those that wait for
	// an instance.
	Live int `json:"live"`
	Held int `json:"held"`
	// OldestHeldMS is how long the oldest held connection has waited, in ms.
	OldestHeldMS float64 `json:"oldest_held_ms"`
	// Epoch is the highest that was ever known, 0 where there is none.
	Epoch int64 `json:"epoch"`
	// Leader is the address of the instance in use, Node its node.
	Leader string `json:"leader,omitempty"`
	Node   string `json:"node,omitempty"`
	// Error says why the newest connection could not be made.
	Error    string           `json:"error,omitempty"`
	Counters UpstreamCounters `json:"counters"`
	// Switches are the newest changes of the instance, oldest first.
	Switches []Switch `json:"switches"`
}

// UpstreamCounters count since the Upstream was made. They never decrease.
type UpstreamCounters struct {
	// Accepted local connections.
	Accepted uint64 `json:"accepted"`
	// Held connections that had to wait for an instance, and what became of them:
	// Released to one, Expired after the hold, Overflow beyond MaxHeld.
	Held     uint64 `json:"held"`
	Released uint64 `json:"released"`
	Expired  uint64 `json:"expired"`
	Overflow uint64 `json:"overflow"`
	// Repeated greetings: said again to another instance, since the first did not
	// answer or did not lead.
	Repeated uint64 `json:"repeated"`
	// Probes for an instance while connections waited for one.
	Probes uint64 `json:"probes"`
	// Superseded connections: reset because another instance leads.
	Superseded uint64 `json:"superseded"`
	// Switches of the instance.
	Switches uint64 `json:"switches"`
}

// Switch is one loss of an instance and what followed, in wall-clock times; a
// step that has not happened is zero.
type Switch struct {
	// Lost is when the first connection ended, or when another instance was known
	// to lead; Reason says which.
	Lost   time.Time `json:"lost"`
	Reason string    `json:"reason"`
	// From and To are the addresses of the instances.
	From string `json:"from"`
	To   string `json:"to,omitempty"`
	// SentinelReset is when the connections that only watch were reset,
	// SentinelBack when the last of them that was waited for had come back, and
	// RestReset when the others were let go.
	SentinelReset time.Time `json:"sentinel_reset,omitzero"`
	SentinelBack  time.Time `json:"sentinel_back,omitzero"`
	RestReset     time.Time `json:"rest_reset,omitzero"`
	// FirstReleased is when the first connection reached the next instance.
	FirstReleased time.Time `json:"first_released,omitzero"`
	// Epoch is that of the next instance, 0 if it is not known.
	Epoch int64 `json:"epoch"`
	// Sentinels and Rest count the connections that were reset.
	Sentinels int `json:"sentinels"`
	Rest      int `json:"rest"`
}

// switches remembers the newest switches.
type switches struct {
	mu   sync.Mutex
	list []*Switch
}

// begin adds a switch and returns it for update.
func (s *switches) begin(first Switch) *Switch {
	s.mu.Lock()
	defer s.mu.Unlock()
	entry := &first
	s.list = append(s.list, entry)
	if len(s.list) > keptSwitches {
		s.list = append([]*Switch(nil), s.list[1:]...)
	}
	return entry
}

// recent returns the switch away from address that has only just begun and has
// led nowhere yet, or nil: what ends a moment later belongs to it.
func (s *switches) recent(address string, now time.Time) *Switch {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) == 0 {
		return nil
	}
	last := s.list[len(s.list)-1]
	if last.From != address || now.Sub(last.Lost) > time.Second && !last.FirstReleased.IsZero() {
		return nil
	}
	return last
}

// update changes an entry of begin.
func (s *switches) update(entry *Switch, change func(*Switch)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(entry)
}

// released notes the first connection to the next instance, if a switch waits
// for one.
func (s *switches) released(to string, epoch int64, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, entry := range s.list {
		if entry.FirstReleased.IsZero() {
			entry.To, entry.Epoch, entry.FirstReleased = to, epoch, now
		}
	}
}

func (s *switches) copy() []Switch {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Switch, 0, len(s.list))
	for _, entry := range s.list {
		out = append(out, *entry)
	}
	return out
}
