package route

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"sluice/gateway/tag"
	"sluice/mesh"
)

func TestRadixHoldsWhatAMapHoldsInAShapeOfItsKeysAlone(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 3))
		var tree *radix[*int]
		model := map[string]*int{}
		for range 300 {
			key := ""
			for range r.IntN(5) {
				key += string(rune('a' + r.IntN(3)))
			}
			before, old := tree, tree.get(key)
			var value *int
			if r.IntN(2) == 0 {
				value = new(int)
				*value = r.Int()
				model[key] = value
			} else {
				delete(model, key)
			}
			if tree = tree.with(key, value); tree.get(key) != value || before.get(key) != old {
				t.Fatalf("seed %d: %q is %v, was %v before and is %v now", seed, key, tree.get(key), old, before.get(key))
			}
		}
		var fresh *radix[*int]
		for key, value := range model { // in the map's order, which is any
			fresh = fresh.with(key, value)
		}
		if !reflect.DeepEqual(tree, fresh) {
			t.Fatalf("seed %d: the shape depends on the past", seed)
		}
		n := 0
		tree.each(func(*int) bool { n++; return true })
		if n != len(model) {
			t.Fatalf("seed %d: %d values, want %d", seed, n, len(model))
		}
	}
}

func TestNamesForgetWhatIsRemoved(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 4))
	there := (*paths)(nil).with(Key{Path: "/"}, &Route{})
	var n *names
	model := map[string]declaredName{}
	for i := range 3000 {
		text := fmt.Sprintf(".name-%d.example", r.IntN(200))
		d := n.get(text)
		if want := model[text]; d.exact != want.exact || d.below != want.below {
			t.Fatalf("step %d: %q is %+v, want %+v", i, text, d, want)
		}
		d.exact, d.below = nil, nil
		if r.IntN(3) > 0 {
			d.exact = there
		}
		if r.IntN(3) == 0 {
			d.below = there
		}
		n = n.with(d)
		model[text] = d
		size, wildcards := 0, 0
		for _, d := range model {
			if d.exact != nil || d.below != nil {
				size++
			}
			if d.below != nil {
				wildcards++
			}
		}
		if n != nil && (n.size != size || n.wildcards != wildcards) || n == nil && size != 0 {
			t.Fatalf("step %d: counts %+v, want %d and %d", i, n, size, wildcards)
		}
	}
	for text := range model {
		d := n.get(text)
		d.exact, d.below = nil, nil
		n = n.with(d)
	}
	if n != nil {
		t.Errorf("%d names are left", n.size)
	}
}

// The walk over a name must find the suffixes under the hashes they have alone.
func TestTheHashOfASuffixIsTheHashOfTheText(t *testing.T) {
	hash := uint64(hashStart)
	const name = "A.b-C.example"
	for i := len(name) - 1; i >= 0; i-- {
		hash = hashByte(hash, tag.Lower(name[i]))
		if hash != hashName(name[i:]) {
			t.Fatalf("the hash of %q depends on what is before it", name[i:])
		}
	}
}

func TestWhatOtherInstancesDeclareIsNotReadAgain(t *testing.T) {
	list := func(extra ...mesh.Instance) map[string][]mesh.Instance {
		all := make([]mesh.Instance, 0, 3)
		for _, node := range []string{"a", "c"} {
			all = append(all, mesh.Instance{ServiceID: "web-" + node, Node: node, Address: node + ":1", Tags: []string{"urlprefix-" + node + "/", "urlprefix-all/"}})
		}
		return map[string][]mesh.Instance{"web": append(all, extra...)}
	}
	table := New(Config{Services: list()})
	before := table.services.get("web")
	next, changes := table.Update(time.Now(), list(mesh.Instance{ServiceID: "web-b", Node: "b", Address: "b:1", Tags: []string{"urlprefix-all/"}}))
	after := next.services.get("web")
	if len(after.parts) != 3 || after.parts[0] != before.parts[0] || after.parts[2] != before.parts[1] {
		t.Errorf("parts %v, want those of before with one between", after.parts)
	}
	if after.parts[1].readings[0] != before.parts[0].readings[1] {
		t.Error("a tag that is known was read again")
	}
	if len(changes) != 1 || changes[0].After.Host != "all" || len(changes[0].After.Targets) != 3 {
		t.Errorf("changes %+v, want that of the route of all", changes)
	}
}
