package main

import (
	"cmp"
	"slices"
	"time"

	"sluice/gateway/config"
	"sluice/gateway/h1"
	"sluice/gateway/proxy"
	"sluice/gateway/tcp"
)

// proxyConfig is what the flags say of how requests are carried.
func proxyConfig(cfg config.Config) proxy.Config {
	return proxy.Config{
		Source: name, Prefix: cfg.Prefix, Match: cfg.Match, Datacenter: cfg.Datacenter, Datacenters: others(cfg), Order: cfg.Datacenters,
		BodyIdle: cfg.BodyIdle, MinBodyRate: cfg.MinBodyRate, MaxFields: cfg.MaxHeaders,
		AllowPlain: cfg.AllowPlain, Trusted: cfg.TrustedProxies,
		Strategy: cfg.Strategy, Timeout: cfg.Timeout, Retries: zeroIsNone(cfg.Retries), Budget: cfg.Budget(), Ejection: cfg.Ejection(),
		SlowStart: cfg.SlowStart(), MaxConn: cfg.MaxConn, Dial: cfg.Dial, IdleConns: cfg.IdleConns, KeepAlive: zeroIsNone(cfg.KeepAlive),
		ServedBy: cfg.ServedBy, ServedDC: cfg.ServedDC, ExplainErrors: cfg.ExplainErrors, NoRouteStatus: cfg.NoRouteStatus,
		HealthPath: cfg.HealthPath, Secrets: cfg.MaskedParameters(), MetricsPrefix: cfg.MetricsPrefix,
	}
}

// others are the datacenters beside the gateway's own that are followed, those first
// that are preferred.
func others(cfg config.Config) []string {
	var list []string
	for _, dc := range slices.Concat(cfg.Datacenters, cfg.Failover) {
		if dc != cfg.Datacenter && !slices.Contains(list, dc) {
			list = append(list, dc)
		}
	}
	return list
}

// ownConfig is how a listener's connections are served with the gateway's own codec.
func ownConfig(cfg config.Config, l config.Listener) proxy.OwnConfig {
	return proxy.OwnConfig{
		Limits: h1.Limits{Head: int(cfg.MaxHeaderBytes), Fields: cfg.MaxHeaders},
		Header: least(cfg.HeaderTimeout, l.Read), Idle: cmp.Or(l.Idle, cfg.IdleTimeout), Request: l.Read, Answer: l.Write,
		BodyIdle: zeroIsNone(cfg.BodyIdle), MaxBody: cfg.MaxBody, MinBodyRate: cfg.MinBodyRate,
	}
}

// patience is how long a TCP connection may wait for an instance, all attempts included.
func patience(cfg config.Config) time.Duration {
	return max(cfg.Timeout, cfg.Dial, tcp.DefaultDialTimeout)
}

// zeroIsNone translates what a person writes into what packages take, for which 0 is
// their default, and what is negative none.
func zeroIsNone[T int | time.Duration](n T) T {
	if n == 0 {
		return -1
	}
	return n
}

// least is the shorter time; 0 is none.
func least(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
