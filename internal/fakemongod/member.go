package fakemongod

import (
	"encoding/binary"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Role is the state of a member, as replSetGetStatus numbers it.
type Role uint8

// The roles.
const (
	// Startup: it has no configuration of a set.
	Startup Role = 0
	// Primary: it accepts writes.
	Primary Role = 1
	// Secondary: it replicates.
	Secondary Role = 2
	// Recovering: it is neither.
	Recovering Role = 3
	// CatchUp: it is elected and does not accept writes yet. replSetGetStatus
	// calls it a primary, hello a secondary.
	CatchUp Role = 101
)

// String returns replSetGetStatus's name.
func (r Role) String() string {
	switch r {
	case Startup:
		return "STARTUP"
	case Primary, CatchUp:
		return "PRIMARY"
	case Secondary:
		return "SECONDARY"
	default:
		return "RECOVERING"
	}
}

// number returns replSetGetStatus's number.
func (r Role) number() int32 {
	if r == CatchUp {
		return int32(Primary)
	}
	return int32(r)
}

// Version is a topologyVersion.
type Version struct {
	Process bson.ObjectID `bson:"processId"`
	Counter int64         `bson:"counter"`
}

// OpTime is a position in the log of operations.
type OpTime struct {
	Timestamp bson.Timestamp `bson:"ts"`
	Term      int64          `bson:"t"`
}

// Member is what a fake knows about itself and its set.
type Member struct {
	// Set is its name, Hosts the members' names, empty before initiation, and Me
	// the own one.
	Set   string
	Hosts []string
	Me    string
	Role  Role
	// Term is the newest election term that it knows.
	Term int64
	// Primary is whom it takes for the primary; empty is nobody.
	Primary string
	// OpTime is the last operation that it has applied.
	OpTime OpTime
	// SyncSource is whom it replicates from; empty is nobody.
	SyncSource string
	// ConfigVersion is the version of the set's configuration.
	ConfigVersion int32
	// Majority says that a majority of the set confirms what is written: without
	// it, a write with w:majority waits.
	Majority bool
	// SlowCatchUp makes the next election end in CatchUp.
	SlowCatchUp bool
	// StaleKill makes the errors of operations that a step-down kills carry the
	// topologyVersion from before it (SERVER-76581).
	StaleKill bool
}

// Member returns what the fake knows now.
func (s *Server) Member() Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	copied := s.member
	copied.Hosts = slices.Clone(copied.Hosts)
	return copied
}

// Version returns the topologyVersion.
func (s *Server) Version() Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

// Change changes the member, and tells whoever waits with an awaited hello.
func (s *Server) Change(change func(*Member)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.member)
	s.bump()
}

// ChangeUnannounced changes the member and neither increments the topologyVersion
// nor wakes an awaited hello.
func (s *Server) ChangeUnannounced(change func(*Member)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.member)
	s.announce()
}

// Become gives it a role at a term, as an election far away or its own would.
func (s *Server) Become(role Role, term int64) {
	s.Change(func(m *Member) { m.become(role, term) })
}

func (m *Member) become(role Role, term int64) {
	if role == Primary && m.Role != Primary || m.OpTime.Timestamp.T == 0 {
		m.append(term)
	}
	m.Role, m.Term = role, term
	switch {
	case role == Primary || role == CatchUp:
		m.Primary, m.SyncSource = m.Me, ""
	case m.Primary == m.Me:
		m.Primary = ""
	}
}

// append writes an operation to the log.
func (m *Member) append(term int64) {
	seconds := uint32(time.Now().Unix())
	ts := m.OpTime.Timestamp
	if ts.T >= seconds {
		ts.I++
	} else {
		ts = bson.Timestamp{T: seconds, I: 1}
	}
	m.OpTime = OpTime{Timestamp: ts, Term: term}
}

func (m *Member) electionID() (bson.ObjectID, bool) {
	var id bson.ObjectID
	binary.BigEndian.PutUint32(id[:4], 0x7fffffff)
	binary.BigEndian.PutUint64(id[4:], uint64(m.Term))
	return id, m.Role == Primary || m.Role == CatchUp
}

// bump increments the topologyVersion.
func (s *Server) bump() {
	s.version.Counter++
	s.announce()
}

// alone reports whether the member's own vote is all that an election needs.
func (m *Member) alone() bool { return len(m.Hosts) == 1 }

// elect makes the member primary at the next term, if it is a secondary.
func (s *Server) elect() {
	if s.running == nil || s.member.Role != Secondary {
		return
	}
	s.member.become(CatchUp, s.member.Term+1)
	s.bump()
	if !s.member.SlowCatchUp {
		s.member.become(Primary, s.member.Term)
		s.bump()
	}
	s.member.SlowCatchUp = false
}

// electLater has a member without others stand for election after d.
func (s *Server) electLater(d time.Duration) {
	s.stopElection()
	if !s.member.alone() {
		return
	}
	s.election = time.AfterFunc(d, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.elect()
	})
}

func (s *Server) stopElection() {
	if s.election != nil {
		s.election.Stop()
	}
}

// stepDown makes a primary a secondary, in the two steps that mongod takes.
func (s *Server) stepDown() {
	s.member.Role, s.member.Primary = Recovering, ""
	s.bump()
	s.member.Role = Secondary
	s.bump()
}
