package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/gateway/config"
)

// settings are what the gateway is told by these flags.
func settings(t *testing.T, flags string) config.Config {
	t.Helper()
	cfg, err := config.Parse(config.Input{Args: append([]string{"-node", "n", "-address", "127.0.0.1"}, strings.Fields(flags)...)})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestTheOwnCodecGetsWhatTheFlagsAndTheListenerSay(t *testing.T) {
	const listener = "-listen 127.0.0.1:1 "
	for flags, want := range map[string]struct {
		header, idle, request, answer time.Duration
		forever                       bool // of a body's pause
	}{
		listener: {header: 5 * time.Second, idle: 90 * time.Second},
		listener + "-header-timeout 7s -idle-timeout 2m": {header: 7 * time.Second, idle: 2 * time.Minute},
		"-listen 127.0.0.1:1;it=1h;rt=1m;wt=2m":          {header: 5 * time.Second, idle: time.Hour, request: time.Minute, answer: 2 * time.Minute},
		"-listen 127.0.0.1:1;it=1s;rt=2s":                {header: 2 * time.Second, idle: time.Second, request: 2 * time.Second},
		listener + "-body-idle-timeout 0":                {header: 5 * time.Second, idle: 90 * time.Second, forever: true},
	} {
		cfg := settings(t, flags)
		own := ownConfig(cfg, cfg.Listeners[0])
		if own.Header != want.header || own.Idle != want.idle || own.Request != want.request || own.Answer != want.answer || (own.BodyIdle < 0) != want.forever || own.BodyIdle == 0 {
			t.Errorf("%s: got %+v, want %+v", flags, own, want)
		}
	}
}

func TestEveryDatacenterThatAFlagNamesIsFollowed(t *testing.T) {
	for flags, want := range map[string][]string{
		"": nil, "-failover-datacenters dc2,dc3": {"dc2", "dc3"}, "-datacenters dc1,dc2": {"dc2"}, "-datacenters dc3,dc1": {"dc3"},
		"-datacenters dc3 -failover-datacenters dc2,dc3": {"dc3", "dc2"},
	} {
		if got := others(settings(t, flags)); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", flags, got, want)
		}
	}
}

func TestZeroIsNoneWhereAFlagSaysSo(t *testing.T) {
	zero := proxyConfig(settings(t, "-retries 0 -keepalive-upstream 0 -slow-start 0 -eject-origin 0 -eject-local 0 -retry-ratio 0 -retry-rate 0"))
	if zero.Retries >= 0 || zero.KeepAlive >= 0 || zero.SlowStart >= 0 || zero.Ejection.Origin >= 0 || zero.Ejection.Local >= 0 || zero.Budget.Ratio >= 0 || zero.Budget.PerSecond >= 0 {
		t.Errorf("0 would be the default: %+v", zero)
	}
	some := proxyConfig(settings(t, "-retries 1 -keepalive-upstream 5s -slow-start 3s -datacenters dc3,dc1"))
	if some.Retries != 1 || some.KeepAlive != 5*time.Second || some.SlowStart != 3*time.Second || !slices.Equal(some.Order, []string{"dc3", "dc1"}) {
		t.Errorf("got %+v", some)
	}
}
