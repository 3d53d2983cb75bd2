package fabio

import (
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/gateway/accesslog"
)

// oneOf makes a flag of a property that has a few values.
func oneOf(flag string, values map[string]string) func(*converter, string) {
	return func(c *converter, value string) {
		ours, ok := values[value]
		if !ok {
			c.note(Malformed, "%q is none of %s", value, strings.Join(slices.Sorted(maps.Keys(values)), ", "))
			return
		}
		c.flag(flag, ours)
	}
}

// number makes a flag of a whole number.
func number(flag string, least, most int) func(*converter, string) {
	return func(c *converter, value string) {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most {
			c.note(Malformed, "%q is no number from %d to %d", value, least, most)
			return
		}
		c.flag(flag, strconv.Itoa(n))
	}
}

// noRoute makes a flag of the status where no route takes a request. The gateway has a
// page for that, which says that it is an error.
func (c *converter) noRoute(value string) {
	n, err := strconv.Atoi(value)
	switch {
	case err != nil || n < 100 || n > 999:
		c.note(Malformed, "%q is no number from 100 to 999", value)
	case n < 400 || n > 599:
		c.note(Unsupported, "%d: a request without a route is an error, from 400 to 599; the default of -no-route-status holds", n)
	default:
		c.flag("no-route-status", strconv.Itoa(n))
	}
}

// duration makes a flag of a time; 0 is the time too.
func duration(flag string, most time.Duration) func(*converter, string) {
	return func(c *converter, value string) {
		if d, ok := c.time(value); ok {
			c.flag(flag, c.within(d, 0, most).String())
		}
	}
}

// time reads a duration of at least 0.
func (c *converter) time(value string) (time.Duration, bool) {
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 {
		c.note(Malformed, "%q is no duration", value)
		return 0, false
	}
	return d, true
}

// within returns the nearest time that the gateway takes, and notes if that is
// another one.
func (c *converter) within(d, least, most time.Duration) time.Duration {
	if d < least || d > most {
		c.note(Elsewhere, "%s: the time is from %s to %s here, and the nearest is taken", d, least, most)
	}
	return min(max(d, least), most)
}

// upstreamTime makes a flag of a time for connections to instances. 0 is no limit
// in Fabio, and the gateway has none that is longer than an hour.
func upstreamTime(flag string) func(*converter, string) {
	return func(c *converter, value string) {
		d, ok := c.time(value)
		switch {
		case !ok:
		case d < time.Millisecond:
			c.note(Elsewhere, "there is always a limit; the default of -%s holds", flag)
		default:
			c.flag(flag, min(d, time.Hour).String())
		}
	}
}

func (c *converter) answerTimeout(value string) {
	d, ok := c.time(value)
	switch {
	case !ok:
	case d == 0:
		c.note(Elsewhere, "no answer is waited for without end; the default of -route-timeout holds")
	default:
		c.flag("route-timeout", c.within(d, time.Millisecond, aDay).String())
	}
}

func (c *converter) listenerTimeout(value string) {
	if _, ok := c.time(value); ok {
		c.note(Elsewhere, "it is in -listen, with each listener that has no other")
	}
}

func (c *converter) requestID(value string) {
	if value == "" || strings.EqualFold(value, "X-Request-Id") {
		c.note(Same, "the header X-Request-Id is always set")
		return
	}
	c.note(Elsewhere, "the header is X-Request-Id")
}

func (c *converter) backend(value string) {
	if value == "consul" {
		c.note(Same, "routes come from Consul")
		return
	}
	c.note(Unsupported, "routes come from tags in Consul, and what is written by hand from the key of -override-key")
}

func (c *converter) consul(value string) {
	address := value
	if strings.Contains(value, "://") {
		u, err := url.Parse(value)
		if err != nil || u.Host == "" {
			c.note(Malformed, "it is no address")
			return
		}
		if u.User != nil {
			c.note(Unsupported, "the agent is asked without a user's name and password")
		}
		if u.Scheme != "http" {
			c.note(Unsupported, "the agent is on the same node, and is asked over its loopback without TLS")
			return
		}
		address = u.Host
	}
	if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
		c.note(Malformed, "it has no port")
		return
	}
	c.flag("consul", address)
}

func (c *converter) overrides(value string) {
	key := strings.Trim(value, "/")
	if key == "" {
		c.note(Malformed, "the key is empty")
		return
	}
	c.flag("override-key", key)
	c.note(Elsewhere, "a route add to http:// or tcp:// is ignored unless the gateway runs with -allow-plain, since nobody proves there who it is; gateway lint names each")
}

func (c *converter) prefix(value string) {
	if value == "" {
		c.note(Malformed, "it is empty: every tag would be a route")
		return
	}
	c.flag("prefix", value)
}

func (c *converter) status(value string) {
	if strings.Trim(value, " ,") == "passing" {
		c.note(Same, "instances that pass their checks get requests")
		return
	}
	c.note(Unsupported, "only instances that pass their checks get requests")
}

func (c *converter) checks(value string) {
	switch value {
	case "all":
		c.note(Same, "an instance has to pass all of its checks")
	case "one":
		c.note(Unsupported, "an instance has to pass all of its checks; with \"one\" Fabio sends requests to instances of which a part fails")
	default:
		c.note(Malformed, "%q is neither one nor all", value)
	}
}

func (c *converter) register(value string) {
	if value == "true" {
		c.note(Same, "the gateway registers itself")
		return
	}
	c.note(Unsupported, "the gateway always registers itself: nothing resolves it, but its health is seen")
}

func (c *converter) accessFormat(value string) {
	if err := accesslog.CheckFormat(value); err != nil {
		c.note(Malformed, "%s", err)
		return
	}
	c.flag("access-log-format", value)
}

func (c *converter) accessTarget(value string) {
	switch value {
	case "":
		c.note(Same, "without -access-log there is none")
	case "stdout":
		c.flag("access-log", value)
	default:
		c.note(Malformed, "%q is not stdout", value)
	}
}

func (c *converter) logLevel(value string) {
	// Fabio does not mind the case.
	oneOf("log-level", map[string]string{
		"TRACE": "debug", "DEBUG": "debug", "INFO": "info", "WARN": "warn", "ERROR": "error", "FATAL": "error",
	})(c, strings.ToUpper(value))
}

func (c *converter) metrics(value string) {
	switch value {
	case "":
		c.note(Elsewhere, "metrics are there for whoever fetches them")
	case "prometheus":
		c.note(Same, "metrics are at /metrics on -admin-address")
	default:
		c.note(Unsupported, "metrics are for Prometheus alone, which fetches them from -admin-address")
	}
}

func (c *converter) metricsPrefix(value string) {
	switch {
	case strings.Contains(value, "{{"):
		c.note(ByHand, "templates are not expanded; -metrics-prefix takes a word, and Prometheus itself knows host and process")
	case !isMetricName(value):
		c.note(ByHand, "-metrics-prefix takes letters, digits and underscores only")
	default:
		c.flag("metrics-prefix", value)
	}
}

func isMetricName(text string) bool {
	for i, c := range []byte(text) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return text != ""
}

func (c *converter) access(value string) {
	switch value {
	case "ro":
		c.note(Same, "without -admin-token-file nothing can be changed")
	case "rw":
		c.note(ByHand, "changes need a token: put one into a file of mode 0600 and name it with -admin-token-file")
	default:
		c.note(Malformed, "%q is neither ro nor rw", value)
	}
}
