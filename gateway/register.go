package main

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice/consul"
	"sluice/gateway/config"
	"sluice/gateway/proxy"
	"sluice/gateway/tag"
)

// registry keeps the services of register= in the catalog: instances that stand for
// the gateway. It implements proxy.Registry and is safe for concurrent use.
type registry struct {
	registrar *consul.Registrar
	cfg       config.Config

	mu sync.Mutex
	// wanted are those that the routes ask for, with their IDs, and refused why some
	// of them are not even tried.
	wanted  map[proxy.Registration]string
	refused map[proxy.Registration]error
}

func newRegistry(registrar *consul.Registrar, cfg config.Config) *registry {
	return &registry{registrar: registrar, cfg: cfg}
}

// Want implements proxy.Registry.
func (r *registry) Want(list []proxy.Registration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.wanted
	r.wanted, r.refused = map[proxy.Registration]string{}, map[proxy.Registration]error{}
	for _, w := range list {
		registration, err := standIn(w, r.cfg)
		if err != nil {
			r.refused[w] = err
			continue
		}
		r.wanted[w] = registration.ID
		if old[w] == "" {
			r.registrar.Set(registration)
		}
	}
	kept := slices.Collect(maps.Values(r.wanted))
	for _, id := range old {
		if !slices.Contains(kept, id) {
			r.registrar.Remove(id)
		}
	}
}

// Problem implements proxy.Registry.
func (r *registry) Problem(w proxy.Registration) error {
	r.mu.Lock()
	id, err := r.wanted[w], r.refused[w]
	r.mu.Unlock()
	if err != nil || id == "" {
		return err
	}
	return r.registrar.Problem(id)
}

// problems is how many services are not registered.
func (r *registry) problems() int {
	r.mu.Lock()
	count, wanted := len(r.refused), maps.Clone(r.wanted)
	r.mu.Unlock()
	for _, id := range wanted {
		if r.registrar.Problem(id) != nil {
			count++
		}
	}
	return count
}

// checkHandler answers 200 while a registration is wanted: one that a killed
// gateway has left behind fails its check once another runs in its place.
func (r *registry) checkHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, id := range r.wanted {
			if id == request.URL.Query().Get("id") {
				_, _ = fmt.Fprintln(w, "a route asks for it")
				return
			}
		}
		http.Error(w, "no route asks for it", http.StatusNotFound)
	})
}

// standIn is the registration that stands for the gateway, or why there is none.
func standIn(w proxy.Registration, cfg config.Config) (consul.Registration, error) {
	if w.Name == name {
		return consul.Registration{}, errors.New("it is the gateway's own name")
	}
	at, err := entrance(w, cfg)
	if err != nil {
		return consul.Registration{}, err
	}
	id := name + "-" + cfg.Node + "-" + w.Name + "-" + strconv.Itoa(int(at.Port()))
	if w.Kind == tag.Port {
		id += "-tcp"
	}
	return consul.Registration{
		ID: id, Name: w.Name, Address: at.Addr().String(), Port: int(at.Port()),
		Meta: map[string]string{"gateway": name + "-" + cfg.Node},
		Check: consul.Check{
			HTTP:     "http://" + cfg.Admin.String() + "/registered?id=" + url.QueryEscape(id),
			Interval: time.Second, Timeout: 3 * time.Second, DeregisterAfter: time.Minute,
		},
	}, nil
}

// entrance is where clients of a route come in, from other nodes too: the first
// listener of the right kind that is not on the node's loopback alone.
func entrance(w proxy.Registration, cfg config.Config) (netip.AddrPort, error) {
	found := false
	for _, l := range cfg.Listeners {
		if !takes(l, w) {
			continue
		}
		found = true
		host := l.Address.Host
		if !host.IsValid() || host.IsUnspecified() {
			host = cfg.Address
		}
		if host == cfg.Address || !host.IsLoopback() {
			return netip.AddrPortFrom(host, l.Address.Port), nil
		}
	}
	if found {
		return netip.AddrPort{}, errors.New("only this node reaches its listener, which is on the loopback; want -listen with another address")
	}
	return netip.AddrPort{}, errors.New("no -listen takes connections for its route")
}

// takes reports whether clients of the route come in at the listener.
func takes(l config.Listener, w proxy.Registration) bool {
	switch w.Kind {
	case tag.Port:
		return l.Proto == config.TCP && (l.Address.String() == w.Port || strings.HasSuffix(w.Port, ":"+strconv.Itoa(int(l.Address.Port))) && w.Port[0] == ':')
	case tag.Name:
		return l.Proto == config.TCPSNI || l.Proto == config.HTTPSTCPSNI
	default:
		return l.Proto.HTTP()
	}
}
