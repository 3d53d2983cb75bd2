package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"sluice/gateway/balance"
	"sluice/gateway/rate"
	"sluice/gateway/tag"
	"sluice/identity"
	"sluice/mesh"
)

// maxResponseHead bounds the head of an answer, in bytes.
const maxResponseHead = 256 << 10

// targetKey is what makes an instance the same one: a pool must not outlive a
// change of any of it.
type targetKey struct {
	service, node, serviceID, address string
	id                                identity.ID
}

func keyOf(service string, i *mesh.Instance) targetKey {
	return targetKey{service: service, node: i.Node, serviceID: i.ServiceID, address: i.Address, id: i.ID}
}

// target is an instance with what is known about its health and with its
// connections, one set of them for each manner of speaking.
type target struct {
	instance mesh.Instance
	service  string
	endpoint *balance.Endpoint
	// token names the instance in a cookie.
	token string
	// recent is what its last minute was like, for people.
	recent rate.Window
	// outcomes counts the attempts at it by what became of them.
	outcomes [balance.Outcomes]atomic.Uint64
	// impostor is who answered at its address instead, the last time; nil if it did.
	impostor atomic.Pointer[impostor]
	// wires belong to Run; plans hold what a request needs.
	wires map[manner]*wire
}

// manner is how an instance is spoken to.
type manner struct {
	plain, tls, h2, skipVerify bool
	serverName                 string
}

func mannerOf(o *tag.Options) manner {
	return manner{
		plain: o.Plain, tls: o.Proto == tag.ProtoHTTPS || o.Proto == tag.ProtoGRPCS,
		h2: o.Proto == tag.ProtoGRPC || o.Proto == tag.ProtoGRPCS, skipVerify: o.SkipVerify, serverName: o.ServerName,
	}
}

// scheme is the scheme of the URLs of requests.
func (m manner) scheme() string {
	if m.tls {
		return "https"
	}
	return "http"
}

// dialError marks an error from before a connection existed: not one byte of
// the request has been sent.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// dial connects to an instance.
func (p *Proxy) dial(ctx context.Context, t *target, m manner) (net.Conn, error) {
	var conn net.Conn
	var err error
	began := time.Now()
	if m.plain {
		dialer := net.Dialer{Timeout: p.cfg.Dial}
		conn, err = dialer.DialContext(ctx, "tcp", t.instance.Address)
	} else {
		var meshed *mesh.Conn
		if meshed, err = p.cfg.Dialer.DialInstance(ctx, t.instance); err == nil {
			conn = meshed
		}
	}
	if err != nil {
		return nil, &dialError{err}
	}
	p.metrics.connected(t.service, time.Since(began))
	return conn, nil
}

// serialOf is the number of the leaf that the gateway has shown on a connection,
// hexadecimal; "" outside the mesh.
func serialOf(conn net.Conn) string {
	if guarded, ok := conn.(*guardedConn); ok {
		conn = guarded.Conn
	}
	meshed, ok := conn.(*mesh.Conn)
	if !ok || meshed.LocalCertificate() == nil {
		return ""
	}
	return meshed.LocalCertificate().SerialNumber.Text(16)
}

// transport returns a net/http client for one instance.
func (p *Proxy) transport(t *target, m manner) *http.Transport {
	transport := &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return p.dialPending(ctx, t, m) },
		DisableCompression:     true, // bodies pass as they are
		MaxIdleConns:           p.cfg.IdleConns,
		MaxIdleConnsPerHost:    p.cfg.IdleConns,
		IdleConnTimeout:        max(p.cfg.KeepAlive, 1), // 0 would be for ever
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxResponseHead,
		ReadBufferSize:         8 << 10,
		WriteBufferSize:        8 << 10,
		Protocols:              new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(!m.h2)
	transport.Protocols.SetHTTP2(m.h2 && m.tls)
	transport.Protocols.SetUnencryptedHTTP2(m.h2 && !m.tls)
	if m.tls {
		transport.TLSClientConfig = &tls.Config{
			MinVersion: tls.VersionTLS12, ServerName: m.serverName,
			InsecureSkipVerify: m.skipVerify, //nolint:gosec // the tag asks for it, -allow-plain permits it, the page marks it
		}
		transport.TLSHandshakeTimeout = p.cfg.Dial
	}
	return transport
}

// crew are the instances of one service, a group of endpoints per datacenter.
type crew struct {
	given   []mesh.Instance
	added   []mesh.Instance
	groups  map[string]*balance.Group
	targets map[targetKey]*target
}

// fleet is every instance that routes may name. It belongs to Run.
type fleet struct {
	proxy *Proxy
	crews map[string]*crew
}

// join takes new instances of a service, which it returns, and keeps those that are
// there: requests with an older table go on. leave, afterwards, lets go of who is
// missing.
func (f *fleet) join(now time.Time, service string, given, added []mesh.Instance) (came []*target) {
	c := f.crews[service]
	if c == nil {
		c = &crew{groups: map[string]*balance.Group{}, targets: map[targetKey]*target{}}
		f.crews[service] = c
	}
	c.given, c.added = given, added
	wanted := c.wanted(service)
	for key, instance := range wanted {
		if c.targets[key] == nil {
			t := &target{instance: *instance, service: service, wires: map[manner]*wire{}}
			t.token = fmt.Sprintf("%016x", balance.Hash(t.name()))
			c.targets[key] = t
			came = append(came, t)
		}
	}
	if len(came) > 0 {
		c.regroup(now, f.proxy)
	}
	return came
}

// leave forgets the instances of a service that are not there any more, and
// returns them.
func (f *fleet) leave(now time.Time, service string) (gone []*target) {
	c := f.crews[service]
	if c == nil {
		return nil
	}
	wanted := c.wanted(service)
	for key, t := range c.targets {
		if wanted[key] == nil {
			gone = append(gone, t)
			delete(c.targets, key)
		}
	}
	if len(gone) > 0 {
		c.regroup(now, f.proxy)
	}
	if len(c.targets) == 0 {
		delete(f.crews, service)
	}
	return gone
}

func (c *crew) wanted(service string) map[targetKey]*mesh.Instance {
	wanted := make(map[targetKey]*mesh.Instance, len(c.given)+len(c.added))
	for _, list := range [][]mesh.Instance{c.given, c.added} {
		for i := range list {
			wanted[keyOf(service, &list[i])] = &list[i]
		}
	}
	return wanted
}

func (c *crew) regroup(now time.Time, p *Proxy) {
	members := map[string][]*target{}
	for dc := range c.groups {
		members[dc] = nil
	}
	for _, t := range c.targets {
		dc := p.datacenterOf(&t.instance)
		members[dc] = append(members[dc], t)
	}
	for dc, targets := range members {
		group := c.groups[dc]
		if group == nil {
			group = balance.NewGroup(p.cfg.Ejection)
			group.Notify(p.tellEjection)
			c.groups[dc] = group
		}
		instances := make([]balance.Instance, len(targets))
		for i, t := range targets {
			instances[i] = balance.Instance{Key: t.name(), Datacenter: dc}
		}
		for i, endpoint := range group.Update(now, instances) {
			if targets[i].endpoint == nil {
				targets[i].endpoint = endpoint // requests read it from now on
			}
		}
	}
}

func (p *Proxy) datacenterOf(i *mesh.Instance) string {
	if dc := i.ID.Datacenter(); dc != "" {
		return dc
	}
	return p.cfg.Datacenter
}

// name is the same for the instance on every gateway.
func (t *target) name() string {
	return strings.Join([]string{t.service, t.instance.Node, t.instance.ServiceID, t.instance.Address}, "|")
}

// place names the instance for people.
func (t *target) place() string {
	if t.instance.Node == "" {
		return t.instance.ServiceID
	}
	return t.instance.ServiceID + " on " + t.instance.Node
}

// find returns the target of an instance; Run has joined it before.
func (f *fleet) find(service string, instance *mesh.Instance) (*target, error) {
	if c := f.crews[service]; c != nil {
		if t := c.targets[keyOf(service, instance)]; t != nil {
			return t, nil
		}
	}
	return nil, errors.New("the instance is not in the catalog")
}
