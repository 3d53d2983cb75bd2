package main

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"sluice/gateway/config"
	"sluice/gateway/listen"
	"sluice/gateway/proxy"
	"sluice/gateway/tcp"
	"sluice/gateway/tlsfiles"
)

// boundBodies is http.MaxBytesHandler, but leaves a request without a body without one:
// it may be sent twice.
func boundBodies(next http.Handler, most int64) http.Handler {
	bounded := http.MaxBytesHandler(next, most)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		bounded.ServeHTTP(w, r)
	})
}

func (g *gateway) openListeners() error {
	var std http.Handler = g.proxy
	if g.cfg.MaxBody > 0 {
		std = boundBodies(std, g.cfg.MaxBody)
	}
	for _, l := range g.cfg.Listeners {
		var server *listen.Server
		cfg := listen.Config{
			Listener: l, Std: std, TCP: tcp.Config{Route: g.proxy.RouteStream, Table: g.streams, Ended: g.streamEnded, DialTimeout: patience(g.cfg)},
			Header: g.cfg.HeaderTimeout, Idle: g.cfg.IdleTimeout, MaxHeader: int(g.cfg.MaxHeaderBytes), Drain: g.cfg.Drain, Logger: g.log, Panicked: g.proxy.Panicked,
			Reloaded: func(which listen.Files, change tlsfiles.Change) { g.reloaded(l.Address.String(), which, change) },
		}
		if g.cfg.Codec == config.CodecOwn {
			with := ownConfig(g.cfg, l)
			with.Fallback = func(conn net.Conn) { server.PassOn(conn) }
			own := g.proxy.Own(with)
			cfg.Own = func(ctx context.Context, conn net.Conn, info listen.Info) {
				own.Serve(ctx, conn, proxy.Connection{TLS: info.TLS != nil, Life: info.Life})
			}
		}
		var err error
		if server, err = listen.Open(cfg); err != nil {
			return fmt.Errorf("listen for requests: %w", err)
		}
		g.listeners = append(g.listeners, server)
		g.closers = append(g.closers, server)
	}
	return nil
}
