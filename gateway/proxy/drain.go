package proxy

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Drained is what a change has come to.
type Drained struct {
	Service  string `json:"service"`
	Instance string `json:"instance"`
	Node     string `json:"node"`
	Draining bool   `json:"draining"`
	// InFlight requests go on; with none, the instance can be stopped.
	InFlight int `json:"in_flight"`
}

var (
	errNoSuchInstance = errors.New("no such instance")
	errManyInstances  = errors.New("several instances have this name")
)

// Drain stops, or with false resumes, the picking of one instance on every route
// of this gateway. What is in flight goes on. It holds until it is taken back, the
// process ends, or the instance has been out of the catalog for a minute. node
// may be "" where the instance's ID is that of one alone.
func (p *Proxy) Drain(service, instance, node string, on bool) (Drained, error) {
	var found []*target
	for _, t := range p.state.Load().targets {
		if t.service != service || t.instance.ServiceID != instance || node != "" && t.instance.Node != node {
			continue
		}
		if len(found) > 0 && found[0].instance.Node != t.instance.Node {
			return Drained{}, fmt.Errorf("drain: %w: %s is on %s and %s; say which with node=", errManyInstances, instance, found[0].instance.Node, t.instance.Node)
		}
		found = append(found, t) // two only while one replaces the other
	}
	if len(found) == 0 {
		return Drained{}, fmt.Errorf("drain: %w: %s of service %s is behind no route", errNoSuchInstance, instance, service)
	}
	result := Drained{Service: service, Instance: instance, Node: found[0].instance.Node, Draining: on}
	changed := false
	for _, t := range found {
		changed = changed || t.endpoint.Status(p.now()).Draining != on
		t.endpoint.Drain(on)
		result.InFlight += t.endpoint.InFlight()
	}
	if changed {
		text := "resumed: it is picked again"
		if on {
			text = fmt.Sprintf("draining: it is picked no more; %d in flight go on", result.InFlight)
		}
		p.timeline.add(Event{At: time.Now(), Kind: "drain", Subject: found[0].place(), Text: text})
		p.log.Info("drain", "service", service, "instance", instance, "node", result.Node, "draining", on)
	}
	return result, nil
}

// DrainHandler serves POST with service=, instance=, on=true or false, and node=
// where it is needed. It wants "Authorization: Bearer" with the token, which is
// asked for each time, so that its file may be replaced. nil allows nobody.
// Browsers on pages of other origins are refused whatever they send.
func (p *Proxy) DrainHandler(token func() (string, error)) http.Handler {
	origins := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token == nil {
			refuse(w, http.StatusForbidden, "nothing can be changed: start the gateway with -admin-token-file FILE to allow it")
			return
		}
		if err := origins.Check(r); err != nil {
			refuse(w, http.StatusForbidden, "a page of another origin may change nothing")
			return
		}
		secret, err := token()
		if err != nil {
			p.log.Error("the admin token cannot be read", "err", err)
			refuse(w, http.StatusServiceUnavailable, "the token's file cannot be read; the log says why")
			return
		}
		if !bears(r.Header.Get("Authorization"), secret) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, http.StatusUnauthorized, "want Authorization: Bearer TOKEN, with the token in the file of -admin-token-file")
			return
		}
		p.serveDrain(w, r)
	})
}

func (p *Proxy) serveDrain(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	on, err := strconv.ParseBool(query.Get("on"))
	if err != nil || query.Get("service") == "" || query.Get("instance") == "" {
		refuse(w, http.StatusBadRequest, "want service=, instance= and on=true or on=false")
		return
	}
	result, err := p.Drain(query.Get("service"), query.Get("instance"), query.Get("node"), on)
	switch {
	case errors.Is(err, errManyInstances):
		refuse(w, http.StatusConflict, err.Error())
	case err != nil:
		refuse(w, http.StatusNotFound, err.Error())
	default:
		writeJSON(w, result)
	}
}

// bears compares in a time that tells nothing about the secret, not even its
// length.
func bears(authorization, secret string) bool {
	scheme, given, _ := strings.Cut(authorization, " ")
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(secret))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(a[:], b[:]) == 1 && secret != ""
}

// refuse answers with the reason as JSON.
func refuse(w http.ResponseWriter, status int, reason string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct {
		Error string `json:"error"`
	}{reason})
}
