package tag

import (
	"fmt"
	"strings"
)

// contradiction returns what of the options does not go together, or nil.
func (r *reader) contradiction(key Key) *Error {
	o := &r.options
	refuse := func(option, format string, args ...any) *Error {
		return &Error{Option: option, Reason: fmt.Sprintf(format, args...)}
	}
	if key.Kind != HTTP {
		return r.beyondTCP(key)
	}
	switch {
	case len(o.Allow) > 0 && len(o.Deny) > 0:
		return refuse("deny", "allow is given as well; want one of them")
	case o.Guarded() && (r.match == Prefix || r.match == IPrefix) && !strings.HasSuffix(key.Path, "/"):
		return refuse("match", "with allow, deny or auth, %s would also take %sx; want match=segment or a path that ends in /", key.Path, key.Path)
	case o.SendProxy:
		return refuse("pxyproto", "want proto=tcp with it")
	case o.SkipVerify && o.Proto != ProtoHTTPS && o.Proto != ProtoGRPCS:
		return refuse("tlsskipverify", "want proto=https or proto=grpcs with it; the mesh always verifies")
	case o.ServerName != "" && o.Proto != ProtoGRPCS:
		return refuse("grpcservername", "want proto=grpcs with it")
	case r.seen["plain"] && !o.Plain && (o.Proto == ProtoHTTPS || o.Proto == ProtoGRPCS):
		return refuse("plain", "proto=%s is TLS without the mesh", o.Proto)
	case o.Strip != "" && !canStrip(key, o.Strip):
		return refuse("strip", "%s begins no path that %s takes", o.Strip, key.Path)
	case o.Sticky != "" && o.Sticky != StickyCookie && o.Strategy != "" && o.Strategy != Hash:
		return refuse("sticky", "sticky=%s picks by hash; want strategy=hash or none", o.Sticky)
	case o.Hedge > 0 && o.RetriesSet && o.Retries == 0:
		return refuse("hedge", "it is a further attempt, which retry=0 forbids")
	case o.Hedge > 0 && o.Timeout > 0 && o.Hedge >= o.Timeout:
		return refuse("hedge", "want less than the timeout, %v", o.Timeout)
	case o.RedirectCode != 0 && leadsToItself(key, o):
		return refuse("redirect", "%s leads back to the same route for ever", o.RedirectURL)
	case o.RedirectCode != 0:
		return r.beyond("redirect is answered by the gateway itself",
			"prepend", "host", "pxyproto", "tlsskipverify", "grpcservername", "strategy", "timeout", "hedge", "retry", "maxconn", "dc", "sticky")
	}
	return nil
}

// beyondTCP refuses what means nothing without HTTP.
func (r *reader) beyondTCP(key Key) *Error {
	if r.options.Proto != ProtoTCP && r.options.Proto != "" {
		return &Error{Option: "proto", Reason: fmt.Sprintf("want tcp for %s", key.Host)}
	}
	if len(r.options.Allow) > 0 && len(r.options.Deny) > 0 {
		return &Error{Option: "deny", Reason: "allow is given as well; want one of them"}
	}
	if r.options.Sticky != "" && r.options.Sticky != StickyIP {
		return &Error{Option: "sticky", Reason: "want ip for a TCP route"}
	}
	return r.beyond("it needs HTTP, and the route is TCP", "strip", "prepend", "host", "redirect", "auth",
		"tlsskipverify", "grpcservername", "hedge", "match")
}

func (r *reader) beyond(reason string, options ...string) *Error {
	for _, option := range options {
		if r.seen[option] {
			return &Error{Option: option, Reason: reason}
		}
	}
	return nil
}

// canStrip reports whether some path that the route takes begins with strip.
func canStrip(key Key, strip string) bool {
	path := key.Path
	switch key.Match {
	case Exact:
		return strings.HasPrefix(path, strip)
	case Glob:
		path = path[:strings.IndexAny(path+"*", special)]
	case IPrefix:
		strip = fold(strip)
	}
	return strings.HasPrefix(path, strip) || strings.HasPrefix(strip, path)
}

// complete fills in what follows from what was given.
func (r *reader) complete(key Key) {
	o := &r.options
	switch {
	case key.Kind != HTTP:
		o.Proto = ProtoTCP
	case o.Proto == "":
		o.Proto = ProtoHTTP
	}
	o.Plain = o.Plain || o.Proto == ProtoHTTPS || o.Proto == ProtoGRPCS
	if o.Strategy == Hash && o.Sticky == "" {
		o.Sticky = StickyIP
	}
	if o.Sticky == StickyIP || o.Sticky == StickyHeader {
		o.Strategy = Hash
	}
}
