package listen

import (
	"context"
	"net"

	"sluice/gateway/proxyproto"
)

// infoKey is where the Info of a request's connection is in its context.
type infoKey struct{}

// InfoOf returns what is known about the connection of a request that Std serves.
// It is the zero Info for any other context.
func InfoOf(ctx context.Context) Info {
	if info, ok := ctx.Value(infoKey{}).(*Info); ok {
		return *info
	}
	return Info{}
}

// infoOf returns what is known when a connection is accepted.
func infoOf(inner net.Conn) Info {
	info := Info{Client: addressOf(inner.RemoteAddr()), Local: addressOf(inner.LocalAddr())}
	if headed, ok := inner.(*proxyproto.Conn); ok {
		header := headed.Header()
		info.PROXY, info.Balancer = &header, addressOf(headed.NetConn().RemoteAddr())
	}
	return info
}

// withInfo puts the Info of a connection into the context of its requests.
func withInfo(ctx context.Context, outer net.Conn) context.Context {
	for outer != nil {
		if c, ok := outer.(*conn); ok {
			return context.WithValue(ctx, infoKey{}, &c.info)
		}
		under, ok := outer.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		outer = under.NetConn()
	}
	return ctx
}
