// Package config is what the gateway is told: by flags, by its environment and by
// a file, in this order of precedence, and else by its defaults.
//
// Everything is read, checked and checked against each other before anything is
// started, and all that is wrong is said at once: where it is, the value, why,
// and what is allowed. The one result is a Config that nobody changes. There is
// no secret in it, only the paths of files that hold secrets.
package config

import (
	"flag"
	"time"

	"sluice/gateway/accesslog"
	"sluice/gateway/acl"
	"sluice/gateway/auth"
	"sluice/gateway/balance"
	"sluice/gateway/budget"
	"sluice/gateway/tag"
	"sluice/internal/service"
)

// Codec serves HTTP/1.1.
type Codec string

// The codecs of -codec.
const (
	// CodecOwn is the gateway's own, CodecStd that of net/http.
	CodecOwn Codec = "own"
	CodecStd Codec = "std"
)

// The places of -access-log that are no files.
const (
	NoAccessLog = "none"
	Stdout      = "stdout"
)

// The words of -access-log-mask that are no names.
const (
	MaskDefault = "default"
	MaskNone    = "none"
)

// Config is what the gateway is told. Parse makes it; from then on it is only
// read, by any number of goroutines. Durations of 0 mean none where the comment
// does not say otherwise.
type Config struct {
	service.Common

	// Listeners are all of them, that of -port first. There is at least one.
	Listeners []Listener
	// CertDir is where listeners with TLS find certificates that name none; they
	// have it in Listener.CertDir too.
	CertDir string
	// TrustedProxies may say who the client is, and how it came: in X-Forwarded-For, -Proto,
	// -Port and -Host, and in a PROXY header on listeners that name nobody else.
	TrustedProxies acl.Networks
	Codec          Codec

	// Prefix marks a tag as a route. OverrideKey is the key in Consul's KV store
	// below which overrides are, "" for none.
	Prefix      string
	OverrideKey string
	// Match is how paths are compared where a tag does not say.
	Match tag.Match
	// AllowPlain lets tags ask for an upstream without Connect.
	AllowPlain bool
	// Auth are the schemes that tags may name.
	Auth []auth.Scheme

	// Strategy picks an instance where a tag does not say.
	Strategy tag.Strategy
	// Datacenters are the tiers in order of preference where a tag does not say;
	// empty is the gateway's own alone.
	Datacenters []string
	// Timeout bounds a request from its head to the head of the answer, attempts
	// included; Dial one connection to an instance, handshake included.
	Timeout, Dial time.Duration
	// MaxConn bounds the requests in flight to one instance; 0 is no bound.
	MaxConn int
	// Retries is how many further attempts a request may get. See Budget for what
	// all of them together may cost.
	Retries int
	// KeepAlive is how long an idle connection to an instance is kept, IdleConns how
	// many of them to one instance.
	KeepAlive time.Duration
	IdleConns int

	// HeaderTimeout bounds the head of a request from its first byte, IdleTimeout
	// the wait for it, BodyIdle the wait for the next byte of a body.
	HeaderTimeout, IdleTimeout, BodyIdle time.Duration
	// MinBodyRate is the least a body may come with, in bytes per second; 0 is none.
	MinBodyRate int64
	// MaxHeaderBytes bounds the head of a request, in bytes, MaxHeaders its fields.
	MaxHeaderBytes int64
	MaxHeaders     int
	// MaxBody bounds the body of a request, in bytes; 0 is no bound.
	MaxBody int64

	// Admin is where the operations page is.
	Admin Address
	// AdminTokenFile holds the token that changes take; "" allows no change.
	AdminTokenFile string
	// HealthPath, if not "", is answered by every HTTP listener itself.
	HealthPath string
	// ServedBy and ServedDC add X-Served-By and X-Served-Dc to answers.
	ServedBy, ServedDC bool
	// ExplainErrors tells clients why there is no answer, with the names of services
	// and instances.
	ExplainErrors bool
	// ErrorPages is a folder of templates for the pages of errors; "" is none. See
	// errorpages.Config.
	ErrorPages string
	// NoRouteStatus is the answer where no route takes a request.
	NoRouteStatus int
	// StopDelay is how long requests are still taken after the signal to stop, while
	// health is red already, and Drain how long what is in flight may go on after that.
	StopDelay, Drain time.Duration
	// MetricsPrefix begins the name of every metric.
	MetricsPrefix string
	// AccessLog is NoAccessLog, Stdout or the path of a file; AccessLogFormat as
	// accesslog.Config.Format.
	AccessLog, AccessLogFormat string
	// AccessLogMask are names of parameters whose values nothing shows, MaskDefault among them for those
	// that are usual, or MaskNone alone. See MaskedParameters.
	AccessLogMask []string

	// CPUProfile is the file that the use of the processor is written to until the
	// process ends; "" is none. See runtime/pprof.
	CPUProfile string

	// What other values are made of.
	listen       []Listener
	port         int
	adminPort    int
	adminAddress adminAddress
	strictPaths  bool
	ejection     balance.Ejection
	slowStart    time.Duration
	retryRatio   float64
	retryRate    float64
	// origins are where the values of a setting come from, in their order.
	origins map[string][]Origin
}

// unset and noPort are values of -port and -admin-port that are no ports.
const (
	unset  = -2
	noPort = -1
)

// fallback returns the Config of a process that is told nothing.
func fallback() Config {
	c := Config{
		Codec: CodecOwn, Prefix: tag.DefaultPrefix, OverrideKey: "fabio/config",
		Strategy: tag.P2C, Timeout: 30 * time.Second, Dial: 5 * time.Second, Retries: 2,
		KeepAlive: time.Minute, IdleConns: 64,
		HeaderTimeout: 5 * time.Second, IdleTimeout: 90 * time.Second, BodyIdle: time.Minute,
		MaxHeaderBytes: 64 << 10, MaxHeaders: 128,
		NoRouteStatus: 404, Drain: 1500 * time.Millisecond, MetricsPrefix: "sluice_gateway",
		AccessLog: NoAccessLog, AccessLogFormat: accesslog.Common, AccessLogMask: []string{MaskDefault},
		port: unset, adminPort: unset, slowStart: balance.DefaultSlowStart, retryRatio: 0.2, retryRate: 10,
		ejection: balance.Ejection{Origin: 5, Local: 2, Base: 10 * time.Second, Max: 5 * time.Minute, Percent: 50},
	}
	c.Bind(flag.NewFlagSet(program, flag.ContinueOnError)) // it sets the defaults
	return c
}

// Budget returns what the further attempts of one route may cost.
func (c Config) Budget() budget.Config {
	return budget.Config{Ratio: zeroIsNever(c.retryRatio), PerSecond: zeroIsNever(c.retryRate)}
}

// Ejection returns when an instance that fails is left out.
func (c Config) Ejection() balance.Ejection {
	e := c.ejection
	e.Origin, e.Local = zeroIsNever(e.Origin), zeroIsNever(e.Local)
	return e
}

// SlowStart returns how long the share of a new instance grows, in the form of
// balance.Config: negative is not at all.
func (c Config) SlowStart() time.Duration { return zeroIsNever(c.slowStart) }

// zeroIsNever translates what a person writes into what packages take, for which
// 0 is their default.
func zeroIsNever[T int | float64 | time.Duration](n T) T {
	if n == 0 {
		return -1
	}
	return n
}
