package override

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"sluice/gateway/route"
	"sluice/gateway/tag"
	"sluice/mesh"
)

// parser reads lines.
type parser struct {
	tags  tag.Parser
	check func(tag.Route) error
}

// word is one part of a line.
type word struct {
	text   string
	quoted bool
}

// split takes a line apart at its blanks. Quotes keep blanks together and have no
// escapes.
func split(line string) ([]word, error) {
	var words []word
	for {
		line = strings.TrimLeft(line, " \t")
		if line == "" {
			return words, nil
		}
		if rest, quoted := strings.CutPrefix(line, `"`); quoted {
			text, rest, closed := strings.Cut(rest, `"`)
			if !closed {
				return nil, errors.New("a quote is not closed")
			}
			if rest != "" && rest[0] != ' ' && rest[0] != '\t' {
				return nil, errors.New("want a blank after a quoted text")
			}
			words, line = append(words, word{text, true}), rest
			continue
		}
		end := strings.IndexAny(line, " \t")
		if end < 0 {
			end = len(line)
		}
		if strings.Contains(line[:end], `"`) {
			return nil, errors.New("a quote is inside a word")
		}
		words, line = append(words, word{line[:end], false}), line[end:]
	}
}

// line reads one command.
func (p parser) line(line string) (command, error) {
	if len(line) > maxLine {
		return command{}, fmt.Errorf("longer than %d bytes", maxLine)
	}
	for _, c := range []byte(line) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return command{}, errors.New("it holds a control character")
		}
	}
	words, err := split(line)
	if err != nil {
		return command{}, err
	}
	if len(words) < 2 || words[0] != (word{"route", false}) || words[1].quoted {
		return command{}, errors.New("want route add, route del or route weight")
	}
	plain, named, err := sections(words[2:])
	if err != nil {
		return command{}, err
	}
	switch words[1].text {
	case "add":
		return p.add(plain, named)
	case "del":
		return p.del(plain, named)
	case "weight":
		return p.weight(plain, named)
	}
	return command{}, fmt.Errorf("got route %.40q; want route add, route del or route weight", words[1].text)
}

// sections tells the words in front from what follows weight, tags and opts,
// which come in this order. A keyword is one only if its value follows in its
// form, so that a service may be called tags.
func sections(words []word) (plain []string, named map[string]string, err error) {
	named = map[string]string{}
	order := 0
	for i := 0; i < len(words); i++ {
		rank := map[string]int{"weight": 1, "tags": 2, "opts": 3}[words[i].text]
		isKeyword := rank > 0 && !words[i].quoted && i+1 < len(words) && words[i+1].quoted == (rank > 1) &&
			(rank > 1 || isNumber(words[i+1].text) || len(plain) > 2)
		switch {
		case isKeyword && rank <= order:
			return nil, nil, fmt.Errorf("%s is in the wrong place; want weight, tags, opts in this order, each once", words[i].text)
		case isKeyword:
			named[words[i].text] = words[i+1].text
			order = rank
			i++
		case words[i].quoted:
			return nil, nil, fmt.Errorf("got %.60q; want tags or opts before a quoted text", words[i].text)
		case order > 0:
			return nil, nil, fmt.Errorf("got %.60q after %d words; want weight W, tags \"A,B\" or opts \"NAME=VALUE\"", words[i].text, i+2)
		default:
			plain = append(plain, words[i].text)
		}
	}
	return plain, named, nil
}

func isNumber(text string) bool {
	_, err := strconv.ParseFloat(text, 64)
	return err == nil
}

func (p parser) del(plain []string, named map[string]string) (command, error) {
	c := command{verb: del}
	tags, hasTags := named["tags"]
	_, weighted := named["weight"]
	if _, options := named["opts"]; weighted || options {
		return c, errors.New("route del takes neither weight nor opts")
	}
	if hasTags {
		if len(plain) > 1 {
			return c, errors.New(`want route del [SERVICE] tags "A,B"`)
		}
		c.service = strings.Join(plain, "")
		c.tags = list(tags)
		if len(c.tags) == 0 {
			return c, errors.New("tags is empty, which would mean every route")
		}
		return c, nil
	}
	if len(plain) == 0 || len(plain) > 3 {
		return c, errors.New("want route del SERVICE [ROUTE [DESTINATION]]")
	}
	c.service = plain[0]
	var err error
	if len(plain) > 1 {
		c.hasKey = true
		if c.key, err = p.key(plain[1]); err != nil {
			return c, err
		}
	}
	if len(plain) > 2 {
		c.address, c.proto, err = destination(plain[2])
	}
	return c, err
}

func (p parser) weight(plain []string, named map[string]string) (command, error) {
	c := command{verb: weight, hasKey: true}
	text, hasWeight := named["weight"]
	tags, hasTags := named["tags"]
	if _, options := named["opts"]; options || !hasWeight || len(plain) == 0 || len(plain) > 2 || len(plain) == 1 && !hasTags {
		return c, errors.New(`want route weight SERVICE ROUTE weight W [tags "A,B"] or route weight ROUTE weight W tags "A,B"`)
	}
	if len(plain) == 2 {
		c.service = plain[0]
	}
	c.tags = list(tags)
	if hasTags && len(c.tags) == 0 {
		return c, errors.New("tags is empty")
	}
	var err error
	if c.key, err = p.key(plain[len(plain)-1]); err != nil {
		return c, err
	}
	c.weight, err = share(text)
	return c, err
}

func (p parser) add(plain []string, named map[string]string) (command, error) {
	c := command{verb: add, hasKey: true, tags: list(named["tags"])}
	if len(plain) != 3 {
		return c, errors.New("want route add SERVICE ROUTE DESTINATION")
	}
	c.service = plain[0]
	options, address, err := mergeDestination(named["opts"], plain[2])
	if err != nil {
		return c, err
	}
	declared, err := p.tags.ParseRoute(plain[1], options)
	if err != nil {
		return c, err
	}
	if declared.Options.RedirectCode == 0 {
		declared.Options.Plain = true
	}
	if p.check != nil {
		if err := p.check(declared); err != nil {
			return c, err
		}
	}
	weight := declared.Options.Weight
	if text, ok := named["weight"]; ok {
		if weight, err = share(text); err != nil {
			return c, err
		}
	}
	c.key = declared.Key
	c.target = route.Target{
		Service: c.service, Options: &declared.Options, Weight: weight,
		Instance: &mesh.Instance{ServiceID: "override " + c.service + " " + plain[2], Address: address, Tags: c.tags},
	}
	return c, nil
}

// mergeDestination puts into the options what Fabio keeps in the destination: the
// protocol, and the URL of a redirect. A redirect has no address.
func mergeDestination(options, text string) (merged, address string, err error) {
	fields := strings.Fields(options)
	proto := ""
	for i, field := range fields {
		name, value, _ := strings.Cut(field, "=")
		switch {
		case name == "redirect" && !strings.Contains(value, ","):
			fields[i] = field + "," + text
			return strings.Join(fields, " "), "", nil
		case name == "redirect":
			return "", "", errors.New("option redirect: want a code alone; the URL is the destination")
		case name == "proto":
			proto = value
		}
	}
	address, scheme, err := destination(text)
	switch {
	case err != nil:
		return "", "", err
	case proto == "":
		fields = append(fields, "proto="+string(scheme))
	case scheme != tag.ProtoHTTP && proto != string(scheme):
		return "", "", fmt.Errorf("option proto: got %.20q; want what the destination says, %s", proto, scheme)
	}
	return strings.Join(fields, " "), address, nil
}

// key reads the route of del and weight, which is written without the options
// that decide how it is compared.
func (p parser) key(text string) (route.Key, error) {
	var first error
	for _, options := range []string{"", "match=glob", "proto=tcp"} {
		declared, err := p.tags.ParseRoute(text, options)
		if err == nil {
			return declared.Key, nil
		}
		if first == nil {
			first = err
		}
	}
	return route.Key{}, first
}

// destination reads a URL without a path, and returns its "host:port".
func destination(text string) (address string, proto tag.Proto, err error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		return "", "", fmt.Errorf("destination %.80q: want a URL like http://10.0.0.1:8000/, without a path", text)
	}
	port := u.Port()
	proto = tag.Proto(u.Scheme)
	switch proto {
	case tag.ProtoHTTP, tag.ProtoGRPC:
		if port == "" {
			port = "80"
		}
	case tag.ProtoHTTPS, tag.ProtoGRPCS:
		if port == "" {
			port = "443"
		}
	case tag.ProtoTCP:
	default:
		return "", "", fmt.Errorf("destination %.80q: want http, https, tcp, grpc or grpcs", text)
	}
	host := u.Hostname()
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", fmt.Errorf("destination %.80q: want a port from 1 to 65535", text)
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.String()
	}
	if host == "" || strings.ContainsAny(host, " %/\\") {
		return "", "", fmt.Errorf("destination %.80q: want a host", text)
	}
	return net.JoinHostPort(strings.ToLower(host), port), proto, nil
}

// share reads a weight. As in Fabio, more than 1 is scaled later, and nothing or
// less means no fixed weight.
func share(text string) (float64, error) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) || f > 1000 {
		return 0, fmt.Errorf("weight %.40q: want a number like 0.05", text)
	}
	return max(f, 0), nil
}

func list(text string) []string {
	var all []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			all = append(all, item)
		}
	}
	return all
}
