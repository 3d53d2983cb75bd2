package config

import (
	"fmt"
	"slices"
	"strings"

	"sluice/gateway/tag"
)

const (
	defaultPort      = 9999
	defaultAdminPort = 9998
)

// adminAddress is the value of -admin-address.
type adminAddress struct {
	given bool
	Address
	public bool
}

func (a *adminAddress) options() []option {
	return []option{boolOption("public", "allow an address that others than this node reach", &a.public)}
}

func (a *adminAddress) parse(text string) error {
	*a = adminAddress{}
	if text == "" {
		return nil
	}
	a.given = true
	return parseSpec(text, &a.Address, a.options())
}

// String returns the text that parse reads.
func (a *adminAddress) String() string {
	if !a.given {
		return ""
	}
	return a.Address.String() + writeOptions(a.options())
}

// finish fills in what follows from other values, and judges how the values go
// together.
func (c *Config) finish() (problems []error) {
	problems = c.Problems(c.in)
	if !c.Loopback.IsLoopback() {
		return problems // listeners are placed by it
	}
	add := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if strings.Contains(c.ConsulAddress, "@") {
		add("%s: it holds a user's name or a password; the token belongs into the file of -token-file", c.in("consul"))
	}
	if c.strictPaths {
		if len(c.origins["match"]) > 0 && c.Match != tag.Segment {
			add("%s contradicts %s: it is the same as -match segment; leave one of them out", c.in("strict-paths"), c.also("match", c.Match.String()))
		}
		c.Match = tag.Segment
	}
	c.placeListeners()
	if len(c.Listeners) == 0 {
		add("%s none without -listen: nobody could connect; give one of them", c.in("port"))
	}
	for i, l := range c.Listeners {
		for _, problem := range l.problems(c) {
			add("%s %s: %w", c.listenerIn(i), l.Address, problem)
		}
	}
	problems = append(problems, c.placeAdmin()...)
	problems = append(problems, c.collisions()...)
	if c.ejection.Max < c.ejection.Base {
		add("%s %s is less than %s", c.in("eject-max"), durationText(c.ejection.Max), c.also("eject-base", durationText(c.ejection.Base)))
	}
	if c.Retries > 0 && c.retryRatio == 0 && c.retryRate == 0 {
		add("%s %d, but %s and %s allow none; say -retries 0", c.in("retries"), c.Retries, c.also("retry-ratio", "0"), c.also("retry-rate", "0"))
	}
	for i, scheme := range c.Auth {
		for j, before := range c.Auth[:i] {
			if before.Name == scheme.Name {
				add("%s: the scheme %q is declared twice%s", c.origin("auth", i).in(), scheme.Name, c.origin("auth", j).behind())
			}
		}
	}
	return problems
}

// placeListeners makes the list of all listeners.
func (c *Config) placeListeners() {
	if c.port == unset {
		c.port = defaultPort
		if len(c.listen) > 0 {
			c.port = noPort
		}
	}
	if c.port != noPort {
		c.Listeners = append(c.Listeners, Listener{Address: Address{Host: c.Loopback.Unmap(), Port: uint16(c.port)}, Proto: HTTP})
	}
	for _, l := range c.listen {
		l.Certs = slices.Clone(l.Certs)
		if l.Proto.TLS() && !l.hasCerts() {
			l.CertDir = c.CertDir
		}
		if l.PROXY && l.PROXYFrom.Empty() {
			l.PROXYFrom = c.TrustedProxies
		}
		if l.TLSMin == "" && l.Proto.TLS() {
			l.TLSMin = TLS12
		}
		c.Listeners = append(c.Listeners, l)
	}
}

// listener returns the setting that a listener comes from, and where that is.
func (c *Config) listener(i int) (name string, origin Origin) {
	switch {
	case c.port == noPort:
		return "listen", c.origin("listen", i)
	case i == 0:
		return "port", c.origin("port", 0)
	}
	return "listen", c.origin("listen", i-1)
}

// listenerIn begins a line about a listener.
func (c *Config) listenerIn(i int) string {
	_, origin := c.listener(i)
	return origin.in()
}

// problems returns what is wrong with a listener as such.
func (l Listener) problems(c *Config) (problems []error) {
	add := func(wrong bool, format string, args ...any) {
		if wrong {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	plain := !l.Proto.TLS()
	add(!plain && !l.hasCerts(), "proto=%s needs certificates; add certs=DIR, cert=FILE,key=FILE or -cert-dir", l.Proto)
	add(plain && l.hasCerts(), "proto=%s has no use for certificates; want proto=https or none", l.Proto)
	add(plain && l.ClientCA != "", "proto=%s has no use for clientca=: without TLS nobody shows a certificate", l.Proto)
	add(plain && l.StrictMatch, "proto=%s has no use for strictmatch=", l.Proto)
	add(plain && l.TLSMin != "", "proto=%s has no use for tlsmin=", l.Proto)
	add(plain && l.Handshake > 0 && l.Proto != TCPSNI, "proto=%s has no use for handshake=", l.Proto)
	add(l.H2C && !l.plainHTTP(), "proto=%s has no use for h2c=; it is for http and grpc", l.Proto)
	add(!l.PROXY && !l.PROXYFrom.Empty(), "pxyfrom= without pxyproto=true")
	add(!l.PROXY && l.PROXYOthers, "pxyothers=true without pxyproto=true")
	add(l.PROXY && l.PROXYFrom.Empty(), "pxyproto=true, but nobody is trusted to send a PROXY header; add pxyfrom=CIDR or -trusted-proxies")
	exposed := (l.plainHTTP() || l.Proto == TCP) && !l.Address.Loopback()
	add(exposed && !l.Public, "plain traffic on an address that others reach; bind to %s, use TLS, or add ;public=true if that is meant", c.Loopback)
	add(!exposed && l.Public, "public=true is for plain traffic on an address that others reach; leave it out")
	return problems
}

// placeAdmin finds the address of the operations page.
func (c *Config) placeAdmin() (problems []error) {
	a := c.adminAddress
	if !a.given {
		switch c.adminPort {
		case unset:
			c.adminPort = defaultAdminPort
		case noPort:
			return []error{fmt.Errorf("%s none: the operations page, with health and metrics, is always there; want a port, or -admin-address", c.in("admin-port"))}
		}
		c.Admin = Address{Host: c.Loopback.Unmap(), Port: uint16(c.adminPort)}
		return nil
	}
	if c.adminPort != unset && c.adminPort != noPort {
		problems = append(problems, fmt.Errorf("%s %d and %s contradict each other; leave one of them out", c.in("admin-port"), c.adminPort, c.also("admin-address", a.String())))
	}
	c.adminPort, c.Admin = noPort, a.Address
	switch {
	case !a.Loopback() && !a.public:
		problems = append(problems, fmt.Errorf("%s %s: others than this node reach it; bind to %s, or add ;public=true if that is meant", c.in("admin-address"), a.Address, c.Loopback))
	case a.Loopback() && a.public:
		problems = append(problems, fmt.Errorf("%s %s: public=true, but only this node reaches it; leave it out", c.in("admin-address"), a.Address))
	}
	return problems
}

// collisions returns which of the addresses cannot be bound to at once.
func (c *Config) collisions() (problems []error) {
	admin := "admin-port"
	if c.adminAddress.given {
		admin = "admin-address"
	}
	for i, l := range c.Listeners {
		for j, before := range c.Listeners[:i] {
			if l.Address.Overlaps(before.Address) {
				name, origin := c.listener(j)
				problems = append(problems, fmt.Errorf("%s %s: the port is taken by %s", c.listenerIn(i), l.Address, origin.also(name, before.Address.String())))
			}
		}
		if l.Address.Overlaps(c.Admin) {
			problems = append(problems, fmt.Errorf("%s %s: the port is taken by the operations page at %s%s", c.listenerIn(i), l.Address, c.Admin, c.origin(admin, 0).behind()))
		}
	}
	return problems
}
