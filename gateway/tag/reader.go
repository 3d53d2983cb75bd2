package tag

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The largest values that options take.
const (
	maxRetries = 5
	maxTimeout = 24 * time.Hour
	maxHedge   = time.Minute
	maxMaxConn = 1_000_000
)

// reader gathers the options of one tag.
type reader struct {
	options Options
	match   Match
	seen    map[string]bool
	// guards is set by every option that was meant as a guard, read or not.
	guards bool
}

// option reads one option. What is wrong with it does not keep the others from
// being read: whether a tag guards its route must be known in any case.
func (r *reader) option(text string) *Error {
	name, value, _ := strings.Cut(text, "=")
	meant := nearest(name)
	r.guards = r.guards || meant == "allow" || meant == "deny" || meant == "auth"
	if meant != name {
		reason := "unknown"
		if meant != "" {
			reason += "; did you mean " + meant + "="
		}
		return &Error{Option: fmt.Sprintf("%.40q", name), Reason: reason}
	}
	if r.seen[name] {
		return &Error{Option: name, Reason: "given twice"}
	}
	r.seen[name] = true
	if err := r.set(name, value); err != nil {
		return &Error{Option: name, Reason: fmt.Sprintf("got %.80q: %v", value, err)}
	}
	return nil
}

// set reads the value of a known option.
func (r *reader) set(name, value string) (err error) {
	o := &r.options
	switch name {
	case "weight":
		o.Weight, err = weight(value)
	case "strip":
		o.Strip, err = pathValue(value)
	case "prepend":
		o.Prepend, err = pathValue(value)
	case "host":
		o.Host, err = hostValue(value)
	case "redirect":
		o.RedirectCode, o.RedirectURL, err = redirect(value)
	case "allow":
		o.Allow, err = networks(value)
	case "deny":
		o.Deny, err = networks(value)
	case "auth":
		o.Auth, err = word(value)
	case "register":
		o.Register, err = word(value)
	case "proto":
		o.Proto, err = oneOf(value, ProtoHTTP, ProtoHTTPS, ProtoTCP, ProtoGRPC, ProtoGRPCS)
	case "plain":
		o.Plain, err = boolean(value)
	case "pxyproto":
		o.SendProxy, err = boolean(value)
	case "tlsskipverify":
		o.SkipVerify, err = boolean(value)
	case "grpcservername":
		o.ServerName, err = nameValue(value)
	case "strategy":
		o.Strategy, err = oneOf(value, P2C, RoundRobin, Random, Hash, EWMA)
	case "timeout":
		o.Timeout, err = duration(value, maxTimeout)
	case "hedge":
		o.Hedge, err = duration(value, maxHedge)
	case "retry":
		o.RetriesSet = true
		o.Retries, err = number(value, 0, maxRetries)
	case "maxconn":
		o.MaxConn, err = number(value, 1, maxMaxConn)
	case "dc":
		o.Datacenters, err = words(value)
	case "sticky":
		o.Sticky, o.StickyHeader, err = sticky(value)
	case "match":
		r.match, err = matchValue(value)
	}
	return err
}

// nearest returns the option that name is, but for its case, or that it is one
// slip away from, two in a longer name; "" if there is none.
func nearest(name string) string {
	names := OptionNames()
	if slices.Contains(names, name) {
		return name
	}
	best, distance := "", 3
	for _, known := range names {
		limit := 1 + len(known)/5
		if d := edits(strings.ToLower(name), known); d <= limit && d < distance {
			best, distance = known, d
		}
	}
	return best
}

// OptionNames returns the names of all options that a tag may have.
func OptionNames() []string {
	return []string{
		"allow", "deny", "auth", "weight", "strip", "prepend", "host", "redirect", "register", "proto", "plain", "pxyproto",
		"tlsskipverify", "grpcservername", "strategy", "timeout", "hedge", "retry", "maxconn", "dc", "sticky", "match",
	}
}

// edits is the number of bytes to insert, delete, replace or swap with their
// neighbour to make b of a (Damerau's distance, each place touched once).
func edits(a, b string) int {
	if len(a) > len(b)+2 || len(b) > len(a)+2 {
		return 3
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range b {
		rows[0][j+1] = j + 1
	}
	for i := range a {
		for j := range b {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			d := min(rows[i][j+1]+1, rows[i+1][j]+1, rows[i][j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				d = min(d, rows[i-1][j-1]+1)
			}
			rows[i+1][j+1] = d
		}
	}
	return rows[len(a)][len(b)]
}

func weight(value string) (float64, error) {
	f, err := strconv.ParseFloat(value, 64)
	if err != nil || math.IsNaN(f) || f < 0 || f > 1 {
		return 0, errors.New("want a number from 0 to 1")
	}
	return f + 0, nil // -0 becomes 0
}

func boolean(value string) (bool, error) {
	if value != "true" && value != "false" {
		return false, errors.New("want true or false")
	}
	return value == "true", nil
}

func number(value string, low, high int) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("want a whole number from %d to %d", low, high)
	}
	return n, nil
}

func duration(value string, high time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 || d > high {
		return 0, fmt.Errorf("want a duration above 0 and up to %v, like 250ms or 2s", high)
	}
	return d, nil
}

func oneOf[T ~string](value string, choices ...T) (T, error) {
	var all []string
	for _, choice := range choices {
		if value == string(choice) {
			return choice, nil
		}
		all = append(all, string(choice))
	}
	return "", errors.New("want one of " + strings.Join(all, ", "))
}

func matchValue(value string) (Match, error) {
	for m := Prefix; m <= Exact; m++ {
		if m.String() == value {
			return m, nil
		}
	}
	return Segment, errors.New("want one of prefix, segment, iprefix, glob, exact")
}

func isWord(value string) bool {
	for _, c := range []byte(value) {
		if !isHostByte(Lower(c)) && c != '.' {
			return false
		}
	}
	return value != "" && len(value) <= 128
}

func word(value string) (string, error) {
	if !isWord(value) {
		return "", errors.New("want a name of letters, digits, '-', '_' and '.'")
	}
	return value, nil
}

func words(value string) ([]string, error) {
	all := strings.Split(value, ",")
	seen := map[string]bool{}
	for _, one := range all {
		if !isWord(one) || seen[one] {
			return nil, errors.New("want names with commas between them, each once")
		}
		seen[one] = true
	}
	return all, nil
}

func pathValue(value string) (string, error) {
	if !strings.HasPrefix(value, "/") {
		return "", errors.New("want a path that begins with /")
	}
	return value, checkPath(value, Prefix)
}

func nameValue(value string) (string, error) {
	host, err := canonicalHost(value)
	if err == nil && (strings.ContainsAny(host, special+":") || host == "") {
		err = errors.New("want a host name")
	}
	return host, err
}

func hostValue(value string) (string, error) {
	if value == HostOfUpstream {
		return value, nil
	}
	name, _, err := cutPort(strings.ToLower(value))
	if err == nil && strings.ContainsAny(name, "*?{}") {
		err = errors.New("want dst, a host name or host:port")
	}
	if err == nil {
		err = checkHostName(name)
	}
	return value, err
}

func sticky(value string) (Stickiness, string, error) {
	name, isHeader := strings.CutPrefix(value, "header:")
	switch {
	case value == "cookie" || value == "ip":
		return Stickiness(value), "", nil
	case isHeader && isWord(name) && !strings.Contains(name, "."):
		return StickyHeader, name, nil
	}
	return "", "", errors.New("want cookie, ip or header:NAME")
}

// networks reads the lists of allow and deny. An item without its type, which
// Fabio passes over, is an error here.
func networks(value string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for item := range strings.SplitSeq(value, ",") {
		text, ok := strings.CutPrefix(strings.ToLower(item), "ip:")
		if !ok {
			return nil, fmt.Errorf("item %.60q: want ip:ADDRESS or ip:NETWORK/BITS", item)
		}
		prefix, err := network(text)
		if err != nil {
			return nil, fmt.Errorf("item %.60q: %w", item, err)
		}
		all = append(all, prefix)
	}
	return all, nil
}

func network(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		addr, err := parseAddr(text)
		if err != nil {
			return netip.Prefix{}, err
		}
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, errors.New("want ADDRESS/BITS")
	}
	if prefix.Addr().Is4In6() {
		if prefix.Bits() < 96 {
			return netip.Prefix{}, errors.New("the network mixes IPv4 and IPv6")
		}
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	return prefix.Masked(), nil
}

func parseAddr(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, errors.New("want an IPv4 or IPv6 address without a zone")
	}
	return addr.Unmap(), nil
}
