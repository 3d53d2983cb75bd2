package proxy

import (
	"errors"
	"net"
	"net/netip"
	"strings"

	"sluice/gateway/accesslog"
	"sluice/gateway/balance"
	"sluice/gateway/tcp"
	"sluice/mesh"
)

// errRefused is a TCP connection that its route does not admit.
var errRefused = errors.New("refused")

// StreamEnded counts a TCP connection and writes it into the access log: method and protocol are TCP,
// the target is where it came in, the host its server name. err is what has ended it; nil
// is that both sides have. It is safe for concurrent use.
func (p *Proxy) StreamEnded(info tcp.Info, err error) {
	flags := streamFlags(err)
	p.metrics.stream(info, flags, err)
	if p.cfg.Access == nil {
		return
	}
	e := accesslog.Entry{
		Start: info.Since, End: p.now(), Client: info.Client, Method: "TCP", Protocol: "TCP", Target: info.Server.String(), Host: info.ServerName,
		BytesIn: int64(info.BytesIn), BytesOut: int64(info.BytesOut), Service: info.Service, Flags: flags, //nolint:gosec // no connection carries 8 EiB
	}
	if err != nil {
		e.Reason = err.Error()
	}
	if parts := strings.Split(info.Instance, "|"); len(parts) == 4 { // see target.name
		e.Instance, e.Attempts = parts[2], 1
		e.Upstream, _ = netip.ParseAddrPort(parts[3])
	}
	p.cfg.Access.Put(&e)
}

// streamFlags says what was out of the ordinary with a TCP connection.
func streamFlags(err error) accesslog.Flags {
	switch {
	case errors.Is(err, tcp.ErrDrained):
		return accesslog.Drained
	case errors.Is(err, tcp.ErrCut):
		return accesslog.Cut
	case errors.Is(err, tcp.ErrNoRoute):
		return accesslog.NoRoute
	case errors.Is(err, errRefused):
		return accesslog.Refused
	case errors.Is(err, tcp.ErrMalformed):
		return accesslog.ClientMalformed
	case errors.Is(err, tcp.ErrOverflow), errors.Is(err, balance.ErrOverflow):
		return accesslog.Overflow
	case unsent(err), errors.Is(err, mesh.ErrDenied), errors.Is(err, mesh.ErrNotReady), errors.Is(err, mesh.ErrWrongIdentity):
		return flagsOf(err)
	case errors.Is(err, balance.ErrNone):
		return accesslog.NoHealthy
	case errors.Is(err, tcp.ErrClient):
		return accesslog.ClientGone
	case errors.Is(err, tcp.ErrUpstream) && errors.Is(err, net.ErrClosed):
		return accesslog.Cut // on this side of the mesh
	case errors.Is(err, tcp.ErrUpstream):
		return accesslog.UpstreamReset
	}
	return 0
}
