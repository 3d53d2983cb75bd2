package fakemongod

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"sluice/internal/fakemongod/wire"
)

// helloRequest is what a hello asks for.
type helloRequest struct {
	Version *Version `bson:"topologyVersion"`
	Await   *int64   `bson:"maxAwaitTimeMS"`
	HelloOk bool     `bson:"helloOk"`
	Login   bson.Raw `bson:"speculativeAuthenticate"`
}

// check complains as mongod does.
func (h helloRequest) check(exhaust bool) error {
	location := func(code int32, text string) error { return refuse(code, fmt.Sprintf("Location%d", code), text) }
	switch {
	case exhaust && h.Await == nil:
		return location(51756, "An isMaster or hello request with exhaust must specify 'maxAwaitTimeMS'")
	case h.Version != nil && h.Await == nil:
		return location(31368, "A request with a 'topologyVersion' must include 'maxAwaitTimeMS'")
	case h.Version == nil && h.Await != nil:
		return location(31368, "A request with 'maxAwaitTimeMS' must include a 'topologyVersion'")
	case h.Version != nil && h.Version.Counter < 0:
		return location(31372, "topologyVersion must have a non-negative counter")
	case h.Await != nil && *h.Await < 0:
		return location(51024, fmt.Sprintf("BSON field 'maxAwaitTimeMS' value must be >= 0, actual value '%d'", *h.Await))
	}
	return nil
}

// hello answers hello and its older names; one that waits is answered when the
// topologyVersion moves, or its time is over.
func (s *Server) hello(ctx context.Context, r Request) (bson.D, error) {
	var h helloRequest
	if err := bson.Unmarshal(r.Body, &h); err != nil {
		return nil, err
	}
	if err := h.check(r.Exhaust); err != nil {
		return nil, err
	}
	if h.Version != nil {
		if err := s.awaitNews(ctx, *h.Version, time.Duration(*h.Await)*time.Millisecond); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	answer, quiesced := s.describe(r), s.quiesced
	s.mu.Unlock()
	if quiesced {
		return nil, ShuttingDown()
	}
	if h.HelloOk {
		answer = append(answer, bson.E{Key: "helloOk", Value: true})
	}
	if h.Login != nil {
		r.Body = h.Login
		if reply, err := s.saslStart(ctx, r); err == nil {
			answer = append(answer, bson.E{Key: "speculativeAuthenticate", Value: reply[:3]})
		}
	}
	return append(answer, bson.E{Key: "ok", Value: 1.0}), nil
}

// awaitNews waits until the topologyVersion is not the one that the asker knows.
func (s *Server) awaitNews(ctx context.Context, known Version, within time.Duration) error {
	timer := time.NewTimer(within)
	defer timer.Stop()
	parked := false
	defer func() {
		if parked {
			s.count(func(c *Stats) { c.Parked-- })
		}
	}()
	for {
		s.mu.Lock()
		now, quiesced := s.version, s.quiesced
		if known.Process == now.Process && known.Counter > now.Counter {
			s.mu.Unlock()
			return refuse(31382, "Location31382", fmt.Sprintf("Received a topology version with counter: %d which is greater than the server topology version counter: %d", known.Counter, now.Counter))
		}
		if known != now || quiesced {
			s.mu.Unlock()
			return nil
		}
		if !parked {
			parked = true
			s.stats.Parked++
			s.announce()
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// describe returns hello's answer without its end.
func (s *Server) describe(r Request) bson.D {
	writable := "isWritablePrimary"
	if r.Command != "hello" {
		writable = "ismaster"
	}
	m := &s.member
	d := bson.D{{Key: "topologyVersion", Value: s.version}}
	add := func(key string, value any) { d = append(d, bson.E{Key: key, Value: value}) }
	if m.Role == Startup {
		add(writable, false)
		add("secondary", false)
		add("info", "Does not have a valid replica set config")
		add("isreplicaset", true)
	} else {
		add("hosts", m.Hosts)
		add("setName", m.Set)
		add("setVersion", m.ConfigVersion)
		add(writable, m.Role == Primary)
		add("secondary", m.Role == Secondary || m.Role == CatchUp)
		if m.Primary != "" {
			add("primary", m.Primary)
		}
		add("me", m.Me)
		if id, ok := m.electionID(); ok {
			add("electionId", id)
		}
		written := time.Unix(int64(m.OpTime.Timestamp.T), 0)
		add("lastWrite", bson.D{
			{Key: "opTime", Value: m.OpTime},
			{Key: "lastWriteDate", Value: written},
			{Key: "majorityOpTime", Value: m.OpTime},
			{Key: "majorityWriteDate", Value: written},
		})
	}
	add("maxBsonObjectSize", int32(16<<20))
	add("maxMessageSizeBytes", int32(wire.MaxMessage))
	add("maxWriteBatchSize", int32(100_000))
	add("localTime", time.Now())
	add("logicalSessionTimeoutMinutes", int32(30))
	add("connectionId", r.conn.number)
	add("minWireVersion", int32(0))
	add("maxWireVersion", int32(17))
	add("readOnly", false)
	return d
}

// nextHello returns the hello that follows an answer when the asker takes
// several: the same with the topologyVersion that it knows now.
func nextHello(asked, answered bson.Raw) bson.Raw {
	var next bson.D
	if bson.Unmarshal(asked, &next) != nil {
		return nil
	}
	for i := range next {
		if next[i].Key == "topologyVersion" {
			next[i].Value = answered.Lookup("topologyVersion")
		}
	}
	raw, err := bson.Marshal(next)
	if err != nil {
		return nil
	}
	return raw
}
