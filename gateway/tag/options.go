package tag

import (
	"net/netip"
	"slices"
	"time"
)

// Proto is what an instance speaks.
type Proto string

// The protocols of the option proto=. HTTPS and GRPCS are TLS without Connect,
// and so imply Plain: inside the mesh, TLS is the mesh's own.
const (
	ProtoHTTP  Proto = "http"
	ProtoHTTPS Proto = "https"
	ProtoTCP   Proto = "tcp"
	ProtoGRPC  Proto = "grpc"
	ProtoGRPCS Proto = "grpcs"
)

// Strategy is how one of several instances is picked; "" leaves it to the
// gateway's default.
type Strategy string

// The strategies of the option strategy=.
const (
	P2C        Strategy = "p2c"
	RoundRobin Strategy = "rr"
	Random     Strategy = "random"
	Hash       Strategy = "hash"
	EWMA       Strategy = "ewma"
)

// Stickiness is what ties a client to an instance; "" is nothing.
type Stickiness string

// The kinds of the option sticky=.
const (
	StickyCookie Stickiness = "cookie"
	StickyIP     Stickiness = "ip"
	StickyHeader Stickiness = "header"
)

// HostOfUpstream is the value of host= by which an instance gets its own address
// as Host.
const HostOfUpstream = "dst"

// Options are how a route is served. The zero value, with ProtoHTTP, is a tag
// without options. Whoever has Options only reads them: they are shared, their
// slices too.
type Options struct {
	// Weight is the fixed share of the route that one instance gets, from 0 to 1;
	// 0 is an equal part of what the fixed shares leave over.
	Weight float64
	Proto  Proto
	// Plain is true where the instance is dialled without Connect.
	Plain bool
	// Strip is taken from the front of the path, then Prepend is put there.
	Strip, Prepend string
	// Host is what the instance gets as Host: "" what the client sent,
	// HostOfUpstream its address, else this name.
	Host string
	// RedirectCode is not 0 where the gateway answers by itself with RedirectURL,
	// in which $path and $host stand for those of the request.
	RedirectCode int
	RedirectURL  string
	// Allow, if not empty, are the only networks that may use the route. Deny are
	// networks that may not. At most one of them is set.
	Allow, Deny []netip.Prefix
	// Auth names the scheme of credentials that a client must show; "" is none.
	Auth string
	// SendProxy asks for a PROXY header at the start of each connection to the
	// instance.
	SendProxy bool
	// Register is the name under which the gateway registers itself; "" is none.
	Register string
	// SkipVerify lets any certificate pass, and ServerName is the name asked for;
	// both only where TLS is not the mesh's.
	SkipVerify bool
	ServerName string

	Strategy Strategy
	// Timeout bounds a request from its head to the head of the answer, attempts
	// included; 0 is the gateway's default.
	Timeout time.Duration
	// Retries is how many further attempts a request may get. It holds only if
	// RetriesSet; else the gateway's default does.
	Retries    int
	RetriesSet bool
	// Datacenters are the only ones to use, in order of preference; empty leaves
	// the order to the gateway.
	Datacenters []string
	Sticky      Stickiness
	// StickyHeader is the header of StickyHeader, as it was written.
	StickyHeader string
	// MaxConn bounds the requests, or TCP connections, in flight to one instance;
	// 0 is the gateway's default.
	MaxConn int
	// Hedge is how long a GET or HEAD waits before it is sent to a second instance
	// as well; 0 is never.
	Hedge time.Duration
}

// Guarded reports whether the options restrict who may use the route.
func (o *Options) Guarded() bool {
	return len(o.Allow) > 0 || len(o.Deny) > 0 || o.Auth != ""
}

// Admits reports whether a client at addr may use the route. An address that is
// not valid is admitted only where there is no list. It allocates nothing.
func (o *Options) Admits(addr netip.Addr) bool {
	if len(o.Allow) == 0 && len(o.Deny) == 0 {
		return true
	}
	if !addr.IsValid() {
		return false
	}
	addr = addr.Unmap().WithZone("")
	contains := func(p netip.Prefix) bool { return p.Contains(addr) }
	if len(o.Allow) > 0 {
		return slices.ContainsFunc(o.Allow, contains)
	}
	return !slices.ContainsFunc(o.Deny, contains)
}

// Equal reports whether two sets of options mean the same.
func (o *Options) Equal(other *Options) bool {
	if o == other {
		return true
	}
	a, b := *o, *other
	return slices.Equal(a.Allow, b.Allow) && slices.Equal(a.Deny, b.Deny) &&
		slices.Equal(a.Datacenters, b.Datacenters) && a.scalars() == b.scalars()
}

// scalars is Options without what == cannot compare.
type scalars struct {
	weight                                 float64
	proto                                  Proto
	plain, proxy, skipVerify, retriesSet   bool
	strip, prepend, host, url, auth        string
	register, serverName, stickyHeaderName string
	code, retries, maxConn                 int
	strategy                               Strategy
	sticky                                 Stickiness
	timeout, hedge                         time.Duration
}

func (o *Options) scalars() scalars {
	return scalars{
		weight: o.Weight, proto: o.Proto, plain: o.Plain, proxy: o.SendProxy, skipVerify: o.SkipVerify,
		retriesSet: o.RetriesSet, strip: o.Strip, prepend: o.Prepend, host: o.Host, url: o.RedirectURL,
		auth: o.Auth, register: o.Register, serverName: o.ServerName, stickyHeaderName: o.StickyHeader,
		code: o.RedirectCode, retries: o.Retries, maxConn: o.MaxConn, strategy: o.Strategy,
		sticky: o.Sticky, timeout: o.Timeout, hedge: o.Hedge,
	}
}
