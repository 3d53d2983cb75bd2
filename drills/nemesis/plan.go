// Package nemesis breaks a lab at random, one fault at a time and in pairs, and
// checks after each that no acknowledged write is lost.
//
// What it does is decided by a seed alone, before anything is done.
package nemesis

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Fault is one thing to break. Targets are named by what they are when the fault
// is made: PRIMARY, NEXT in line, THIRD.
type Fault struct {
	// Do is the step that makes it; see rig.Rig.Do.
	Do string
	// After is how long after the first fault of its step it is made.
	After time.Duration
}

// Step is what is broken at the same time: one fault, or two.
type Step struct {
	Faults []Fault
	// Hold is how long the faults last, counted from the last one.
	Hold time.Duration
}

// String says the step in one line.
func (s Step) String() string {
	var parts []string
	for _, f := range s.Faults {
		part := f.Do
		if f.After > 0 {
			part += fmt.Sprintf(" %d ms later", f.After.Milliseconds())
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, " + ") + fmt.Sprintf(", for %.1f s", s.Hold.Seconds())
}

// kind is a fault without its target; %s is the target's node.
type kind struct {
	do string
	// single kinds are about the set or the datacenter, not about a node.
	single bool
	// weight is how often it is drawn beside the others.
	weight int
}

func kinds() []kind {
	return []kind{
		{do: "fault kill %s/mongod", weight: 4},
		{do: "fault stop %s/mongod", weight: 4},
		{do: "fault term %s/mongod", weight: 2},
		{do: "fault kill %s/mongo-agent", weight: 3},
		{do: "fault stop %s/mongo-agent", weight: 3},
		{do: "fault term %s/mongo-agent", weight: 2},
		{do: "fault restart %s/mongo-agent", weight: 1},
		{do: "fault cut %s", weight: 3},
		{do: "fault cut %s --direction in", weight: 2},
		{do: "fault cut %s --direction out", weight: 2},
		{do: "fault stop %s/consul", weight: 1},
		{do: "fault disk %s full", weight: 2},
		{do: "fault disk %s stall", weight: 2},
		{do: "mongo stepdown", single: true, weight: 2},
		{do: "fault kill consul-1/consul", single: true, weight: 2},
	}
}

// Plan returns the first n steps of a seed. The same seed gives the same steps,
// and more of them begin with the same ones.
func Plan(seed uint64, n int) []Step {
	random := rand.New(rand.NewPCG(seed, 0x5109ce))
	steps := make([]Step, n)
	for i := range steps {
		steps[i] = draw(random)
	}
	return steps
}

func draw(random *rand.Rand) Step {
	first := drawFault(random, "")
	step := Step{Faults: []Fault{first}}
	if random.IntN(3) == 0 {
		second := drawFault(random, first.Do)
		second.After = time.Duration(random.IntN(2000)) * time.Millisecond
		step.Faults = append(step.Faults, second)
	}
	step.Hold = 2*time.Second + time.Duration(random.IntN(6000))*time.Millisecond
	return step
}

// drawFault draws a fault that is not about the same process or link as another,
// so that the second of a pair can be made when the first one holds.
func drawFault(random *rand.Rand, other string) Fault {
	for {
		k := drawKind(random)
		target := []string{"PRIMARY", "PRIMARY", "PRIMARY", "NEXT", "THIRD"}[random.IntN(5)]
		do := k.do
		if !k.single {
			do = fmt.Sprintf(k.do, target)
		}
		if subject(do) != subject(other) && !overlap(do, other) {
			return Fault{Do: do}
		}
	}
}

func drawKind(random *rand.Rand) kind {
	total := 0
	for _, k := range kinds() {
		total += k.weight
	}
	at := random.IntN(total)
	for _, k := range kinds() {
		if at -= k.weight; at < 0 {
			return k
		}
	}
	return kinds()[0]
}

// subject is what a fault is about: a process, a node's link, or the step itself.
func subject(do string) string {
	words := strings.Fields(do)
	if len(words) >= 3 && words[0] == "fault" {
		return words[2]
	}
	return do
}

// overlap reports whether a pair cannot be made: a hand-over needs the primary
// that the other fault takes away.
func overlap(do, other string) bool {
	planned := func(s string) bool { return strings.HasPrefix(s, "mongo ") }
	return planned(do) && strings.Contains(other, "PRIMARY") || planned(other) && strings.Contains(do, "PRIMARY")
}
