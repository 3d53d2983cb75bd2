package acl

import (
	"fmt"
	"net/netip"
)

// Reason says why a List decided as it did.
type Reason uint8

// The reasons of a Verdict. Refused are Denied, NotAllowed and Unknown; the zero
// Reason is a refusal too, so that a Verdict nobody gave lets nobody in.
const (
	// Unknown: it is not known who the client is.
	Unknown Reason = iota
	// Denied: a range of the deny list holds the client.
	Denied
	// NotAllowed: there is an allow list, and no range of it holds the client.
	NotAllowed
	// Open: there is no list.
	Open
	// Allowed: a range of the allow list holds the client.
	Allowed
	// NotDenied: there is only a deny list, and it does not hold the client.
	NotDenied
)

// Verdict is what a List says about one client.
type Verdict struct {
	Client netip.Addr
	Reason Reason
	// Rule is the range that decided, for Denied and Allowed.
	Rule netip.Prefix
}

// Allowed reports whether the client may go on.
func (v Verdict) Allowed() bool { return v.Reason >= Open }

// String returns the verdict as a sentence without a full stop.
func (v Verdict) String() string {
	switch v.Reason {
	case Denied:
		return fmt.Sprintf("%s is denied by %s", v.Client, v.Rule)
	case NotAllowed:
		return fmt.Sprintf("%s is in no allowed network", v.Client)
	case Open:
		return "no list restricts clients"
	case Allowed:
		return fmt.Sprintf("%s is allowed by %s", v.Client, v.Rule)
	case NotDenied:
		return fmt.Sprintf("%s is in no denied network", v.Client)
	default:
		return "the client's address is unknown"
	}
}

// List is who may use a route, as the options allow= and deny= say. It is
// immutable. The zero List lets everybody in.
type List struct {
	allow, deny Networks
	restricted  bool
}

// NewList returns a list. A deny wins over an allow; where there are allowed
// networks, whoever is in none of them is refused.
func NewList(allow, deny []netip.Prefix) (List, error) {
	allowed, err := NewNetworks(allow)
	if err != nil {
		return List{}, fmt.Errorf("allow: %w", err)
	}
	denied, err := NewNetworks(deny)
	if err != nil {
		return List{}, fmt.Errorf("deny: %w", err)
	}
	return List{allow: allowed, deny: denied, restricted: !allowed.Empty() || !denied.Empty()}, nil
}

// Check gives the verdict on a client. A client whose address is not valid is
// refused wherever there is a list at all. It allocates nothing.
func (l List) Check(client netip.Addr) Verdict {
	client = plain(client)
	switch {
	case !l.restricted:
		return Verdict{Client: client, Reason: Open}
	case !client.IsValid():
		return Verdict{Reason: Unknown}
	}
	if rule, ok := l.deny.find(client); ok {
		return Verdict{Client: client, Reason: Denied, Rule: rule}
	}
	if l.allow.Empty() {
		return Verdict{Client: client, Reason: NotDenied}
	}
	if rule, ok := l.allow.find(client); ok {
		return Verdict{Client: client, Reason: Allowed, Rule: rule}
	}
	return Verdict{Client: client, Reason: NotAllowed}
}
