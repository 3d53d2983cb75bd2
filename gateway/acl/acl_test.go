package acl_test

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sluice/gateway/acl"
)

func networks(t testing.TB, text string) acl.Networks {
	t.Helper()
	n, err := acl.ParseNetworks(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func TestClientIsTheFirstHopFromTheRightThatIsNotTrusted(t *testing.T) {
	trusted := networks(t, "10.0.0.0/8, fd00::/8")
	tests := []struct {
		name, peer string
		lines      []string
		want       string // "" is unknown
	}{
		{"no header", "10.0.0.1", nil, "10.0.0.1"},
		{"blank header", "10.0.0.1", []string{" "}, "10.0.0.1"},
		{"peer not trusted", "192.0.2.1", []string{"198.51.100.1"}, "192.0.2.1"},
		{"peer not trusted, malformed", "192.0.2.1", []string{"x"}, "192.0.2.1"},
		{"one hop", "10.0.0.1", []string{"198.51.100.1"}, "198.51.100.1"},
		{"forged to the left", "10.0.0.1", []string{"10.9.9.9, 198.51.100.1"}, "198.51.100.1"},
		{"through two", "10.0.0.1", []string{"203.0.113.9, 198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
		{"lines are one list", "10.0.0.1", []string{"203.0.113.9", "198.51.100.1", "10.0.0.2"}, "198.51.100.1"},
		{"all trusted", "10.0.0.1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"mapped peer", "::ffff:10.0.0.1", []string{"198.51.100.1"}, "198.51.100.1"},
		{"mapped entry", "10.0.0.1", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"mapped trusted entry", "10.0.0.1", []string{"198.51.100.1, ::ffff:10.0.0.9"}, "198.51.100.1"},
		{"zone of the peer", "fd00::1%eth0", []string{"2001:db8::1"}, "2001:db8::1"},
		{"port", "10.0.0.1", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		{"brackets", "10.0.0.1", []string{"[2001:db8::1]"}, "2001:db8::1"},
		{"brackets and port", "10.0.0.1", []string{"[2001:db8::1]:4711"}, "2001:db8::1"},
		{"malformed beyond the client", "10.0.0.1", []string{"unknown, 198.51.100.1"}, "198.51.100.1"},
		{"malformed", "10.0.0.1", []string{"198.51.100.1, unknown"}, ""},
		{"empty entry", "10.0.0.1", []string{"198.51.100.1, , 10.0.0.2"}, ""},
		{"comma at the end", "10.0.0.1", []string{"198.51.100.1,"}, ""},
		{"leading zero", "10.0.0.1", []string{"198.051.100.1"}, ""},
		{"zone of an entry", "10.0.0.1", []string{"fe80::1%eth0"}, ""},
		{"name", "10.0.0.1", []string{"localhost"}, ""},
		{"IPv4 in brackets", "10.0.0.1", []string{"[198.51.100.1]"}, ""},
		{"too many trusted hops", "10.0.0.1", []string{"198.51.100.1" + strings.Repeat(", 10.0.0.2", 32)}, ""},
		{"as many as may be", "10.0.0.1", []string{"198.51.100.1" + strings.Repeat(", 10.0.0.2", 31)}, "198.51.100.1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var want netip.Addr
			if test.want != "" {
				want = netip.MustParseAddr(test.want)
			}
			if got := acl.Client(trusted, netip.MustParseAddr(test.peer), test.lines); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// Whatever a client writes into the header, it ends left of what the first
// trusted proxy adds.
func TestNoClientCanChooseItsAddress(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	trusted := networks(t, "10.0.0.0/8")
	own := netip.MustParseAddr("198.51.100.1")
	words := []string{"10.0.0.7", "203.0.113.5", ",", " ", "unknown", "::1", "[", "]", ":80", "\t", "127.0.0.1", ""}
	for range 5000 {
		var lines []string
		for range random.IntN(3) {
			var line strings.Builder
			for range random.IntN(8) {
				line.WriteString(words[random.IntN(len(words))])
			}
			lines = append(lines, line.String())
		}
		if random.IntN(2) == 0 || len(lines) == 0 {
			lines = append(lines, own.String())
		} else {
			lines[len(lines)-1] += ", " + own.String()
		}
		lines = append(lines, "10.0.0.2")
		if got := acl.Client(trusted, netip.MustParseAddr("10.0.0.1"), lines); got != own {
			t.Fatalf("lines %q: client is %s", lines, got)
		}
	}
}

func TestVerdictNamesItsReason(t *testing.T) {
	tests := []struct {
		name        string
		allow, deny []netip.Prefix
		client      string
		allowed     bool
		want        string
	}{
		{"no list", nil, nil, "192.0.2.1", true, "no list restricts clients"},
		{"no list, unknown", nil, nil, "", true, "no list restricts clients"},
		{"allowed", prefixes("192.0.2.0/24"), nil, "192.0.2.1", true, "192.0.2.1 is allowed by 192.0.2.0/24"},
		{"not allowed", prefixes("192.0.2.0/24"), nil, "192.0.3.1", false, "192.0.3.1 is in no allowed network"},
		{"allow, unknown", prefixes("0.0.0.0/0", "::/0"), nil, "", false, "the client's address is unknown"},
		{"denied", nil, prefixes("192.0.2.0/24"), "192.0.2.1", false, "192.0.2.1 is denied by 192.0.2.0/24"},
		{"not denied", nil, prefixes("192.0.2.0/24"), "192.0.3.1", true, "192.0.3.1 is in no denied network"},
		{"deny, unknown", nil, prefixes("192.0.2.0/24"), "", false, "the client's address is unknown"},
		{"deny wins", prefixes("192.0.2.0/24"), prefixes("192.0.2.1/32"), "192.0.2.1", false, "192.0.2.1 is denied by 192.0.2.1/32"},
		{"mapped client", nil, prefixes("192.0.2.0/24"), "::ffff:192.0.2.1", false, "192.0.2.1 is denied by 192.0.2.0/24"},
		{"mapped range", nil, prefixes("::ffff:192.0.2.0/120"), "192.0.2.1", false, "192.0.2.1 is denied by 192.0.2.0/24"},
		{"range with host bits", nil, prefixes("192.0.2.77/24"), "192.0.2.1", false, "192.0.2.1 is denied by 192.0.2.0/24"},
		{"IPv6", prefixes("2001:db8::/32"), nil, "2001:db8::1", true, "2001:db8::1 is allowed by 2001:db8::/32"},
		{"IPv6 with a zone", nil, prefixes("fe80::/10"), "fe80::1%eth0", false, "fe80::1 is denied by fe80::/10"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			list, err := acl.NewList(test.allow, test.deny)
			if err != nil {
				t.Fatal(err)
			}
			var client netip.Addr
			if test.client != "" {
				client = netip.MustParseAddr(test.client)
			}
			got := list.Check(client)
			if got.Allowed() != test.allowed || got.String() != test.want {
				t.Errorf("got %t, %q", got.Allowed(), got)
			}
		})
	}
}

func TestVerdictThatNobodyGaveIsARefusal(t *testing.T) {
	if (acl.Verdict{}).Allowed() {
		t.Error("the zero Verdict lets in")
	}
}

func TestMalformedNetworksAreRefused(t *testing.T) {
	for _, text := range []string{"x", "10.0.0.0/33", "10.0.0.1,", ",", "10.0.0", "::/129", "fe80::1%eth0", "::ffff:0:0/95", "10.0.0.0/8 10.0.0.0/8"} {
		if n, err := acl.ParseNetworks(text); err == nil {
			t.Errorf("%q was read as %q", text, n)
		}
	}
	if _, err := acl.NewList(nil, []netip.Prefix{{}}); err == nil {
		t.Error("an invalid prefix was taken")
	}
	for _, text := range []string{"", " ", "10.0.0.0/8, ::1/128"} {
		if n, err := acl.ParseNetworks(text); err != nil || n.String() != strings.TrimSpace(text) {
			t.Errorf("%q was read as %q, %v", text, n, err)
		}
	}
}

func FuzzClient(f *testing.F) {
	f.Add("198.51.100.1, 10.0.0.2", "10.0.0.3")
	f.Add("[::1]:80,::ffff:1.2.3.4", "")
	trusted := networks(f, "10.0.0.0/8, fd00::/8")
	peer := netip.MustParseAddr("10.0.0.1")
	list, err := acl.NewList(prefixes("0.0.0.0/0", "::/0"), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		client := acl.Client(trusted, peer, []string{first, second})
		if client.Is4In6() || client.Zone() != "" {
			t.Errorf("client %s is not in its plain form", client)
		}
		if list.Check(client).Allowed() != client.IsValid() {
			t.Errorf("client %s: a list that holds every address says %s", client, list.Check(client))
		}
	})
}

func BenchmarkClientBehindTwoProxies(b *testing.B) {
	trusted := networks(b, "10.0.0.0/8, fd00::/8")
	peer := netip.MustParseAddr("10.0.0.1")
	lines := []string{"203.0.113.9, 198.51.100.1, 10.0.0.2"}
	list, err := acl.NewList(nil, prefixes("192.0.2.0/24", "2001:db8::/32"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !list.Check(acl.Client(trusted, peer, lines)).Allowed() {
			b.Fatal("refused")
		}
	}
}
