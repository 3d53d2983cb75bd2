package fakemongod

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

type configDocument struct {
	ID      string `bson:"_id"`
	Version int32  `bson:"version"`
	Members []struct {
		Host string `bson:"host"`
	} `bson:"members"`
}

func (s *Server) adopt(r Request) error {
	var c configDocument
	if err := r.Body.Lookup(r.Command).Unmarshal(&c); err != nil {
		return err
	}
	if c.ID != s.cfg.Set || len(c.Members) == 0 {
		return refuse(InvalidOptions, "InvalidOptions", fmt.Sprintf("a configuration of %q with %d members", c.ID, len(c.Members)))
	}
	s.member.Hosts = nil
	for _, m := range c.Members {
		s.member.Hosts = append(s.member.Hosts, m.Host)
	}
	s.member.ConfigVersion = max(1, c.Version)
	return nil
}

func (s *Server) initiate(r Request) (bson.D, error) {
	if s.member.Role != Startup {
		return nil, refuse(AlreadyInitialized, "AlreadyInitialized", "already initialized")
	}
	if err := s.adopt(r); err != nil {
		return nil, err
	}
	s.member.append(-1)
	s.member.Role = Secondary
	s.bump()
	if s.member.alone() {
		s.elect()
	}
	return ok(), nil
}

func (s *Server) reconfigure(r Request) (bson.D, error) {
	if s.member.Role != Primary {
		return nil, NotPrimary()
	}
	if err := s.adopt(r); err != nil {
		return nil, err
	}
	s.bump()
	return ok(), nil
}

func (s *Server) config(Request) (bson.D, error) {
	var members bson.A
	for i, host := range s.member.Hosts {
		members = append(members, bson.D{
			{Key: "_id", Value: int32(i)},
			{Key: "host", Value: host},
			{Key: "arbiterOnly", Value: false},
			{Key: "priority", Value: 1.0},
			{Key: "votes", Value: int32(1)},
		})
	}
	config := bson.D{
		{Key: "_id", Value: s.member.Set},
		{Key: "version", Value: s.member.ConfigVersion},
		{Key: "term", Value: s.member.Term},
		{Key: "members", Value: members},
		{Key: "protocolVersion", Value: int64(1)},
		{Key: "settings", Value: bson.D{{Key: "chainingAllowed", Value: true}}},
	}
	return append(bson.D{{Key: "config", Value: config}}, ok()...), nil
}

func (s *Server) status(Request) (bson.D, error) {
	m := &s.member
	source := slices.Index(m.Hosts, m.SyncSource)
	var members bson.A
	for i, host := range m.Hosts {
		role := Secondary
		if host == m.Me {
			role = m.Role
		} else if host == m.Primary {
			role = Primary
		}
		member := bson.D{
			{Key: "_id", Value: int32(i)},
			{Key: "name", Value: host},
			{Key: "health", Value: 1.0},
			{Key: "state", Value: role.number()},
			{Key: "stateStr", Value: role.String()},
			{Key: "optime", Value: m.OpTime},
			{Key: "syncSourceHost", Value: ""},
		}
		if host == m.Me {
			member[len(member)-1].Value = m.SyncSource
			member = append(member, bson.E{Key: "self", Value: true}, bson.E{Key: "configTerm", Value: m.Term})
		}
		members = append(members, member)
	}
	return append(bson.D{
		{Key: "set", Value: m.Set},
		{Key: "date", Value: time.Now()},
		{Key: "myState", Value: m.Role.number()},
		{Key: "term", Value: m.Term},
		{Key: "syncSourceHost", Value: m.SyncSource},
		{Key: "syncSourceId", Value: int32(source)},
		{Key: "heartbeatIntervalMillis", Value: int64(2000)},
		{Key: "optimes", Value: bson.D{{Key: "lastCommittedOpTime", Value: m.OpTime}, {Key: "appliedOpTime", Value: m.OpTime}}},
		{Key: "members", Value: members},
	}, ok()...), nil
}

func (s *Server) stepUp(Request) (bson.D, error) {
	switch {
	case s.member.Role == Primary || s.member.Role == CatchUp:
		return ok(), nil
	case s.member.Role != Secondary || time.Now().Before(s.vetoed):
		return nil, refuse(CommandFailed, "CommandFailed", "Election failed.")
	}
	s.elect()
	return ok(), nil
}

// stepDownCommand waits for another member that could follow; one that is alone
// has none.
func (s *Server) stepDownCommand(ctx context.Context, r Request) (bson.D, error) {
	var asked struct {
		Seconds int64  `bson:"replSetStepDown"`
		Force   bool   `bson:"force"`
		CatchUp *int64 `bson:"secondaryCatchUpPeriodSecs"`
	}
	if err := bson.Unmarshal(r.Body, &asked); err != nil {
		return nil, err
	}
	if m := s.Member(); m.Role == Primary && m.alone() && !asked.Force {
		wait := int64(10)
		if asked.CatchUp != nil {
			wait = *asked.CatchUp
		}
		select {
		case <-time.After(time.Duration(wait) * time.Second):
			return nil, refuse(ExceededTimeLimit, "ExceededTimeLimit", "No electable secondaries caught up.")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.member.Role != Primary {
		return nil, refuse(NotWritablePrimary, "NotWritablePrimary", "not primary so can't step down")
	}
	s.stepDown()
	s.veto(asked.Seconds)
	return ok(), nil
}

// veto keeps the member from standing for election for some seconds.
func (s *Server) veto(seconds int64) {
	d := time.Duration(seconds) * time.Second
	s.vetoed = time.Now().Add(d)
	s.electLater(d)
}

func (s *Server) freezeElections(r Request) (bson.D, error) {
	if s.member.Role != Secondary {
		return nil, refuse(NotSecondary, "NotSecondary", "Cannot freeze node when primary or running for election, state: Primary")
	}
	seconds, _ := r.Body.Lookup(r.Command).AsInt64OK()
	if seconds > 0 {
		s.veto(seconds)
		return ok(), nil
	}
	s.vetoed = time.Time{}
	s.electLater(0)
	return append(bson.D{{Key: "info", Value: "unfreezing"}}, ok()...), nil
}

func (s *Server) abortCatchUp(Request) (bson.D, error) {
	if s.member.Role != CatchUp {
		return nil, refuse(IllegalOperation, "IllegalOperation", "The node is not in catch-up mode.")
	}
	s.member.become(Primary, s.member.Term)
	s.bump()
	return ok(), nil
}

func (s *Server) syncFrom(r Request) (bson.D, error) {
	m := &s.member
	host, _ := r.Body.Lookup(r.Command).StringValueOK()
	switch {
	case m.Role == Primary || m.Role == CatchUp:
		return nil, refuse(NotSecondary, "NotSecondary", "primaries don't sync")
	case !slices.Contains(m.Hosts, host):
		return nil, refuse(NodeNotFound, "NodeNotFound", fmt.Sprintf("Could not find member %q in replica set", host))
	case host == m.Me:
		return nil, refuse(InvalidOptions, "InvalidOptions", "I cannot sync from myself")
	}
	answer := bson.D{{Key: "syncFromRequested", Value: host}}
	if m.SyncSource != "" {
		answer = append(answer, bson.E{Key: "prevSyncTarget", Value: m.SyncSource})
	}
	m.SyncSource = host
	s.announce()
	return append(answer, ok()...), nil
}
