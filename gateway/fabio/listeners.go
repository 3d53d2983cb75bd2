package fabio

import (
	"net"
	"slices"
	"strings"
	"time"

	"sluice/gateway/config"
)

// aDay is the longest time that a listener or a route may have.
const aDay = 24 * time.Hour

// listeners makes a flag of each listener.
func (c *converter) listeners(value string) {
	groups, err := parseGroups(value)
	switch {
	case err != nil:
		c.note(Malformed, "%s", err)
		return
	case len(groups) == 0:
		c.note(Malformed, "there is no listener")
		return
	}
	believed := false
	for _, g := range groups {
		text, ok := c.listener(g)
		if !ok {
			continue
		}
		c.flag("listen", text)
		believed = believed || strings.Contains(text, ";pxyproto=true")
	}
	if believed {
		c.note(ByHand, "name the load balancers in front with -trusted-proxies: Fabio believes a PROXY header from anybody")
	}
}

// listener returns the text of one listener. What of it has no equal is noted;
// false means that nothing is left.
func (c *converter) listener(g group) (string, bool) {
	address := g.get("")
	if address == "" {
		address = g.get("addr")
	}
	place, ok := c.address(address)
	if !ok {
		return "", false
	}
	proto, ok := c.proto(g, address)
	if !ok || !c.take(place) {
		return "", false
	}
	text := address + ";proto=" + proto + c.security(g, proto, address)
	if g.get("pxyproto") == "true" {
		text += ";pxyproto=true"
	}
	if plain := proto == "http" || proto == "grpc" || proto == "tcp"; plain && !place.Loopback() {
		text += ";public=true" // Fabio does not ask whether that is meant
	}
	for _, timeout := range []struct{ key, property string }{{"rt", "proxy.readtimeout"}, {"wt", "proxy.writetimeout"}, {"it", ""}} {
		value := g.get(timeout.key)
		if value == "" {
			value = strings.TrimSpace(c.values[timeout.property])
		}
		if value == "" {
			continue
		}
		if d, ok := c.time(value); ok && d > 0 {
			text += ";" + timeout.key + "=" + c.within(d, time.Millisecond, aDay).String()
		}
	}
	c.restOf(g, address)
	return text, true
}

// address reads an address, and notes why if the gateway cannot bind to it.
func (c *converter) address(text string) (config.Address, bool) {
	if strings.Contains(text, "{{") {
		c.note(ByHand, "templates of addresses are not expanded; write the address itself")
		return config.Address{}, false
	}
	if _, port, err := net.SplitHostPort(text); err != nil || port == "" {
		c.note(Malformed, "%q is not HOST:PORT", text)
		return config.Address{}, false
	}
	address, err := config.ParseAddress(text)
	if err != nil {
		c.note(ByHand, "write the IP address and the number of the port: %s", err)
		return config.Address{}, false
	}
	return address, true
}

// take keeps an address for one listener, and notes if another has it.
func (c *converter) take(address config.Address) bool {
	bound := c.bound
	if _, given := c.values["ui.addr"]; !given {
		bound = append(slices.Clip(bound), config.Address{Port: 9998}) // Fabio's default too
	}
	for _, other := range bound {
		if address.Overlaps(other) {
			c.note(Malformed, "%s: the port is taken by %s", address, other)
			return false
		}
	}
	c.bound = append(c.bound, address)
	return true
}

// proto returns our word for a listener's protocol.
func (c *converter) proto(g group, address string) (string, bool) {
	proto, source := g.get("proto"), g.get("cs")
	if proto == "" {
		proto = "http"
		if source != "" {
			proto = "https"
		}
	}
	if source != "" && c.source(source) == nil {
		c.note(Malformed, "%s: there is no certificate source %q in proxy.cs", address, source)
		return "", false
	}
	switch proto {
	case "http", "tcp+sni", "grpc":
	case "https", "grpcs", "https+tcp+sni":
		if source == "" && proto != "https+tcp+sni" {
			c.note(Malformed, "%s: %s needs a certificate source", address, proto)
			return "", false
		}
		if source == "" {
			c.note(ByHand, "%s: what is not passed on needs certificates; name their folder with -cert-dir, or make it tcp+sni", address)
		}
	case "tcp":
		if source != "" {
			c.note(Unsupported, "%s: TLS is not taken off TCP connections; tcp+sni passes it on", address)
			return "", false
		}
	case "tcp-dynamic":
		c.note(Unsupported, "%s: a port is opened by -listen, not by a tag", address)
		return "", false
	case "prometheus":
		c.note(Elsewhere, "%s: metrics are at /metrics on -admin-address", address)
		return "", false
	default:
		c.note(Malformed, "%s: the protocol %q is unknown", address, proto)
		return "", false
	}
	return proto, true
}

// restOf notes the options of a listener that do not become part of a flag.
func (c *converter) restOf(g group, address string) {
	for _, o := range g {
		switch o.key {
		case "", "addr", "proto", "cs", "rt", "wt", "it", "pxyproto":
		case "pxytimeout":
			c.note(Elsewhere, "%s: the time for a PROXY header is fixed", address)
		case "refresh":
			c.note(Elsewhere, "%s: listeners stay as they are", address)
		case "strictmatch", "tlsmin": // see security
		case "tlsmax":
			c.note(Unsupported, "%s: TLS 1.3 is the latest version, always", address)
		case "tlsciphers":
			c.note(Unsupported, "%s: the cipher suites are those that Go thinks safe", address)
		default:
			c.note(Unknown, "%s: Fabio has no option %q of a listener", address, o.key)
		}
	}
}

// security returns the options of a listener about TLS: the files of its source,
// unless they are in the folder of -cert-dir, and what else it asks for.
func (c *converter) security(g group, proto, address string) (text string) {
	if proto != "https" && proto != "grpcs" && proto != "https+tcp+sni" {
		if g.get("strictmatch") == "true" || g.get("tlsmin") != "" {
			c.note(Same, "%s: strictmatch and tlsmin are for TLS, which nobody speaks with the gateway here", address)
		}
		return ""
	}
	if source := c.source(g.get("cs")); source.get("type") == "file" && source.writable() {
		text = ";cert=" + source.get("cert")
		if key := source.get("key"); key != "" {
			text += ",key=" + key
		}
		if roots := source.get("clientca"); roots != "" {
			text += ";clientca=" + roots
		}
	}
	if g.get("strictmatch") == "true" {
		text += ";strictmatch=true"
	}
	switch value := strings.ToLower(strings.TrimSpace(g.get("tlsmin"))); value {
	case "":
	case "tls12", "0x0303", "771":
		c.note(Same, "%s: TLS 1.2 is the least", address)
	case "tls13", "0x0304", "772":
		text += ";tlsmin=1.3"
	default:
		c.note(Elsewhere, "%s: TLS 1.2 is the least, and older versions are refused", address)
	}
	return text
}

// source returns the certificate source of that name; nil if there is none.
func (c *converter) source(name string) group {
	groups, err := parseGroups(c.values["proxy.cs"])
	for _, g := range groups {
		if err == nil && name != "" && g.get("cs") == name {
			return g
		}
	}
	return nil
}

// listens reports whether a listener has the certificate source of that name, as far as
// there are listeners.
func (c *converter) listens(name string) bool {
	groups, err := parseGroups(c.values["proxy.addr"])
	return err != nil || len(groups) == 0 || slices.ContainsFunc(groups, func(g group) bool { return g.get("cs") == name })
}

// writable reports whether the paths of a source can be part of -listen.
func (g group) writable() bool {
	return !strings.ContainsAny(g.get("cert")+g.get("key")+g.get("clientca"), ",;|\"")
}

// groups reads a list that may be empty. What it says of a fault does not repeat
// the value, which may hold a token.
func (c *converter) groups(value string) ([]group, bool) {
	groups, err := parseGroups(value)
	switch {
	case err != nil:
		c.note(Malformed, "want KEY=VALUE;KEY=VALUE and a comma between two of them, with balanced quotes")
		return nil, false
	case len(groups) == 0:
		c.note(Same, "there is none")
		return nil, false
	}
	return groups, true
}

// certificates makes a flag of the folder that certificates are in. Nothing of
// where they come from is written: it may hold a token.
func (c *converter) certificates(value string) {
	groups, ok := c.groups(value)
	if !ok {
		return
	}
	var dirs []string
	for _, g := range groups {
		name, kind, cert := g.get("cs"), g.get("type"), g.get("cert")
		switch {
		case name == "" || cert == "":
			c.note(Malformed, "a source has no cs= or no cert=")
			continue
		case kind == "path":
			dirs = append(dirs, cert)
		case kind == "file" && !c.listens(name):
			c.note(Same, "%s: no listener has it", name)
		case kind == "file" && g.writable():
			c.note(Elsewhere, "%s: its files are in -listen, with each listener that has it", name)
		case kind == "file":
			c.note(ByHand, "%s: put the certificate and its key into the folder of -cert-dir, as NAME-cert.pem and NAME-key.pem", name)
		case slices.Contains([]string{"http", "consul", "vault", "vault-pki"}, kind):
			c.note(Unsupported, "%s: certificates come from files; have something else write them into the folder of -cert-dir", name)
		default:
			c.note(Malformed, "%s: the type %q is unknown", name, kind)
			continue
		}
		c.sourceOptions(g, name)
	}
	slices.Sort(dirs)
	if dirs = slices.Compact(dirs); len(dirs) == 0 {
		return
	}
	c.flag("cert-dir", dirs[0])
	if len(dirs) > 1 {
		c.note(ByHand, "there is one -cert-dir; put the certificates of all folders into it")
	}
}

func (c *converter) sourceOptions(g group, name string) {
	for _, o := range g {
		switch o.key {
		case "cs", "type", "cert", "key":
		case "refresh":
			c.note(Elsewhere, "%s: a change of the files is seen within seconds", name)
		case "clientca":
			if g.get("type") != "file" || !g.writable() {
				c.note(ByHand, "%s: clientca: write the roots into one file and name it with clientca= in -listen; without it clients are not asked for certificates", name)
			}
		case "caupgcn":
			c.note(Unsupported, "%s: %s: every root is taken as it is", name, o.key)
		case "hdr", "vaultfetchtoken":
			c.note(Unsupported, "%s: %s: certificates come from files", name, o.key)
		default:
			c.note(Unknown, "%s: Fabio has no option %q of a certificate source", name, o.key)
		}
	}
}

// schemes makes a flag of each scheme of credentials.
func (c *converter) schemes(value string) {
	groups, ok := c.groups(value)
	if !ok {
		return
	}
	seen := map[string]bool{}
	for _, g := range groups {
		name, file, realm := g.get("name"), g.get("file"), g.get("realm")
		switch {
		case seen[name]:
			c.note(Malformed, "%s: the scheme is there before", name)
		case name == "":
			c.note(Malformed, "a scheme has no name")
		case g.get("type") == "external":
			c.note(Unsupported, "%s: credentials are checked against files; routes that name this scheme let nobody in", name)
		case g.get("type") != "basic" || file == "":
			c.note(Malformed, "%s: want type=basic and file=PATH", name)
		case strings.ContainsAny(name+file+realm, ";,"):
			c.note(ByHand, "%s: a name, a path or a realm holds a comma or a semicolon", name)
		default:
			text := "name=" + name + ";file=" + file
			if realm != "" {
				text += ";realm=" + realm
			}
			c.flag("auth", text)
			seen[name] = true
			c.note(ByHand, "%s: only bcrypt hashes are taken; set older passwords again with htpasswd -B", name)
		}
	}
}

// admin makes a flag of the address of the operations page.
func (c *converter) admin(value string) {
	groups, err := parseGroups(value)
	if err != nil || len(groups) != 1 {
		c.note(Malformed, "want one listener")
		return
	}
	address := groups[0].get("")
	if address == "" {
		address = groups[0].get("addr")
	}
	place, ok := c.address(address)
	if !ok || !c.take(place) {
		return
	}
	if !place.Loopback() {
		c.note(ByHand, "others than this node reach it, as they do Fabio's; -admin-address is better a loopback address")
		address += ";public=true"
	}
	if len(groups[0]) > 1 {
		c.note(Unsupported, "the operations page is plain HTTP, and has no options")
	}
	c.flag("admin-address", address)
}
