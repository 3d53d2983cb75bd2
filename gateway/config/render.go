package config

import (
	"fmt"
	"slices"
	"strings"
)

// Row is one value of a Config, for people. It holds no secret.
type Row struct {
	Name string `json:"name"`
	// Value is what Parse reads. A flag that may be given several times has a row for
	// each value, and one with "" if it has none.
	Value string `json:"value"`
	// Source is as Origin.String returns it.
	Source string `json:"source"`
}

// Render returns all values in the order of the usage text.
func (c Config) Render() []Row {
	var rows []Row
	for _, s := range settings() {
		values := s.get(&c)
		if len(values) == 0 {
			values = []string{""}
		}
		for i, value := range values {
			rows = append(rows, Row{Name: s.name, Value: value, Source: c.origin(s.name, i).String()})
		}
	}
	return rows
}

// File returns the values that are no defaults as a file for -config: with it
// alone, Parse returns a Config that is the same but for the origins of values.
func (c Config) File() string {
	var b strings.Builder
	for _, row := range c.Render() {
		if len(c.origins[row.Name]) > 0 {
			b.WriteString(row.Name + " = " + row.Value + "\n")
		}
	}
	return b.String()
}

// Flag describes one flag, for documents.
type Flag struct {
	// Name is without the dash, Alias another name, or "".
	Name, Alias string
	// Group is the heading that it is under.
	Group string
	// Value is the form of its value, "" where there is none to give.
	Value string
	Usage string
	// Default is as Render writes it; "" also where there is none.
	Default string
	// Repeat is true if it may be given several times.
	Repeat bool
}

// Flags returns all flags but -h and -version, in the order of the usage text.
func Flags() []Flag {
	c := fallback()
	flags := []Flag{}
	for _, s := range settings() {
		f := Flag{Name: s.name, Alias: s.alias, Group: s.group, Value: s.value, Usage: s.usage, Repeat: s.repeat}
		f.Default = strings.Join(s.get(&c), " ")
		switch s.name {
		case "port", "admin-port": // what they are by default depends on others, and the usage says how
			f.Default = ""
		}
		flags = append(flags, f)
	}
	last := slices.IndexFunc(flags, func(f Flag) bool { return f.Group != flags[0].Group })
	return slices.Insert(flags, last, Flag{
		Name: configName, Group: flags[0].Group, Value: "FILE",
		Usage: "file with lines of NAME = VALUE, where NAME is a flag without its dash; a line that begins with # is a comment",
	})
}

// ListenOption describes one option of -listen, for documents.
type ListenOption struct{ Name, Value, Usage string }

// ListenOptions returns all of them, in the order in which they are written.
func ListenOptions() []ListenOption {
	var found []ListenOption
	for _, o := range new(Listener).options() {
		found = append(found, ListenOption{Name: o.name, Value: o.value, Usage: o.usage})
	}
	return found
}

const usageEnd = `
Each flag but -h and -version may also be in the environment, as ` + envPrefix + `NAME with _ for -,
several values with | between them, and in the file of -config. A flag comes before the
environment, and that before the file. Files named here are read as the gateway's user; no
secret is ever a value.

Examples
  Plain HTTP on the loopback, as in the lab:
    gateway -node gateway-1 -address 198.18.1.31
  HTTPS for everybody, HTTP behind a load balancer that sends PROXY headers:
    gateway -node edge-1 -address 192.0.2.10 \
      -listen ':443;proto=https;certs=/etc/gateway/certs' \
      -listen '192.0.2.10:80;pxyproto=true;pxyfrom=192.0.2.0/28;public=true'
  TLS passed on by its server name, two datacenters, and a file for the rest:
    gateway -config /etc/gateway/gateway.conf \
      -listen ':8443;proto=tcp+sni;it=1h' -datacenters dc1,dc2
`

// Usage returns the text of -h.
func Usage() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s -node NAME -address IP [flags]\n", program)
	for _, command := range []string{"check [flags]", "explain URL | REQUEST-ID", "lint [TAG ...]", "import-fabio FILE"} {
		fmt.Fprintf(&b, "       %s %s\n", program, command)
	}
	group := ""
	for _, f := range Flags() {
		if f.Group != group {
			group = f.Group
			fmt.Fprintf(&b, "\n%s\n", group)
		}
		fmt.Fprintf(&b, "  %s\n        %s\n", strings.TrimSpace("-"+f.Name+" "+f.Value), f.sentence())
		if f.Name == "listen" {
			for _, o := range ListenOptions() {
				fmt.Fprintf(&b, "          %s=%s\n                %s\n", o.Name, o.Value, o.Usage)
			}
		}
	}
	b.WriteString("  -version\n        print the version and exit\n  -h\n        print this text and exit\n")
	return b.String() + usageEnd
}

// sentence is the usage with what else there is to say.
func (f Flag) sentence() string {
	text := f.Usage
	if f.Alias != "" {
		text += "; also -" + f.Alias
	}
	if f.Default != "" && f.Default != "false" {
		text += " (default " + f.Default + ")"
	}
	return text
}
