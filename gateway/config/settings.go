package config

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/gateway/accesslog"
	"sluice/gateway/acl"
	"sluice/gateway/auth"
	"sluice/gateway/tag"
	"sluice/internal/service/mask"
)

// The longest times.
const (
	anHour = time.Hour
	aDay   = 24 * time.Hour
)

// settings returns all flags but -config, -version and -h, in the order of the
// usage text.
func settings() []setting {
	var all []setting
	all = append(all, in("Where it is", commonSettings()...)...)
	all = append(all, in("Listeners", listenSettings()...)...)
	all = append(all, in("Routes", routeSettings()...)...)
	all = append(all, in("Instances", pickSettings()...)...)
	all = append(all, in("Retries and ejection", failureSettings()...)...)
	all = append(all, in("Limits on clients", limitSettings()...)...)
	return append(all, in("Operation", operationSettings()...)...)
}

func listenSettings() []setting {
	return []setting{
		{
			name: "listen", value: "SPEC", repeat: true,
			usage: "where clients connect: ADDRESS;OPTION=VALUE;... with the options below; may be given several times",
			set: func(c *Config, text string) error {
				l, err := ParseListener(text)
				c.listen = append(c.listen, l)
				return err
			},
			get: func(c *Config) []string {
				var texts []string
				for _, l := range c.listen {
					texts = append(texts, l.String())
				}
				return texts
			},
		},
		port("port", "plain HTTP on this port of the node's loopback, or none; 9999 where there is no -listen", func(c *Config) *int { return &c.port }),
		text("cert-dir", "DIR", "folder of certificates for listeners with TLS that name none", func(c *Config) *string { return &c.CertDir }, anything),
		{
			name: "trusted-proxies", value: "CIDR,CIDR", usage: "load balancers in front, which are believed in X-Forwarded-For, -Proto, -Port and -Host, and in PROXY headers where a listener asks for them",
			set: func(c *Config, text string) (err error) { c.TrustedProxies, err = acl.ParseNetworks(text); return err },
			get: one(func(c *Config) string { return strings.ReplaceAll(c.TrustedProxies.String(), " ", "") }),
		},
		word("codec", "what serves HTTP/1.1: the gateway's own codec, or that of Go's library", []Codec{CodecOwn, CodecStd}, func(c *Config) *Codec { return &c.Codec }),
	}
}

// port is a number, or none.
func port(name, usage string, field func(*Config) *int) setting {
	return setting{
		name: name, value: "PORT", usage: usage,
		set: func(c *Config, text string) (err error) {
			*field(c) = noPort
			if text == "none" {
				return nil
			}
			n, err := parseInt(text, 0, math.MaxUint16)
			if err != nil {
				return errors.New("want a number from 0 to 65535, or none")
			}
			*field(c) = n
			return nil
		},
		get: one(func(c *Config) string {
			if *field(c) < 0 {
				return "none"
			}
			return strconv.Itoa(*field(c))
		}),
	}
}

func routeSettings() []setting {
	matches := []tag.Match{tag.Prefix, tag.Segment, tag.IPrefix, tag.Glob}
	names := make([]string, len(matches))
	for i, m := range matches {
		names[i] = m.String()
	}
	return []setting{
		text("prefix", "TEXT", "what a tag that is a route begins with", func(c *Config) *string { return &c.Prefix }, func(text string) error {
			if text == "" {
				return errors.New("it is empty: every tag would be a route")
			}
			return nil
		}),
		text("kv", "KEY", "key in Consul's KV store below which overrides are; empty for none", func(c *Config) *string { return &c.OverrideKey }, checkKey).called("override-key"),
		{
			name: "match", value: strings.Join(names, "|"), usage: "how paths are compared where a tag has no match=",
			set: func(c *Config, text string) error {
				for i, name := range names {
					if name == text {
						c.Match = matches[i]
					}
				}
				return oneOf(text, names)
			},
			get: one(func(c *Config) string { return c.Match.String() }),
		},
		toggle("strict-paths", "the same as -match segment: /foo takes /foo and /foo/bar, and not /foobar", func(c *Config) *bool { return &c.strictPaths }),
		toggle("allow-plain", "let a tag ask for an instance without Connect (plain=true, proto=https, proto=grpcs)", func(c *Config) *bool { return &c.AllowPlain }),
		{
			name: "auth", value: "SCHEME", repeat: true,
			usage: "credentials that a tag may ask for: name=NAME;file=HTPASSWD;realm=TEXT; may be given several times",
			set: func(c *Config, text string) error {
				scheme, err := auth.ParseScheme(text)
				c.Auth = append(c.Auth, scheme)
				return err
			},
			get: func(c *Config) []string {
				var texts []string
				for _, s := range c.Auth {
					text := "name=" + s.Name + ";file=" + s.File
					if s.Realm != "" {
						text += ";realm=" + s.Realm
					}
					texts = append(texts, text)
				}
				return texts
			},
		},
	}
}

func checkKey(key string) error {
	if strings.HasPrefix(key, "/") || strings.HasSuffix(key, "/") {
		return errors.New("a key neither begins nor ends with a slash")
	}
	return nil
}

func pickSettings() []setting {
	return []setting{
		word("strategy", "how one of several instances is picked where a tag has no strategy=", []tag.Strategy{tag.P2C, tag.RoundRobin, tag.Random, tag.Hash, tag.EWMA}, func(c *Config) *tag.Strategy { return &c.Strategy }),
		{
			name: "datacenters", value: "DC,DC", usage: "datacenters in order of preference where a tag has no dc=; empty is the gateway's own and then those of -failover-datacenters",
			set: func(c *Config, text string) (err error) {
				c.Datacenters, err = parseList(text, checkDatacenter)
				return err
			},
			get: one(func(c *Config) string { return strings.Join(c.Datacenters, ",") }),
		},
		duration("timeout", "time from the head of a request to the head of its answer, all attempts included, where a tag has no timeout=", span[time.Duration]{time.Millisecond, aDay}, func(c *Config) *time.Duration { return &c.Timeout }).called("route-timeout"),
		duration("dial-timeout", "time to connect to an instance, handshake included", span[time.Duration]{time.Millisecond, anHour}, func(c *Config) *time.Duration { return &c.Dial }),
		whole("max-conn", "requests in flight to one instance at once where a tag has no maxconn=; 0 is no bound", span[int]{0, maxConnections}, func(c *Config) *int { return &c.MaxConn }),
		duration("keepalive-upstream", "how long an idle connection to an instance is kept; 0 keeps none", span[time.Duration]{0, anHour}, func(c *Config) *time.Duration { return &c.KeepAlive }),
		whole("idle-upstream", "idle connections to one instance that are kept at most", span[int]{1, maxConnections}, func(c *Config) *int { return &c.IdleConns }),
		duration("slow-start", "how long the share of a new instance grows; 0 gives it all at once", span[time.Duration]{0, anHour}, func(c *Config) *time.Duration { return &c.slowStart }),
	}
}

// checkDatacenter takes what Consul takes for a datacenter's name.
func checkDatacenter(name string) error {
	if strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}) {
		return errors.New("a datacenter's name has small letters, digits, - and _")
	}
	return nil
}

func failureSettings() []setting {
	const many = 1000
	return []setting{
		whole("retries", "further attempts of one request where a tag has no retry=", span[int]{0, 5}, func(c *Config) *int { return &c.Retries }),
		fraction("retry-ratio", "further attempts of a route as a part of its requests", span[float64]{0, 1}, func(c *Config) *float64 { return &c.retryRatio }),
		fraction("retry-rate", "further attempts of a route on top of that, per second", span[float64]{0, 1e6}, func(c *Config) *float64 { return &c.retryRate }),
		whole("eject-origin", "answers 5xx in a row, but for a 503 with Retry-After, or answers too late, that eject an instance; 0 is never", span[int]{0, many}, func(c *Config) *int { return &c.ejection.Origin }),
		whole("eject-local", "connections in a row that fail and so eject an instance; 0 is never", span[int]{0, many}, func(c *Config) *int { return &c.ejection.Local }),
		duration("eject-base", "length of the first ejection; each one that follows is longer by as much", span[time.Duration]{time.Millisecond, aDay}, func(c *Config) *time.Duration { return &c.ejection.Base }),
		duration("eject-max", "length of the longest ejection", span[time.Duration]{time.Millisecond, aDay}, func(c *Config) *time.Duration { return &c.ejection.Max }),
		whole("eject-percent", "part of a service's instances in a datacenter that may be ejected at once; one always may", span[int]{1, 100}, func(c *Config) *int { return &c.ejection.Percent }),
	}
}

func limitSettings() []setting {
	const gigabyte = 1 << 30
	return []setting{
		duration("header-timeout", "time for the head of a request", span[time.Duration]{time.Millisecond, anHour}, func(c *Config) *time.Duration { return &c.HeaderTimeout }),
		duration("idle-timeout", "time between two requests of a connection, where a listener has no it=", span[time.Duration]{time.Millisecond, aDay}, func(c *Config) *time.Duration { return &c.IdleTimeout }),
		duration("body-idle-timeout", "time without a byte of a body that has begun; 0 is no bound", span[time.Duration]{0, aDay}, func(c *Config) *time.Duration { return &c.BodyIdle }),
		size("min-body-rate", "bytes per second that a body comes with at least; 0 is no bound", span[int64]{0, gigabyte}, func(c *Config) *int64 { return &c.MinBodyRate }),
		size("max-header-bytes", "head of a request at most", span[int64]{1 << 10, 16 << 20}, func(c *Config) *int64 { return &c.MaxHeaderBytes }),
		whole("max-headers", "header fields of a request at most", span[int]{1, 10_000}, func(c *Config) *int { return &c.MaxHeaders }),
		size("max-body", "body of a request at most; 0 is no bound", span[int64]{0, math.MaxInt64}, func(c *Config) *int64 { return &c.MaxBody }),
	}
}

func operationSettings() []setting {
	return []setting{
		port("admin-port", "operations page on this port of the node's loopback; 9998 where there is no -admin-address", func(c *Config) *int { return &c.adminPort }),
		{
			name: "admin-address", value: "ADDRESS", usage: "operations page at this address instead; one that others reach takes ;public=true behind it",
			set: func(c *Config, text string) error { return c.adminAddress.parse(text) },
			get: one(func(c *Config) string { return c.adminAddress.String() }),
		},
		text("admin-token-file", "FILE", "token that changes on the operations page take, readable by its owner only; without it nothing can be changed", func(c *Config) *string { return &c.AdminTokenFile }, anything),
		text("health-path", "PATH", "path that every HTTP listener answers itself: 200, or 503 without a valid certificate and from the signal to stop on; empty for none", func(c *Config) *string { return &c.HealthPath }, checkPath),
		{
			name: "response-headers", value: "dc,instance|none", usage: "headers that answers get: X-Served-Dc (dc), X-Served-By (instance)",
			set: setResponseHeaders, get: one(responseHeaders),
		},
		toggle("explain-errors", "tell clients why there is no answer, with the names of services and instances", func(c *Config) *bool { return &c.ExplainErrors }),
		text("error-pages", "DIR", "folder of templates for the pages of errors: 503.html for one status, error.html for the others", func(c *Config) *string { return &c.ErrorPages }, anything),
		whole("no-route-status", "status of the answer where no route takes a request", span[int]{400, 599}, func(c *Config) *int { return &c.NoRouteStatus }),
		duration("stop-delay", "how long requests are still taken after the signal to stop, while the registration is gone and health is red, so that load balancers in front learn of it", span[time.Duration]{0, anHour}, func(c *Config) *time.Duration { return &c.StopDelay }),
		duration("drain", "how long what is in flight may go on after that", span[time.Duration]{0, anHour}, func(c *Config) *time.Duration { return &c.Drain }),
		text("metrics-prefix", "NAME", "what the name of every metric begins with", func(c *Config) *string { return &c.MetricsPrefix }, checkMetricsPrefix),
		text("access-log", "stdout|none|FILE", "where the access log goes; a file is appended to, and made anew when it was moved away", func(c *Config) *string { return &c.AccessLog }, func(text string) error {
			if text != Stdout && text != NoAccessLog && !strings.Contains(text, "/") {
				return errors.New("want stdout, none, or the path of a file with a slash in it" + suggestion(text, []string{Stdout, NoAccessLog}, ""))
			}
			return nil
		}),
		text("access-log-format", "json|common|combined|TEXT", "a format with a name, or a text with fields, as in '$remote_host $response_status'", func(c *Config) *string { return &c.AccessLogFormat }, accesslog.CheckFormat),
		{
			name: "access-log-mask", value: "NAME,NAME", usage: "parameters of queries and paths whose values no log, span or page has: there is *** instead, and REDACTED in url.full; default stands for the usual names of secrets (access_token, code, key, password, sig, token and others), none masks nothing",
			set: func(c *Config, text string) (err error) { c.AccessLogMask, err = parseMask(text); return err },
			get: one(func(c *Config) string { return strings.Join(c.AccessLogMask, ",") }),
		},
		text("cpu-profile", "FILE", "write what the processor is used for to this file until the gateway ends, for go tool pprof", func(c *Config) *string { return &c.CPUProfile }, anything),
	}
}

// parseMask reads the names of query parameters. The word for no masking stands
// alone: a list that holds it by a slip would show what it names.
func parseMask(text string) ([]string, error) {
	names, err := parseList(text, func(word string) error {
		if strings.ContainsAny(word, "&;#=?[]. %+") {
			return errors.New("want the name of a query parameter as an application reads it, without what is around it")
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case len(names) == 0:
		return nil, errors.New("want names, default, or none")
	case len(names) > 1 && slices.Contains(names, MaskNone):
		return nil, errors.New("none does not go with other names")
	}
	return names, nil
}

// MaskedParameters returns the query parameters whose values the access log does
// not hold; it is empty, and not nil, where none is masked.
func (c Config) MaskedParameters() []string {
	masked := []string{}
	for _, name := range c.AccessLogMask {
		switch name {
		case MaskDefault:
			masked = append(masked, mask.Names()...)
		case MaskNone:
		default:
			masked = append(masked, name)
		}
	}
	return masked
}

func setResponseHeaders(c *Config, text string) error {
	c.ServedBy, c.ServedDC = false, false
	if text == "none" {
		return nil
	}
	words, err := parseList(text, func(word string) error { return oneOf(word, []string{"dc", "instance"}) })
	if err != nil || len(words) == 0 {
		return errors.Join(err, errors.New("want dc, instance, both with a comma between, or none"))
	}
	for _, word := range words {
		c.ServedBy = c.ServedBy || word == "instance"
		c.ServedDC = c.ServedDC || word == "dc"
	}
	return nil
}

func responseHeaders(c *Config) string {
	switch {
	case c.ServedDC && c.ServedBy:
		return "dc,instance"
	case c.ServedDC:
		return "dc"
	case c.ServedBy:
		return "instance"
	}
	return "none"
}

func checkPath(text string) error {
	switch {
	case text == "":
		return nil
	case !strings.HasPrefix(text, "/") || path.Clean(text) != text || strings.ContainsAny(text, "?#% "):
		return errors.New("want a path as in /healthz, without a query and without escapes")
	case text == "/":
		return errors.New("every route would lose its first page")
	}
	return nil
}

func checkMetricsPrefix(text string) error {
	for i, c := range []byte(text) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return fmt.Errorf("%q does not belong into it; want letters, digits and _, and no digit first", c)
		}
	}
	if text == "" {
		return errors.New("it is empty")
	}
	return nil
}
