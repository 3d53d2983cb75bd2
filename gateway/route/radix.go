package route

import (
	"strings"
	"unique"
)

// radix is a node of an immutable radix tree from text to T, and as a root the
// tree itself; nil is the empty tree. The zero T stands for no value. A change
// copies the nodes on its path and shares the rest. The shape depends on the keys
// alone, not on the order in which they came.
//
// A large table is bound by the memory that a lookup has to fetch, so nodes hold
// their values, and their texts are interned: hosts with equal paths, which most
// are, read the same bytes.
type radix[T comparable] struct {
	label string
	value T
	// index holds the first byte of the label of each child, in order.
	index    string
	children []*radix[T]
}

// interned returns text in memory that equal texts share. A long text is hardly
// shared, and stays as it is.
func interned(text string) string {
	if len(text) > 32 {
		return text
	}
	return unique.Make(text).Value()
}

func (n *radix[T]) get(key string) T {
	for n != nil && strings.HasPrefix(key, n.label) {
		key = key[len(n.label):]
		if key == "" {
			return n.value
		}
		n = n.child(key[0])
	}
	var none T
	return none
}

func (n *radix[T]) child(first byte) *radix[T] {
	if i := strings.IndexByte(n.index, first); i >= 0 {
		return n.children[i]
	}
	return nil
}

// with returns the tree in which key has value; the zero T removes the key.
func (n *radix[T]) with(key string, value T) *radix[T] {
	var none T
	if n == nil {
		if value == none {
			return nil
		}
		return &radix[T]{label: interned(key), value: value}
	}
	shared := commonPrefix(n.label, key)
	if shared < len(n.label) {
		if value == none {
			return n
		}
		return n.split(shared).with(key, value)
	}
	key = key[shared:]
	if key == "" {
		if n.value == value {
			return n
		}
		changed := *n
		changed.value = value
		return changed.tidy()
	}
	old := n.child(key[0])
	child := old.with(key, value)
	if child == old {
		return n
	}
	return n.withChild(key[0], child)
}

// split returns n with its label cut in two, the second part in a child. It is
// not tidy before something is added.
func (n *radix[T]) split(at int) *radix[T] {
	lower := *n
	lower.label = interned(n.label[at:])
	return &radix[T]{label: interned(n.label[:at]), index: interned(lower.label[:1]), children: []*radix[T]{&lower}}
}

// withChild returns n with another child, or none, under its first byte.
func (n *radix[T]) withChild(first byte, child *radix[T]) *radix[T] {
	at := 0
	for at < len(n.index) && n.index[at] < first {
		at++
	}
	rest := at
	if at < len(n.index) && n.index[at] == first {
		rest++
	}
	changed := *n
	changed.children = append(make([]*radix[T], 0, len(n.children)+1), n.children[:at]...)
	changed.index = n.index[:at] + n.index[rest:]
	if child != nil {
		changed.children = append(changed.children, child)
		changed.index = n.index[:at] + string([]byte{first}) + n.index[rest:]
	}
	changed.index = interned(changed.index)
	changed.children = append(changed.children, n.children[rest:]...)
	if len(changed.children) == 0 {
		changed.children = nil
	}
	return changed.tidy()
}

// tidy returns a node that holds something: nil if it holds nothing, its only
// child with the longer label if it has no value itself.
func (n *radix[T]) tidy() *radix[T] {
	var none T
	switch {
	case n.value != none || len(n.children) > 1:
		return n
	case len(n.children) == 0:
		return nil
	}
	only := *n.children[0]
	only.label = interned(n.label + only.label)
	return &only
}

// each calls visit for every value, in the order of the keys, until it returns
// false.
func (n *radix[T]) each(visit func(T) bool) bool {
	if n == nil {
		return true
	}
	var none T
	if n.value != none && !visit(n.value) {
		return false
	}
	for _, child := range n.children {
		if !child.each(visit) {
			return false
		}
	}
	return true
}

func commonPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
