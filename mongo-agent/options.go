package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"

	"sluice/internal/service"
	"sluice/mongo-agent/replset"
)

// member is one member that the replica set has or may have: the node it runs on,
// its name in the set, a "host:port", and its datacenter.
type member struct{ Node, Address, Datacenter string }

// options are the command line.
type options struct {
	service.Common
	// Mongod is where the own mongod listens.
	Mongod string
	// Members are all members, in the same order on every node; the first one's
	// agent initiates the set, with those of its own datacenter. The others may join
	// later: until the set's configuration has them, they count for nothing.
	Members []member
	Set     string
	// KeyFile, AppPasswordFile: paths, so that no secret shows in a list of
	// processes.
	KeyFile         string
	AppUser         string
	AppPasswordFile string
	// Flat says that the members reach each other without agents.
	Flat bool
	// Profile is the name of the profile, and profile its values after the flags.
	Profile string
	profile profile
}

func parseOptions(args []string, stdout io.Writer) (options, error) {
	var o options
	var chosen profileFlags
	fs := flag.NewFlagSet("mongo-agent", flag.ContinueOnError)
	o.Bind(fs)
	fs.StringVar(&o.Mongod, "mongod", "", "`host:port` of the own mongod, on this node's loopback")
	fs.Func("member", "`node=host:port[/datacenter]` of a member that the set has or may have, once per member, in the same order everywhere; without a datacenter it is the own one", func(text string) error {
		m, err := parseMember(text)
		o.Members = append(o.Members, m)
		return err
	})
	fs.StringVar(&o.Set, "replica-set", "consuldemo", "`name` of the replica set")
	fs.StringVar(&o.KeyFile, "key-file", "", "mongod's key `file`, mode 0600")
	fs.StringVar(&o.AppUser, "app-user", "", "`name` of the application's user; empty makes none")
	fs.StringVar(&o.AppPasswordFile, "app-password-file", "", "`file` with that user's password, mode 0600")
	fs.BoolVar(&o.Flat, "flat", false, "members reach each other directly: replication is not carried over mTLS")
	chosen.bind(fs)
	if err := service.ParseFlags(fs, args, stdout); err != nil {
		return options{}, err
	}
	var err error
	o.Profile = chosen.name
	for i := range o.Members {
		o.Members[i].Datacenter = cmp.Or(o.Members[i].Datacenter, o.Datacenter)
	}
	o.profile, err = chosen.resolve()
	return o, errors.Join(o.Validate(), o.validate(), err)
}

func parseMember(text string) (member, error) {
	node, place, found := strings.Cut(text, "=")
	address, datacenter, _ := strings.Cut(place, "/")
	if !found || node == "" {
		return member{}, errors.New("want node=host:port/datacenter")
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return member{}, err
	}
	return member{node, address, datacenter}, nil
}

func (o options) validate() error {
	var problems []error
	add := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if err := loopback(o.Mongod); err != nil {
		add("-mongod %q: %w", o.Mongod, err)
	}
	if o.KeyFile == "" {
		add("-key-file is missing: mongod without authentication is not served")
	}
	if o.Set == "" {
		add("-replica-set is empty")
	}
	if (o.AppUser == "") != (o.AppPasswordFile == "") {
		add("-app-user and -app-password-file go together")
	}
	nodes, addresses := map[string]bool{}, map[string]bool{}
	for _, m := range o.Members {
		if nodes[m.Node] || addresses[m.Address] {
			add("-member %s=%s: node or address is there twice", m.Node, m.Address)
		}
		nodes[m.Node], addresses[m.Address] = true, true
		if err := loopback(m.Address); err != nil && !o.Flat {
			add("-member %s=%s: %w", m.Node, m.Address, err)
		}
	}
	if !nodes[o.Node] {
		add("-member: none is on this node, %q", o.Node)
	}
	if len(problems) == 0 {
		return nil
	}
	return service.UsageError{Err: errors.Join(problems...)}
}

// loopback returns nil for an address that only its own node reaches.
func loopback(address string) error {
	parsed, err := netip.ParseAddrPort(address)
	switch {
	case err != nil:
		return errors.New("want IP:port")
	case !parsed.Addr().IsLoopback():
		return errors.New("not a loopback address: mongod would be reachable past the mesh")
	}
	return nil
}

// own returns the own member.
func (o options) own() member {
	i := slices.IndexFunc(o.Members, func(m member) bool { return m.Node == o.Node })
	return o.Members[i]
}

// others returns the other members.
func (o options) others() []member {
	return slices.DeleteFunc(slices.Clone(o.Members), func(m member) bool { return m.Node == o.Node })
}

func (o options) otherNodes() []string {
	var nodes []string
	for _, m := range o.others() {
		nodes = append(nodes, m.Node)
	}
	return nodes
}

// initiates reports whether the own member is the one that starts the set.
func (o options) initiates() bool { return o.Members[0].Node == o.Node }

// founders are the members that the set begins with: those of the own datacenter.
func (o options) founders() []replset.Member {
	var founders []replset.Member
	for _, m := range o.Members {
		if m.Datacenter == o.Datacenter {
			founders = append(founders, replset.Member{Address: m.Address, Datacenter: m.Datacenter})
		}
	}
	return founders
}
