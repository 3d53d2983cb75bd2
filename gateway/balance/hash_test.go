package balance_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"sluice/gateway/balance"
	"sluice/gateway/tag"
)

const hashKeys = 5_000

// owners returns who gets each of many keys when nothing else is in flight.
func owners(t testing.TB, p *balance.Picker) []string {
	t.Helper()
	list := make([]string, hashKeys)
	for i := range list {
		pick := must(t, p, balance.Request{Now: start(), Hash: balance.Hash(fmt.Sprint("client ", i))})
		list[i] = pick.Endpoint.Key()
		pick.Release()
	}
	return list
}

func hashing(members []balance.Member) *balance.Picker {
	return balance.NewPicker(balance.Config{Strategy: tag.Hash, Members: members, SlowStart: -1})
}

func TestAnEndpointThatLeavesMovesItsOwnKeysAndNoOther(t *testing.T) {
	shares := []float64{1, 1, 2, 1, .5, 1, 3, 1, 1, 1}
	_, es := endpoints(len(shares), balance.Ejection{})
	all := members(es, shares...)
	before := owners(t, hashing(all))
	for leaves := range all {
		after := owners(t, hashing(slices.Delete(slices.Clone(all), leaves, leaves+1)))
		moved := 0
		for i := range before {
			if before[i] == all[leaves].Endpoint.Key() {
				moved++
			} else if before[i] != after[i] {
				t.Fatalf("%s leaves, and key %d goes from %s to %s", all[leaves].Endpoint.Key(), i, before[i], after[i])
			}
		}
		want := hashKeys * shares[leaves] / 12.5
		if math.Abs(float64(moved)-want) > 6*math.Sqrt(want) {
			t.Errorf("share %v: %d keys moved, want about %.0f", shares[leaves], moved, want)
		}
	}
}

func TestAnEndpointThatJoinsTakesItsPartAndMovesNoOtherKey(t *testing.T) {
	const n = 20
	_, es := endpoints(n, balance.Ejection{})
	before, after := owners(t, hashing(members(es[:n-1]))), owners(t, hashing(members(es)))
	moved := 0
	for i := range before {
		if before[i] == after[i] {
			continue
		}
		if moved++; after[i] != es[n-1].Key() {
			t.Fatalf("key %d goes from %s to %s, and neither is new", i, before[i], after[i])
		}
	}
	if want := float64(hashKeys) / n; math.Abs(float64(moved)-want) > 6*math.Sqrt(want) {
		t.Errorf("%d of %d keys moved, want about %.0f", moved, hashKeys, want)
	}
}

func TestEachGatewaySendsAKeyToTheSameEndpoint(t *testing.T) {
	instances := keyed(12)
	here := owners(t, hashing(members(balance.NewGroup(balance.Ejection{}).Update(start(), instances))))
	random := seeded(t, 1)
	for range 3 {
		random.Shuffle(len(instances), func(i, j int) { instances[i], instances[j] = instances[j], instances[i] })
		there := owners(t, hashing(members(balance.NewGroup(balance.Ejection{}).Update(start(), instances))))
		if !slices.Equal(here, there) {
			t.Fatal("two gateways that learned of the instances in another order disagree")
		}
	}
}

func TestOneHotKeyDoesNotOverloadItsEndpoint(t *testing.T) {
	_, es := endpoints(10, balance.Ejection{})
	p := hashing(members(es))
	request := balance.Request{Now: start(), Hash: balance.Hash("everybody")}
	for inFlight := 1; inFlight <= 1000; inFlight++ {
		must(t, p, request)
		for _, e := range es {
			if most := math.Ceil(1.25 * float64(inFlight) / 10); float64(e.InFlight()) > most {
				t.Fatalf("%d of %d in flight at one of 10; want at most %v", e.InFlight(), inFlight, most)
			}
		}
	}
}
