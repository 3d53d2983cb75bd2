package intentions

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Overlay is a set of denials that one datacenter holds on top of the intentions: the
// break-glass for a datacenter whose primary, where intentions are written, is out of
// reach. It can only take permissions away. It is immutable; the zero Overlay takes
// none.
type Overlay struct{ denials []Denial }

// Denial denies an edge, or with Wildcard many.
type Denial struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	// By, Reason and At are who denied it, why and when; empty where nobody said so.
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at,omitzero"`
	// Fault says what could not be read of the key or its value. The denial holds all
	// the same, for what could be read, and for everything where that is nothing.
	Fault string `json:"fault,omitempty"`
}

// Edge returns "source -> destination".
func (d Denial) Edge() string { return d.Source + " -> " + d.Destination }

// Matches reports whether the denial speaks about a connection from source to
// destination.
func (d Denial) Matches(source, destination string) bool {
	return (d.Source == Wildcard || d.Source == source) && (d.Destination == Wildcard || d.Destination == destination)
}

// String says the denial in one line.
func (d Denial) String() string {
	text := d.Edge() + " by break-glass"
	if d.By != "" {
		text += ", by " + d.By
	}
	if !d.At.IsZero() {
		text += " at " + d.At.UTC().Format(time.RFC3339)
	}
	if d.Reason != "" {
		text += ": " + d.Reason
	}
	if d.Fault != "" {
		text += " (" + d.Fault + ")"
	}
	return text
}

// DenialKey returns the key below which the denial of an edge is kept, and the value
// that belongs there.
func DenialKey(prefix string, d Denial) (key string, value []byte, err error) {
	for _, name := range []string{d.Source, d.Destination} {
		if !deniable(name) {
			return "", nil, fmt.Errorf("deny %s: %q is no name of a service", d.Edge(), name)
		}
	}
	value, err = json.Marshal(note{By: d.By, Reason: d.Reason, At: d.At})
	return prefix + "/" + d.Source + "/" + d.Destination, value, err
}

// note is the value of a key.
type note struct {
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at,omitzero"`
}

// maxName is the longest name of a service that is believed; Consul takes DNS labels.
const maxName = 128

// deniable reports whether name is Wildcard or may be that of a service.
func deniable(name string) bool {
	return name == Wildcard || name != "" && len(name) <= maxName &&
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
}

// DenialEntry is a key below the prefix, without it and its slash, with its value.
type DenialEntry struct {
	Key   string
	Value []byte
}

// NewOverlay reads keys of the form SOURCE/DESTINATION. The names say all that is
// denied, so that no value can make less of it. A key that cannot be read denies what
// can be: a source without a destination everything that it calls, and one without
// either everything.
func NewOverlay(entries []DenialEntry) Overlay {
	var denials []Denial
	for _, entry := range entries {
		if entry.Key != "" {
			denials = append(denials, entry.denial())
		}
	}
	slices.SortFunc(denials, func(a, b Denial) int { return strings.Compare(a.Edge(), b.Edge()) })
	return Overlay{denials}
}

func (e DenialEntry) denial() Denial {
	source, destination, _ := strings.Cut(e.Key, "/")
	d := Denial{Source: source, Destination: destination}
	if !deniable(source) {
		d.Source = Wildcard
	}
	if !deniable(destination) {
		d.Destination = Wildcard
	}
	if d.Source != source || d.Destination != destination {
		d.Fault = fmt.Sprintf("the key %.80q is not SOURCE/DESTINATION", e.Key)
	}
	var said note
	if err := json.Unmarshal(e.Value, &said); err != nil && d.Fault == "" {
		d.Fault = "its value says nothing of who and why"
	}
	d.By, d.Reason, d.At = clipped(said.By), clipped(said.Reason), said.At
	return d
}

// clipped keeps a text from filling a page.
func clipped(text string) string {
	const most = 200
	text = strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "?")
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// OverlayOf returns an overlay of denials that were read before.
func OverlayOf(denials []Denial) Overlay { return Overlay{slices.Clone(denials)} }

// Denials returns the denials, by their edges. The caller owns the slice.
func (o Overlay) Denials() []Denial { return slices.Clone(o.denials) }

// Equal reports whether both deny the same, for the same reasons.
func (o Overlay) Equal(other Overlay) bool {
	return slices.EqualFunc(o.denials, other.denials, func(a, b Denial) bool {
		at := a.At.Equal(b.At)
		a.At, b.At = time.Time{}, time.Time{}
		return at && a == b
	})
}

// Under returns the set with an overlay on top of it: what the overlay denies is denied,
// whatever the rules say.
func (s Set) Under(overlay Overlay) Set {
	s.overlay = overlay
	return s
}

// Overlay returns what is on top of the set.
func (s Set) Overlay() Overlay { return s.overlay }

// denied returns the denial that decides about a connection, or nil.
func (s Set) denied(source, destination string) *Denial {
	for i := range s.overlay.denials {
		if s.overlay.denials[i].Matches(source, destination) {
			return &s.overlay.denials[i]
		}
	}
	return nil
}
