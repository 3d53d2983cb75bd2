package answers

import (
	"bytes"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
)

// Entry is what the product uses of one entry of an answer about the instances of a
// service. It is immutable.
type Entry struct {
	// Node, NodeAddress and Datacenter are of the node.
	Node, NodeAddress, Datacenter string
	// Kind is empty for an instance of a service, else it says what proxy it is.
	Kind api.ServiceKind
	// ID, Address, Port, Tags and Meta are as they were registered.
	ID, Address string
	Port        int
	Tags        []string
	Meta        map[string]string
	// Native says that the instance takes part in Connect itself.
	Native bool
	// ProxyFor is the ID of the instance that a sidecar proxy stands in front of.
	ProxyFor string
	// Passing says that every check passes, and that there is no maintenance.
	Passing bool
}

// same reports whether nothing tells two entries apart.
func (e *Entry) same(other *Entry) bool {
	return e.Node == other.Node && e.NodeAddress == other.NodeAddress && e.Datacenter == other.Datacenter &&
		e.Kind == other.Kind && e.ID == other.ID && e.Address == other.Address && e.Port == other.Port &&
		e.Native == other.Native && e.ProxyFor == other.ProxyFor && e.Passing == other.Passing &&
		SameTags(e.Tags, other.Tags) && maps.Equal(e.Meta, other.Meta)
}

// named reports whether two entries are of the same instance, as far as its node is known.
func (e *Entry) named(other *Entry) bool {
	return e.ID == other.ID && (e.Node == other.Node || e.Node == "")
}

// SameTags compares lists of tags, and is quick about a list that is itself.
func SameTags(a, b []string) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

// Entries reads the answers to one query of /v1/health/service or /v1/health/connect,
// one after the other. The zero value is ready. It belongs to one goroutine.
type Entries struct {
	last []*Entry
}

// Read reads an answer to its end. What is in it as it was in the last answer is the
// same entry, or has the same tags. The list must not be changed. buffer is only used
// meanwhile. After an error the next answer is compared with the last good one.
func (e *Entries) Read(from io.Reader, buffer []byte) ([]*Entry, error) {
	r := entryReader{scanner: newScanner(from, buffer), last: e.last}
	list := make([]*Entry, 0, len(e.last)+1)
	err := r.present("the entries")
	if err == nil {
		err = r.array(func() error {
			entry, err := r.entry()
			list = append(list, entry)
			return err
		})
	}
	if err == nil {
		err = r.finish()
	}
	if err != nil {
		return nil, err
	}
	e.last = list
	return list, nil
}

// entryReader reads one answer.
type entryReader struct {
	*scanner
	last []*Entry
	// next is where in last the entry in hand is expected.
	next int
	// now is the entry in hand, was the one in the last answer that it is compared with.
	now, was Entry
	// found are members of an object in hand.
	found map[string]string
}

// entry takes one entry. It is the last answer's if nothing of it is new.
func (r *entryReader) entry() (*Entry, error) {
	r.now, r.was = Entry{Passing: true}, Entry{}
	var known *Entry
	if r.next < len(r.last) {
		known = r.last[r.next]
		r.was = *known
	}
	var seen members
	err := r.object(func(name []byte) error {
		switch member := seen.of(name, "Node", "Service", "Checks"); member {
		case 0:
			return r.node()
		case 1:
			return r.service()
		case 2:
			return r.checks()
		default:
			return r.other(member)
		}
	})
	if err == nil && !seen.both() {
		err = r.fault("an entry without a node or without a service")
	}
	if err != nil {
		return nil, err
	}
	if r.next < len(r.last) {
		known = r.last[r.next] // it may have been found to be another
		if r.now.named(known) {
			r.next++
		}
		if r.now.same(known) {
			return known, nil
		}
	}
	entry := r.now
	return &entry, nil
}

// other takes the value of a member that nobody uses, or refuses a second one.
func (r *entryReader) other(member int) error {
	if member == again {
		return r.fault("a member is there twice")
	}
	return r.skip()
}

func (r *entryReader) node() error {
	if err := r.present("a node"); err != nil {
		return err
	}
	var seen members
	return r.object(func(name []byte) (err error) {
		switch member := seen.of(name, "Node", "Address", "Datacenter"); member {
		case 0:
			r.now.Node, err = r.shared(r.was.Node)
		case 1:
			r.now.NodeAddress, err = r.shared(r.was.NodeAddress)
		case 2:
			r.now.Datacenter, err = r.shared(r.was.Datacenter)
		default:
			err = r.other(member)
		}
		return err
	})
}

func (r *entryReader) service() error {
	if err := r.present("a service"); err != nil {
		return err
	}
	var seen members
	return r.object(func(name []byte) (err error) {
		switch member := seen.of(name, "Kind", "ID", "Tags", "Meta", "Port", "Address", "Connect", "Proxy"); member {
		case 0:
			var kind string
			kind, err = r.shared(string(r.was.Kind))
			r.now.Kind = api.ServiceKind(kind)
		case 1:
			r.now.ID, err = r.shared(r.was.ID)
			r.align()
		case 2:
			r.now.Tags, err = r.tags(r.was.Tags)
		case 3:
			r.now.Meta, err = r.meta(r.was.Meta)
		case 4:
			r.now.Port, err = r.integer()
		case 5:
			r.now.Address, err = r.shared(r.was.Address)
		case 6:
			err = r.only("Native", func() (err error) { r.now.Native, err = r.boolean(); return err })
		case 7:
			err = r.only("DestinationServiceID", func() (err error) { r.now.ProxyFor, err = r.shared(r.was.ProxyFor); return err })
		default:
			err = r.other(member)
		}
		return err
	})
}

// align finds what the instance was in the last answer, if others came or went before it.
func (r *entryReader) align() {
	if r.now.named(&r.was) {
		return
	}
	for i, entry := range r.last {
		if r.now.named(entry) {
			r.next, r.was = i, *entry
			return
		}
	}
}

// only takes an object of which one member is used.
func (r *entryReader) only(wanted string, take func() error) error {
	var seen members
	return r.object(func(name []byte) error {
		if member := seen.of(name, wanted); member != 0 {
			return r.other(member)
		}
		return take()
	})
}

// checks takes the checks, of which it is only asked whether all pass.
func (r *entryReader) checks() error {
	return r.array(func() error {
		passes, maintenance := false, false
		var seen members
		err := r.object(func(name []byte) error {
			member := seen.of(name, "CheckID", "Status")
			if member != 0 && member != 1 {
				return r.other(member)
			}
			if null, err := r.null(); null || err != nil {
				return err
			}
			text, err := r.text()
			if member == 0 {
				maintenance = string(text) == api.NodeMaint || bytes.HasPrefix(text, []byte(api.ServiceMaintPrefix))
			} else {
				passes = string(text) == api.HealthPassing
			}
			return err
		})
		r.now.Passing = r.now.Passing && passes && !maintenance
		return err
	})
}

// tags takes a list of texts. It is the known one if all are the same, and else shares
// with it the texts that they have in common in the same order.
func (r *entryReader) tags(known []string) ([]string, error) {
	var list []string // nil as long as all are the same
	at := 0           // where known goes on
	err := r.array(func() error {
		text, err := r.text()
		if err != nil {
			return err
		}
		if list == nil && at < len(known) && string(text) == known[at] {
			at++
			return nil
		}
		if list == nil {
			list = append(make([]string, 0, len(known)+1), known[:at]...)
		}
		// A tag that was put in, or taken out, or replaced, moves the rest by one.
		for ahead := at; ahead < min(at+2, len(known)); ahead++ {
			if string(text) == known[ahead] {
				at, list = ahead+1, append(list, known[ahead])
				return nil
			}
		}
		list = append(list, string(text))
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case list == nil:
		list = known
		if at < len(known) {
			list = slices.Clone(known[:at])
		}
	}
	return list, nil
}

// meta takes an object of texts. It is the known one if nothing of it is new.
func (r *entryReader) meta(known map[string]string) (map[string]string, error) {
	if null, err := r.null(); null || err != nil {
		return nil, err
	}
	if r.found == nil {
		r.found = map[string]string{}
	}
	clear(r.found)
	err := r.object(func(name []byte) error {
		key := sharedKey(known, name)
		if _, twice := r.found[key]; twice {
			return r.other(again)
		}
		value, err := r.shared(known[key])
		r.found[key] = value
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case known != nil && maps.Equal(known, r.found):
		return known, nil
	}
	return maps.Clone(r.found), nil
}

// sharedKey returns the name as a text, that of known if it is there.
func sharedKey(known map[string]string, name []byte) string {
	if _, there := known[string(name)]; there {
		for key := range known {
			if key == string(name) {
				return key
			}
		}
	}
	return string(name)
}

// members are those of an object that were seen.
type members uint

// both reports whether the first two of those wanted were seen.
func (m members) both() bool { return m&0b11 == 0b11 }

// What of returns for a member that is not among those wanted, and for one that was
// seen before.
const (
	unknown = -1
	again   = -2
)

// of returns the place of a name among those wanted. Case does not count, as with
// encoding/json.
func (m *members) of(name []byte, wanted ...string) int {
	place := slices.IndexFunc(wanted, func(w string) bool { return string(name) == w })
	if place < 0 {
		place = slices.IndexFunc(wanted, func(w string) bool { return strings.EqualFold(string(name), w) })
	}
	switch {
	case place < 0:
		return unknown
	case *m&(1<<place) != 0:
		return again
	}
	*m |= 1 << place
	return place
}
