package answers

import (
	"io"
	"slices"
)

// Services reads the answers to one query of /v1/catalog/services, one after the
// other. It belongs to one goroutine.
type Services struct {
	// Prefix is what a tag of a service must begin with.
	Prefix string

	// known are the services of the last answers, round is that in hand.
	known map[string]*mention
	round uint64
	names []string
}

// mention is what an answer says of one service.
type mention struct {
	round  uint64
	tagged bool
}

// Read reads an answer to its end. It returns the services with a tag that begins
// with Prefix, sorted, and how many services there are in all. names is the same
// slice for as long as they are the same; it must not be changed. buffer is only used
// meanwhile.
func (s *Services) Read(from io.Reader, buffer []byte) (names []string, total int, err error) {
	r := newScanner(from, buffer)
	if s.known == nil {
		s.known = map[string]*mention{}
	}
	s.round++
	err = r.present("the services")
	if err == nil {
		total, err = s.mentions(r)
	}
	if err == nil {
		err = r.finish()
	}
	if err != nil {
		s.known = nil // it may have names without an end
		return nil, 0, err
	}
	if found := s.sorted(); !slices.Equal(found, s.names) {
		s.names = found
	}
	return s.names, total, nil
}

// mentions takes what an answer says of each service.
func (s *Services) mentions(r *scanner) (total int, err error) {
	err = r.object(func(name []byte) error {
		m := s.known[string(name)]
		if m == nil {
			m = &mention{}
			s.known[string(name)] = m
		}
		if m.round == s.round {
			return r.fault("a service is there twice")
		}
		total++
		*m = mention{round: s.round}
		return r.array(func() error {
			if m.tagged {
				_, _, err := r.raw()
				return err
			}
			tag, err := r.text()
			m.tagged = err == nil && len(tag) >= len(s.Prefix) && string(tag[:len(s.Prefix)]) == s.Prefix
			return err
		})
	})
	return total, err
}

func (s *Services) sorted() []string {
	var names []string
	for name, m := range s.known {
		switch {
		case m.round != s.round:
			delete(s.known, name)
		case m.tagged:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
