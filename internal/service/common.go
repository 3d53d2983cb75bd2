package service

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Common is what every process is told: where it is, and how to reach its
// node's Consul agent.
type Common struct {
	// Node is the name of the node that the process runs on ("web-1").
	Node string
	// Datacenter is the Consul datacenter of the node ("dc1").
	Datacenter string
	// Failover are the other datacenters in which services are looked for, in order
	// of preference after the own one.
	Failover []string
	// Address is where other nodes reach this one; mTLS listeners bind here.
	Address netip.Addr
	// Loopback is what only this node reaches; plain listeners bind here.
	Loopback netip.Addr
	// ConsulAddress is the node's own Consul agent, "host:port" or "unix://…".
	ConsulAddress string
	// TokenFile holds the process' Consul token; empty means none. A path, so
	// that the token shows in no list of processes.
	TokenFile string
	// BreakGlass is the key in Consul below which the datacenter's own denials are kept;
	// empty means that there are none.
	BreakGlass string
	// AdminHosts are names under which the operations endpoint answers beside IP
	// addresses, localhost and the host that it is bound to.
	AdminHosts []string
	// LogLevel is debug, info, warn or error.
	LogLevel string
	// LogFormat is json or text.
	LogFormat string
}

// names is a list as a flag: with commas between.
type names []string

// String implements flag.Value.
func (n *names) String() string { return strings.Join(*n, ",") }

// Set implements flag.Value.
func (n *names) Set(text string) error {
	*n = strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
	return nil
}

// Bind declares the flags with their defaults.
func (c *Common) Bind(fs *flag.FlagSet) {
	fs.StringVar(&c.Node, "node", "", "`name` of the node that this process runs on")
	fs.StringVar(&c.Datacenter, "datacenter", "dc1", "Consul datacenter of the node")
	fs.Var((*names)(&c.Failover), "failover-datacenters", "other datacenters in which services are looked for, in `order` of preference, with commas between")
	fs.TextVar(&c.Address, "address", netip.Addr{}, "`IP` where other nodes reach this node")
	fs.TextVar(&c.Loopback, "loopback", netip.AddrFrom4([4]byte{127, 0, 0, 1}), "`IP` that only this node reaches")
	fs.StringVar(&c.ConsulAddress, "consul", "127.0.0.1:8500", "`address` of the node's Consul agent, host:port or unix://path")
	fs.StringVar(&c.TokenFile, "token-file", "", "`file` with the Consul token, readable by its owner only")
	fs.StringVar(&c.BreakGlass, "break-glass", "", "`key` in Consul below which the datacenter's own denials are kept; nobody is let in before they are known; empty for none")
	fs.Var((*names)(&c.AdminHosts), "admin-hosts", "further `names`, with commas between, under which the operations endpoint answers; IP addresses and localhost always do, and any other name is refused with 421")
	fs.StringVar(&c.LogLevel, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&c.LogFormat, "log-format", "json", "json or text")
}

// Validate reports everything that is wrong with the values, as one usage
// error.
func (c *Common) Validate() error {
	problems := c.Problems(func(name string) string { return "-" + name })
	if len(problems) == 0 {
		return nil
	}
	return UsageError{Err: errors.Join(problems...)}
}

// Problems returns everything that is wrong with the values. in begins a line about the
// flag of a name: with the flag, or with where else its value comes from.
func (c *Common) Problems(in func(name string) string) (problems []error) {
	add := func(name, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s%w", in(name), fmt.Errorf(format, args...)))
	}
	if c.Node == "" {
		add("node", " is missing")
	}
	if c.Datacenter == "" {
		add("datacenter", " is empty")
	}
	for i, dc := range c.Failover {
		if dc == c.Datacenter || slices.Contains(c.Failover[:i], dc) {
			add("failover-datacenters", ": %s is there already", dc)
		}
	}
	for _, host := range c.AdminHosts {
		if err := checkHostName(host); err != nil {
			add("admin-hosts", ": %q: %w", host, err)
		}
	}
	if !c.Address.IsValid() {
		add("address", " is missing")
	}
	if !c.Loopback.IsLoopback() {
		add("loopback", " %s is not a loopback address: plain listeners would be reachable from other nodes", c.Loopback)
	}
	if c.ConsulAddress == "" {
		add("consul", " is empty")
	}
	if _, err := c.level(); err != nil {
		add("log-level", " %q: want debug, info, warn or error", c.LogLevel)
	}
	if c.LogFormat != "json" && c.LogFormat != "text" {
		add("log-format", " %q: want json or text", c.LogFormat)
	}
	return problems
}

// Logger returns the process' logger, which writes to w. Call it after Validate.
func (c Common) Logger(w io.Writer) *slog.Logger {
	level, _ := c.level()
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewJSONHandler(w, options)
	if c.LogFormat == "text" {
		handler = slog.NewTextHandler(w, options)
	}
	return slog.New(handler).With("node", c.Node, "dc", c.Datacenter)
}

// Listen returns "host:port" on the address that other nodes reach.
func (c Common) Listen(port int) string { return join(c.Address, port) }

// ListenLoopback returns "host:port" on the node's loopback.
func (c Common) ListenLoopback(port int) string { return join(c.Loopback, port) }

func join(address netip.Addr, port int) string {
	if address.Is6() {
		return "[" + address.String() + "]:" + strconv.Itoa(port)
	}
	return address.String() + ":" + strconv.Itoa(port)
}

func (c Common) level() (slog.Level, error) {
	var level slog.Level
	err := level.UnmarshalText([]byte(c.LogLevel))
	return level, err
}
