// Package override reads the language by which an operator changes the routes
// that the catalog declares, in the form that Fabio made known (key fabio/config):
//
//	route add SERVICE ROUTE DESTINATION [weight W] [tags "A,B"] [opts "NAME=VALUE ..."]
//	route del SERVICE [ROUTE [DESTINATION]]
//	route del SERVICE tags "A,B"
//	route del tags "A,B"
//	route weight SERVICE ROUTE weight W [tags "A,B"]
//	route weight ROUTE weight W tags "A,B"
//
// A line that begins with # or // is a comment. Commands are applied after what is
// discovered and in their order. A weight is the share of the whole matching set,
// however many instances it has. Options are those of tags.
//
// A line that cannot be read is quarantined with its number and reason; the others
// hold. Fabio gives up the whole table then.
//
// The package is pure: text in, commands out.
package override

import (
	"fmt"
	"slices"
	"strings"

	"sluice/gateway/route"
	"sluice/gateway/tag"
)

// maxLine bounds a line in bytes.
const maxLine = 4096

// Source is a text with the name by which problems call it, such as the key that
// holds it.
type Source struct{ Name, Text string }

// Problem is a line that is quarantined, and why.
type Problem struct {
	Source string `json:"source"`
	// Line counts from 1 in its source.
	Line   int    `json:"line"`
	Text   string `json:"text"`
	Reason string `json:"reason"`
}

// Config is what a text is read with.
type Config struct {
	// Datacenter is what $DC in a route stands for.
	Datacenter string
	// Match is how paths are compared where a command does not say.
	Match tag.Match
	// Check returns why the gateway cannot serve what a command adds; nil takes
	// everything.
	Check func(tag.Route) error
}

// Commands are what was read, in order. They are immutable and safe for
// concurrent use, and implement route.Rules.
type Commands struct {
	list     []command
	added    []route.Key
	problems []Problem
}

// Parse reads sources one after the other.
func Parse(cfg Config, sources ...Source) *Commands {
	p := parser{tags: tag.NewParser("", cfg.Datacenter).Matching(cfg.Match), check: cfg.Check}
	c := &Commands{}
	for _, source := range sources {
		number := 0
		for line := range strings.SplitSeq(source.Text, "\n") {
			number++
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "//") {
				continue
			}
			command, err := p.line(line)
			if err != nil {
				c.problems = append(c.problems, Problem{Source: source.Name, Line: number, Text: fmt.Sprintf("%.120q", line), Reason: err.Error()})
				continue
			}
			c.list = append(c.list, command)
			if command.verb == add && !slices.Contains(c.added, command.key) {
				c.added = append(c.added, command.key)
			}
		}
	}
	return c
}

// Problems returns the lines that are quarantined, in order.
func (c *Commands) Problems() []Problem { return slices.Clone(c.problems) }

// Len returns the number of commands that hold.
func (c *Commands) Len() int { return len(c.list) }

// Added returns the routes to which the commands add targets.
func (c *Commands) Added() []route.Key { return c.added }

// Apply returns the targets of a route after the commands.
func (c *Commands) Apply(key route.Key, targets []route.Target) []route.Target {
	for i := range c.list {
		targets = c.list[i].apply(key, targets)
	}
	return targets
}

type verb uint8

const (
	add verb = iota
	del
	weight
)

// command is one line.
type command struct {
	verb verb
	// service, if not "", is the only one that is meant.
	service string
	// key is the route that is meant if hasKey. Only add means its Match.
	key    route.Key
	hasKey bool
	// address and proto, if address is not "", are of the only target meant.
	address string
	proto   tag.Proto
	weight  float64
	// tags are what a target must all have.
	tags   []string
	target route.Target // what add adds
}

func (c *command) apply(key route.Key, targets []route.Target) []route.Target {
	switch c.verb {
	case add:
		same := func(t route.Target) bool {
			return t.Service == c.service && t.Instance.Address == c.target.Instance.Address && t.Options.Equal(c.target.Options) &&
				t.Weight == c.target.Weight && slices.Equal(t.Instance.Tags, c.tags)
		}
		if key == c.key && !slices.ContainsFunc(targets, same) {
			targets = append(targets, c.target)
		}
	case del:
		if c.takes(key) {
			targets = slices.DeleteFunc(targets, c.means)
		}
	case weight:
		if c.takes(key) {
			c.weigh(targets)
		}
	}
	return targets
}

// takes reports whether the command is about a route, whichever way its path is
// compared.
func (c *command) takes(key route.Key) bool {
	path := c.key.Path
	if key.Match == tag.IPrefix {
		path = strings.Map(func(r rune) rune {
			if r < 0x80 {
				return rune(tag.Lower(byte(r)))
			}
			return r
		}, path)
	}
	return !c.hasKey || c.key.Kind == key.Kind && c.key.Host == key.Host && path == key.Path
}

// means reports whether the command is about a target.
func (c *command) means(t route.Target) bool {
	if c.service != "" && t.Service != c.service {
		return false
	}
	if c.address != "" && (t.Instance.Address != c.address || t.Options.Proto != c.proto) {
		return false
	}
	for _, want := range c.tags {
		if !slices.Contains(t.Instance.Tags, want) {
			return false
		}
	}
	return true
}

// weigh splits the weight among the targets that are meant.
func (c *command) weigh(targets []route.Target) {
	n := 0
	for _, t := range targets {
		if c.means(t) {
			n++
		}
	}
	for i := range targets {
		if c.means(targets[i]) {
			targets[i].Weight = c.weight / float64(n)
		}
	}
}
