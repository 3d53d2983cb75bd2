package tag

import (
	"net/netip"
	"strconv"
	"strings"
)

// String returns the tag without its prefix, options in a fixed order; parsed
// again, it gives an equal Route.
func (r Route) String() string {
	text := r.Key.String()
	guarded := r.Kind == HTTP && r.Match == Prefix && r.Options.Guarded()
	if guarded {
		text += " match=prefix"
	}
	options := r.Options.String()
	if r.Kind == Name {
		options = strings.Replace(options, "proto=tcp", "", 1) // Key has it
	}
	return strings.TrimRight(text+" "+strings.TrimLeft(options, " "), " ")
}

// String returns the options as a tag has them, in a fixed order; "" if none
// was given.
func (o *Options) String() string {
	var b strings.Builder
	add := func(name, value string) {
		if value == "" {
			return
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(name + "=" + value)
	}
	flag := func(name string, on bool) {
		if on {
			add(name, "true")
		}
	}
	if o.Proto != ProtoHTTP {
		add("proto", string(o.Proto))
	}
	flag("plain", o.Plain)
	if o.Weight > 0 {
		add("weight", strconv.FormatFloat(o.Weight, 'g', -1, 64))
	}
	add("strip", o.Strip)
	add("prepend", o.Prepend)
	add("host", o.Host)
	if o.RedirectCode != 0 {
		add("redirect", strconv.Itoa(o.RedirectCode)+","+o.RedirectURL)
	}
	add("allow", networkText(o.Allow))
	add("deny", networkText(o.Deny))
	add("auth", o.Auth)
	flag("pxyproto", o.SendProxy)
	add("register", o.Register)
	flag("tlsskipverify", o.SkipVerify)
	add("grpcservername", o.ServerName)
	add("strategy", string(o.Strategy))
	if o.Timeout > 0 {
		add("timeout", o.Timeout.String())
	}
	if o.RetriesSet {
		add("retry", strconv.Itoa(o.Retries))
	}
	add("dc", strings.Join(o.Datacenters, ","))
	sticky := string(o.Sticky)
	if o.StickyHeader != "" {
		sticky += ":" + o.StickyHeader
	}
	add("sticky", sticky)
	if o.MaxConn > 0 {
		add("maxconn", strconv.Itoa(o.MaxConn))
	}
	if o.Hedge > 0 {
		add("hedge", o.Hedge.String())
	}
	return b.String()
}

func networkText(prefixes []netip.Prefix) string {
	items := make([]string, 0, len(prefixes))
	for _, prefix := range prefixes {
		items = append(items, "ip:"+prefix.String())
	}
	return strings.Join(items, ",")
}
