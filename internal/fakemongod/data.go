package fakemongod

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// write is an insert as it came.
type write struct {
	space     string
	documents []bson.Raw
	majority  bool
	timeout   time.Duration // 0: none
}

func parseInsert(r Request) (write, error) {
	var body struct {
		Collection string     `bson:"insert"`
		Documents  []bson.Raw `bson:"documents"`
		Concern    struct {
			W       any   `bson:"w"`
			Timeout int64 `bson:"wtimeout"`
		} `bson:"writeConcern"`
	}
	if err := bson.Unmarshal(r.Body, &body); err != nil {
		return write{}, err
	}
	for _, s := range r.Sequences {
		if s.Name == "documents" {
			body.Documents = append(body.Documents, s.Documents...)
		}
	}
	return write{
		space: r.Database + "." + body.Collection, documents: body.Documents,
		// Without a word about it, mongod takes majority.
		majority: body.Concern.W == nil || body.Concern.W == "majority",
		timeout:  time.Duration(body.Concern.Timeout) * time.Millisecond,
	}, nil
}

// insert writes documents, and waits for a majority if it was asked to. It ends
// with an error when the member stops being primary meanwhile: the documents stay.
func (s *Server) insert(ctx context.Context, r Request) (bson.D, error) {
	w, err := parseInsert(r)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	if s.member.Role != Primary {
		s.mu.Unlock()
		return nil, NotPrimary()
	}
	written, problems := s.store(w)
	started, term := s.version, s.member.Term
	s.mu.Unlock()

	answer := bson.D{{Key: "n", Value: written}}
	if len(problems) > 0 {
		answer = append(answer, bson.E{Key: "writeErrors", Value: problems})
	}
	if w.majority {
		late, err := s.awaitMajority(ctx, w.timeout, term, started)
		if err != nil {
			return nil, err
		}
		if late {
			answer = append(answer, bson.E{Key: "writeConcernError", Value: bson.D{
				{Key: "code", Value: WriteConcernFailed},
				{Key: "codeName", Value: "WriteConcernFailed"},
				{Key: "errmsg", Value: "waiting for replication timed out"},
			}})
		}
	}
	m := s.Member()
	id, _ := m.electionID()
	return append(answer, bson.E{Key: "electionId", Value: id}, bson.E{Key: "opTime", Value: m.OpTime}, bson.E{Key: "ok", Value: 1.0}), nil
}

// store appends documents whose _id is new, up to the first that is not.
func (s *Server) store(w write) (written int32, problems bson.A) {
	for i, d := range w.documents {
		id := d.Lookup("_id")
		for _, have := range s.data[w.space] {
			if have.Lookup("_id").Equal(id) {
				return written, bson.A{bson.D{
					{Key: "index", Value: int32(i)},
					{Key: "code", Value: DuplicateKey},
					{Key: "errmsg", Value: fmt.Sprintf("E11000 duplicate key error collection: %s index: _id_ dup key: { _id: %v }", w.space, id)},
				}}
			}
		}
		s.data[w.space] = append(s.data[w.space], append(bson.Raw(nil), d...))
		s.member.append(s.member.Term)
		written++
	}
	return written, nil
}

// awaitMajority waits until a majority confirms; late means that the time was
// over before.
func (s *Server) awaitMajority(ctx context.Context, timeout time.Duration, term int64, started Version) (late bool, err error) {
	var over <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		over = timer.C
	}
	s.count(func(c *Stats) { c.Waiting++ })
	defer s.count(func(c *Stats) { c.Waiting-- })
	for {
		s.mu.Lock()
		m, changed := s.member, s.changed
		s.mu.Unlock()
		if m.Role != Primary || m.Term != term {
			killed := refuse(InterruptedDueToReplStateChange, "InterruptedDueToReplStateChange", "operation was interrupted")
			if m.StaleKill {
				killed.Version = &started
			}
			return false, killed
		}
		if m.Majority {
			return false, nil
		}
		select {
		case <-changed:
		case <-over:
			return true, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// find returns the documents whose fields are equal to the filter's.
func (s *Server) find(r Request) (bson.D, error) {
	collection, _ := r.Body.Lookup("find").StringValueOK()
	filter, _ := r.Body.Lookup("filter").DocumentOK()
	wanted, err := filter.Elements()
	if filter != nil && err != nil {
		return nil, err
	}
	space, found := r.Database+"."+collection, bson.A{}
	for _, d := range s.data[space] {
		matches := true
		for _, e := range wanted {
			matches = matches && d.Lookup(e.Key()).Equal(e.Value())
		}
		if matches {
			found = append(found, d)
		}
	}
	cursor := bson.D{{Key: "firstBatch", Value: found}, {Key: "id", Value: int64(0)}, {Key: "ns", Value: space}}
	return append(bson.D{{Key: "cursor", Value: cursor}}, ok()...), nil
}
