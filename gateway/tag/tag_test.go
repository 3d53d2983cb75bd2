package tag_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"sluice/gateway/tag"
)

func parse(text string) (tag.Route, error) {
	return tag.NewParser("", "DC1").Parse(text)
}

func TestRouteOfATag(t *testing.T) {
	tests := []struct{ tag, want string }{
		{"urlprefix-/web", "/web"},
		{" urlprefix-/web ", "/web"},
		{"urlprefix-/Web/Case", "/Web/Case"},
		{"urlprefix-Example.COM/", "example.com/"},
		{"urlprefix-example.com./", "example.com/"},
		{"urlprefix-example.com:80/blog", "example.com/blog"},
		{"urlprefix-example.com:443/blog", "example.com/blog"},
		{"urlprefix-example.com:9999/blog", "example.com:9999/blog"},
		{"urlprefix-*.Example.com/", "*.example.com/"},
		{"urlprefix-*.example.com:8443/", "*.example.com:8443/"},
		{"urlprefix-a*.example.com/", "a*.example.com/"},
		{"urlprefix-{a,b}.example.com/", "{a,b}.example.com/"},
		{"urlprefix-*/x", "*/x"},
		{"urlprefix-[::1]/x", "[::1]/x"},
		{"urlprefix-[::1]:99/x", "[::1]:99/x"},
		{"urlprefix-$DC.example.com/$DC/x", "dc1.example.com/DC1/x"},
		{"urlprefix-a${DC}b.example.com/", "adc1b.example.com/"},
		{"urlprefix-/a/*/b match=glob", "/a/*/b match=glob"},
		{"urlprefix-/a match=segment", "/a match=segment"},
		{"urlprefix-/a match=exact", "/a match=exact"},
		{"urlprefix-/A match=iprefix", "/a match=iprefix"},
		{"urlprefix-/a match=prefix", "/a"},
		{"urlprefix-:3306", ":3306 proto=tcp"},
		{"urlprefix-:3306 proto=tcp", ":3306 proto=tcp"},
		{"urlprefix-10.0.0.1:3306", "10.0.0.1:3306 proto=tcp"},
		{"urlprefix-[fe80::1]:3306", "[fe80::1]:3306 proto=tcp"},
		{"urlprefix-db.example.com proto=tcp", "db.example.com proto=tcp"},
		{"urlprefix-*.example.com/ proto=tcp pxyproto=true", "*.example.com proto=tcp pxyproto=true"},
	}
	for _, test := range tests {
		route, err := parse(test.tag)
		if err != nil || route.String() != test.want {
			t.Errorf("Parse(%q) = %q, %v; want %q", test.tag, route, err, test.want)
		}
	}
}

func TestOptionsOfATag(t *testing.T) {
	tests := []struct{ options, want string }{
		{"proto=http", ""},
		{"proto=https tlsskipverify=true", "proto=https plain=true tlsskipverify=true"},
		{"proto=grpcs grpcservername=x", "proto=grpcs plain=true grpcservername=x"},
		{"plain=true", "plain=true"},
		{"weight=0", ""},
		{"weight=-0", ""},
		{"weight=.25", "weight=0.25"},
		{"strip=/a/b", "strip=/a/b"},
		{"strip=/a prepend=/c", "strip=/a prepend=/c"},
		{"host=dst", "host=dst"},
		{"host=Other.example:81", "host=Other.example:81"},
		{"redirect=301,https://$host$path", "redirect=301,https://$host$path"},
		{"redirect=302,/x strip=/a", "strip=/a redirect=302,/x"},
		{"redirect=302,/a/login", "redirect=302,/a/login"},
		{"redirect=302,$path strip=/a", "strip=/a redirect=302,$path"},
		{"redirect=302,http://elsewhere/a", "redirect=302,http://elsewhere/a"},
		{"auth=staff", "match=segment auth=staff"},
		{"allow=ip:10.1.2.3/8,ip:fe80::1", "match=segment allow=ip:10.0.0.0/8,ip:fe80::1/128"},
		{"deny=ip:::ffff:10.0.0.1", "match=segment deny=ip:10.0.0.1/32"},
		{"deny=ip:10.0.0.1 match=exact", "match=exact deny=ip:10.0.0.1/32"},
		{"register=web-2", "register=web-2"},
		{"strategy=hash", "strategy=hash sticky=ip"},
		{"sticky=header:X-User", "strategy=hash sticky=header:X-User"},
		{"sticky=cookie strategy=rr", "strategy=rr sticky=cookie"},
		{"timeout=1500ms retry=0 maxconn=10", "timeout=1.5s retry=0 maxconn=10"},
		{"hedge=50ms timeout=1s", "timeout=1s hedge=50ms"},
		{"dc=dc2,dc1", "dc=dc2,dc1"},
	}
	for _, test := range tests {
		route, err := parse("urlprefix-/a/b " + test.options)
		if want := strings.TrimSpace("/a/b " + test.want); err != nil || route.String() != want {
			t.Errorf("options %q = %q, %v; want %q", test.options, route, err, want)
		}
	}
}

func TestRefusalNamesTheOptionAndWhatWasExpected(t *testing.T) {
	tests := []struct{ tag, option, reason string }{
		{"urlprefix-", "", "nothing after the prefix"},
		{"urlprefix- /web", "", "nothing after the prefix"},
		{"urlprefix-web", "", "no path"},
		{"urlprefix-host:99", "", "no path"},
		{"urlprefix-:80/x", "", "empty"},
		{"urlprefix-:0", "", "port"},
		{"urlprefix-:65536", "", "port"},
		{"urlprefix-a:b/", "", "port"},
		{"urlprefix-a..b/", "", "not a host name"},
		{"urlprefix--a/", "", "not a host name"},
		{"urlprefix-a[b/", "", "no pattern"},
		{"urlprefix-{a,{b,c}}/", "", "braces"},
		{"urlprefix-$dc.x/", "", `variable "dc" is unknown`},
		{"urlprefix-${DC.x/", "", "closing brace"},
		{"urlprefix-/web?x=1", "", "match=glob"},
		{"urlprefix-/we%62", "", "decoded"},
		{"urlprefix-/web/../admin", "", "dot segment"},
		{"urlprefix-/web\r\nX: y", "", "control"},
		{"urlprefix-/a/[ match=glob", "", "no pattern"},
		{"urlprefix-/" + strings.Repeat("a", 2000), "", "longer than"},
		{"urlprefix-x/y proto=tcp", "", "without a path"},
		{"urlprefix-/ proto=tcp", "", "server name"},
		{"urlprefix-:99 proto=grpc", "proto", "want tcp"},
		{"urlprefix-:99 strip=/a", "strip", "needs HTTP"},
		{"urlprefix-/a stirp=/a", `"stirp"`, "did you mean strip="},
		{"urlprefix-/a colour=red", `"colour"`, "unknown"},
		{"urlprefix-/a weight=0.1 weight=0.2", "weight", "twice"},
		{"urlprefix-/a weight=2", "weight", "from 0 to 1"},
		{"urlprefix-/a weight=NaN", "weight", "from 0 to 1"},
		{"urlprefix-/a retry=6", "retry", "from 0 to 5"},
		{"urlprefix-/a timeout=0s", "timeout", "duration"},
		{"urlprefix-/a timeout=5", "timeout", "duration"},
		{"urlprefix-/a maxconn=0", "maxconn", "from 1"},
		{"urlprefix-/a strategy=lc", "strategy", "p2c, rr, random, hash, ewma"},
		{"urlprefix-/a proto=ws", "proto", "http, https, tcp, grpc, grpcs"},
		{"urlprefix-/a match=regex", "match", "segment"},
		{"urlprefix-/a dc=a,,b", "dc", "names"},
		{"urlprefix-/a dc=a,a", "dc", "once"},
		{"urlprefix-/a sticky=header:", "sticky", "header:NAME"},
		{"urlprefix-/a sticky=ip strategy=rr", "sticky", "strategy=hash"},
		{"urlprefix-/a strip=/b", "strip", "no path"},
		{"urlprefix-/a strip=a", "strip", "begins with /"},
		{"urlprefix-/a pxyproto=true", "pxyproto", "proto=tcp"},
		{"urlprefix-/a tlsskipverify=true", "tlsskipverify", "proto=https"},
		{"urlprefix-/a tlsskipverify proto=https", "tlsskipverify", "true or false"},
		{"urlprefix-/a proto=https plain=false", "plain", "without the mesh"},
		{"urlprefix-/a redirect=200,/x", "redirect", "301"},
		{"urlprefix-/a redirect=301", "redirect", "URL"},
		{"urlprefix-/a redirect=301,ftp://x/", "redirect", "URL"},
		{"urlprefix-/a redirect=301,/a", "redirect", "back to the same route"},
		{"urlprefix-/a redirect=301,/a?again", "redirect", "back to the same route"},
		{"urlprefix-/a redirect=301,$path", "redirect", "back to the same route"},
		{"urlprefix-X.test:80/a redirect=301,http://x.test/$path", "redirect", "back to the same route"},
		{"urlprefix-x.test/ redirect=301,http://x.test:80", "redirect", "back to the same route"},
		{"urlprefix-/ redirect=301,http://$host$path", "redirect", "back to the same route"},
		{"urlprefix-/a redirect=301,//x/", "redirect", "URL"},
		{"urlprefix-/a redirect=301,https://x/$q", "redirect", "$"},
		{"urlprefix-/a redirect=301,/x timeout=1s", "timeout", "itself"},
		{"urlprefix-/a hedge=2s timeout=1s", "hedge", "less than"},
		{"urlprefix-/a hedge=1s retry=0", "hedge", "retry=0"},
	}
	for _, test := range tests {
		route, err := parse(test.tag)
		var refused *tag.Error
		if !errors.As(err, &refused) || refused.Option != test.option || !strings.Contains(refused.Reason, test.reason) {
			t.Errorf("Parse(%q) = %q, %v; want option %q refused with %q", test.tag, route, err, test.option, test.reason)
		} else if refused.Guards || route.Key != (tag.Key{}) {
			t.Errorf("Parse(%q) guards %q, and nothing asked for that", test.tag, route)
		}
	}
	if _, err := parse("v1"); !errors.Is(err, tag.ErrNotRoute) {
		t.Errorf("a tag without the prefix: %v, want ErrNotRoute", err)
	}
}

func TestARefusedTagThatWasMeantAsAGuardKeepsItsRoute(t *testing.T) {
	for _, options := range []string{
		"allow=10.0.0.0/8", "allow=ip:10.0.0.0/33", "allow=ip:10.0.0.1,", "allow=", "allow", "deny=ip:x", "deny=ip:fe80::1%eth0",
		"auth=", "auth=a,b", "alow=ip:10.0.0.0/8", "Allow=ip:10.0.0.0/8", "auht=x", "denny=ip:10.0.0.1",
		"allow=ip:10.0.0.0/8 deny=ip:10.0.0.1", "allow=ip:10.0.0.0/8 colour=red", "colour=red allow=ip:10.0.0.0/8",
		"deny=ip:::ffff:0:0/90", "allow=ip:10.0.0.0/8 allow=ip:0.0.0.0/0", "allow=ip:10.0.0.0/8 match=no",
	} {
		route, err := parse("urlprefix-x/admin " + options)
		var refused *tag.Error
		want := tag.Key{Host: "x", Path: "/admin", Match: tag.Segment}
		if !errors.As(err, &refused) || !refused.Guards || route.Key != want {
			t.Errorf("options %q: %+v, %v; want the route to be known and guarded", options, route.Key, err)
		}
	}
	route, err := parse("urlprefix-/admin match=prefix auth=x")
	var refused *tag.Error
	if !errors.As(err, &refused) || refused.Option != "match" || !refused.Guards || route.Path != "/admin" {
		t.Errorf("a guard by plain prefix: %+v, %v; want it refused", route, err)
	}
	if route, err := parse("urlprefix-/admin/ match=prefix auth=x"); err != nil || route.Match != tag.Prefix {
		t.Errorf("a guard by plain prefix that ends in /: %+v, %v", route, err)
	}
}

func TestATagThatIsTooLongToBeReadStillGuards(t *testing.T) {
	list := "allow=ip:10.0.0.1" + strings.Repeat(",ip:10.0.0.1", 100)
	for text, guards := range map[string]bool{
		"urlprefix-x/admin " + list:                                      true,
		"urlprefix-x/admin weight=0.5 " + list + " auth=staff":           true,
		"urlprefix-x/admin " + list + ",10.0.0.2":                        true,
		"urlprefix-x/admin dc=a" + strings.Repeat(",a", 600) + " auth=x": true,
		"urlprefix-x/admin dc=a" + strings.Repeat(",a", 600):             false,
	} {
		route, err := parse(text)
		want := tag.Key{}
		if guards {
			want = tag.Key{Host: "x", Path: "/admin", Match: tag.Segment}
		}
		var refused *tag.Error
		if !errors.As(err, &refused) || refused.Guards != guards || !strings.Contains(refused.Reason, "longer") || route.Key != want {
			t.Errorf("Parse(%.60q of %d bytes) = %+v, %v; want it refused, and guards %t", text, len(text), route.Key, err, guards)
		}
	}
}

func TestAdmits(t *testing.T) {
	tests := []struct {
		options, addr string
		want          bool
	}{
		{"", "192.0.2.1", true},
		{"", "", true},
		{"allow=ip:10.0.0.0/8", "10.1.1.1", true},
		{"allow=ip:10.0.0.0/8", "::ffff:10.1.1.1", true},
		{"allow=ip:10.0.0.0/8", "11.1.1.1", false},
		{"allow=ip:10.0.0.0/8", "fe80::1", false},
		{"allow=ip:10.0.0.0/8", "", false},
		{"deny=ip:10.0.0.0/8", "10.1.1.1", false},
		{"deny=ip:10.0.0.0/8", "::ffff:10.1.1.1", false},
		{"deny=ip:10.0.0.0/8", "11.1.1.1", true},
		{"deny=ip:10.0.0.0/8", "", false},
		{"deny=ip:fe80::/10", "fe80::1%eth0", false},
		{"deny=ip:10.0.0.1,ip:10.0.0.2", "10.0.0.2", false},
		{"deny=ip:0.0.0.0/0", "fe80::1", true},
		{"auth=x", "10.0.0.1", true},
	}
	for _, test := range tests {
		route, err := parse("urlprefix-/ " + test.options)
		addr, _ := netip.ParseAddr(test.addr)
		if err != nil || route.Options.Admits(addr) != test.want {
			t.Errorf("%q admits %q: want %v (%v)", test.options, test.addr, test.want, err)
		}
	}
}

func TestPattern(t *testing.T) {
	tests := []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"*", "a/b", true},
		{"a*c", "abc", true},
		{"a*c", "ac", true},
		{"a*c", "acb", false},
		{"a*b*c", "axbxbxc", true},
		{"?", "", false},
		{"?", "a", true},
		{"a?c", "ac", false},
		{"[a-c]x", "bx", true},
		{"[a-c]x", "dx", false},
		{"[!a-c]x", "dx", true},
		{"[a-]x", "-x", true},
		{"[abc]", "c", true},
		{"{a,bc}d", "bcd", true},
		{"{a,bc}d", "abcd", false},
		{"{,x}y", "y", true},
		{"/{a,b}/{c,d}", "/b/c", true},
		{"**a", "xa", true},
		{"*a*a*a*a*a*b", strings.Repeat("a", 300), false},
	}
	for _, test := range tests {
		p, err := tag.Compile(test.pattern)
		if err != nil || p.Match(test.text) != test.want {
			t.Errorf("%q matches %q: want %v (%v)", test.pattern, test.text, test.want, err)
		}
	}
	if p, _ := tag.Compile("a[a-z]"); !p.MatchLower("AB") || p.Match("AB") || p.Literal() != 1 {
		t.Error("MatchLower takes capitals, Match does not, and one byte is literal")
	}
	for _, bad := range []string{"[", "]", "[]", "[!]", "[[]", "[*]", "{", "}", "{a{b}}", "{[a}]", strings.Repeat("{a,b}", 6), strings.Repeat("*", 600)} {
		if _, err := tag.Compile(bad); err == nil {
			t.Errorf("Compile(%q) accepts it", bad)
		}
	}
}

func TestSplitPort(t *testing.T) {
	for host, want := range map[string][2]string{
		"": {"", ""}, "a": {"a", ""}, "a:1": {"a", "1"}, "a:": {"a", ""}, "a:x": {"a:x", ""}, "[::1]": {"[::1]", ""},
		"[::1]:9": {"[::1]", "9"}, "12": {"12", ""}, ":12": {"", "12"},
	} {
		if name, port := tag.SplitPort(host); name != want[0] || port != want[1] {
			t.Errorf("SplitPort(%q) = %q, %q, want %q", host, name, port, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"urlprefix-/web", "urlprefix-h:80/p proto=http", "urlprefix-*/", "urlprefix-/a/../b", "x", "urlprefix-:1 pxyproto=true",
		"urlprefix-$DC.x/ allow=ip:10.0.0.0/8 auth=a match=glob", "urlprefix-{a,b}[c]?/x*y match=glob strip=/x retry=3 hedge=2ms sticky=header:a",
		"urlprefix-x proto=tcp dc=a,b maxconn=3", "urlprefix-/ redirect=301,https://$host$path", "urlprefix-/a alow=x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		route, err := parse(text)
		var refused *tag.Error
		if err != nil {
			if !errors.Is(err, tag.ErrNotRoute) && !errors.As(err, &refused) {
				t.Fatalf("Parse(%q): %v is neither of the two errors", text, err)
			}
			if (refused != nil && refused.Guards) != (route.Key != tag.Key{}) {
				t.Fatalf("Parse(%q) = %q, %v: a key comes with a guard and only with it", text, route, err)
			}
			return
		}
		if route.Kind == tag.HTTP && !strings.HasPrefix(route.Path, "/") || strings.ContainsAny(route.Host+route.Path, " \t\r\n#") || tag.HasDotSegment(route.Path) {
			t.Fatalf("Parse(%q) lets through %q", text, route)
		}
		if route.Options.Guarded() && route.Match == tag.Prefix && route.Kind == tag.HTTP && !strings.HasSuffix(route.Path, "/") {
			t.Fatalf("Parse(%q) = %q guards by plain prefix", text, route)
		}
		again, err := parse(tag.DefaultPrefix + route.String())
		if err != nil || again.Key != route.Key || !again.Options.Equal(&route.Options) {
			t.Fatalf("Parse(%q) = %q, which parses as %q, %v", text, route, again, err)
		}
	})
}

func FuzzPattern(f *testing.F) {
	f.Add("a*b?[c-e]{x,y}", "aabbdx")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		p, err := tag.Compile(pattern)
		if err != nil || strings.ContainsAny(pattern, "[]{}") || strings.Count(pattern, "*") > 4 || len(text) > 20 {
			return
		}
		if got, want := p.Match(text), obvious(pattern, text); got != want {
			t.Fatalf("%q matches %q: %v, want %v", pattern, text, got, want)
		}
	})
}

// obvious is the definition of * and ?.
func obvious(pattern, text string) bool {
	switch {
	case pattern == "":
		return text == ""
	case pattern[0] == '*':
		return obvious(pattern[1:], text) || text != "" && obvious(pattern, text[1:])
	case text == "":
		return false
	}
	return (pattern[0] == '?' || pattern[0] == text[0]) && obvious(pattern[1:], text[1:])
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parse("urlprefix-example.com/shop/1 strip=/shop weight=0.2 allow=ip:10.0.0.0/8"); err != nil {
			b.Fatal(err)
		}
	}
}

func TestADefaultMatchHoldsWhereTheTagDoesNotSay(t *testing.T) {
	strict := tag.NewParser("", "").Matching(tag.Segment)
	for text, want := range map[string]tag.Match{
		"urlprefix-/a": tag.Segment, "urlprefix-/a match=prefix": tag.Prefix, "urlprefix-/a match=exact": tag.Exact,
	} {
		r, err := strict.Parse(text)
		if err != nil || r.Match != want {
			t.Errorf("%s: %v, %v; want %v", text, r.Match, err, want)
		}
	}
}
