package vitals

import (
	"encoding/binary"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestANameMayHoldWhateverItLikes(t *testing.T) {
	const rest = " 1 1 1 0 -1 4194560"
	cases := []struct {
		line string
		want stat
		ok   bool
	}{
		{"42 (mongod) S" + rest, stat{42, "mongod", 'S'}, true},
		{"42 (mongod) T\n", stat{42, "mongod", 'T'}, true},
		{"42 (mongod) t", stat{42, "mongod", 't'}, true},
		{"42 (a b) R" + rest, stat{42, "a b", 'R'}, true},
		{"42 (a) T 1 (b) D" + rest, stat{42, "a) T 1 (b", 'D'}, true},
		{"42 ()) Z" + rest, stat{42, ")", 'Z'}, true},
		{"42 (() I" + rest, stat{42, "(", 'I'}, true},
		{"42 () S" + rest, stat{42, "", 'S'}, true},
		{"42 (a\nb) S" + rest, stat{42, "a\nb", 'S'}, true},
		{"", stat{}, false},
		{"42 (mongod", stat{}, false},
		{"42 (mongod)", stat{}, false},
		{"42 (mongod) ", stat{}, false},
		{"42 (mongod)S 1", stat{}, false},
		{"42 (mongod) SS", stat{}, false},
		{"42 (mongod) 5 1", stat{}, false},
		{"42 )mongod( S 1", stat{}, false},
		{"x (mongod) S 1", stat{}, false},
		{"-1 (mongod) S 1", stat{}, false},
		{"(mongod) S 1", stat{}, false},
	}
	for _, c := range cases {
		got, err := parseStat([]byte(c.line))
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%q is %+v, %v; want %+v, ok %v", c.line, got, err, c.want, c.ok)
		}
	}
}

func TestBothKindsOfContextSwitchesCount(t *testing.T) {
	cases := []struct {
		text string
		want uint64
		ok   bool
	}{
		{"Name:\tx\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t30\n", 42, true},
		{"voluntary_ctxt_switches:\t12\n", 0, false},
		{"voluntary_ctxt_switches:\tmany\nnonvoluntary_ctxt_switches:\t30\n", 0, false},
		{"", 0, false},
	}
	for _, c := range cases {
		if got, err := parseSwitches([]byte(c.text)); got != c.want || (err == nil) != c.ok {
			t.Errorf("%q is %d, %v; want %d, ok %v", c.text, got, err, c.want, c.ok)
		}
	}
}

const heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

func TestListenersAreReadAndOtherSocketsAreNot(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the tables below are those of a little-endian machine")
	}
	row := func(local, state, inode string) string {
		return "   0: " + local + " 00000000:0000 " + state + " 00000000:00000000 00:00000000 00000000     0        0 " + inode + " 1 00000000fb741caf 100 0 0 10 0\n"
	}
	at := func(address string, inode uint64) listener { return listener{netip.MustParseAddrPort(address), inode} }
	cases := []struct {
		name, table string
		want        []listener
		ok          bool
	}{
		{"v4", heading + row("020A007F:6989", "0A", "77"), []listener{at("127.0.10.2:27017", 77)}, true},
		{"v6 loopback", heading + row("00000000000000000000000001000000:6989", "0A", "78"), []listener{at("[::1]:27017", 78)}, true},
		{"v6 global", heading + row("B80D0120000000000000000002000000:6989", "0A", "78"), []listener{at("[2001:db8::2]:27017", 78)}, true},
		{"v4 in v6", heading + row("0000000000000000FFFF00000100007F:6989", "0A", "79"), []listener{at("127.0.0.1:27017", 79)}, true},
		{"every address", heading + row("00000000:0050", "0A", "80"), []listener{at("0.0.0.0:80", 80)}, true},
		{"established", heading + row("0100007F:6989", "01", "77"), nil, true},
		{"time-wait, short", heading + "1: 020200C0:DDBA 507100CB:01BB 06 0 03:1 0 0 0 0 3 0\n", nil, true},
		{"two", heading + row("0100007F:6989", "0A", "1") + row("0100007F:698A", "0A", "2"), []listener{at("127.0.0.1:27017", 1), at("127.0.0.1:27018", 2)}, true},
		{"cut off", heading + "   0: 0100007F:6989 00000000:0000 0A", nil, true},
		{"empty", "", nil, true},
		{"no address", heading + row("0100007:6989", "0A", "77"), nil, false},
		{"no port", heading + row("0100007F", "0A", "77"), nil, false},
		{"no inode", heading + row("0100007F:6989", "0A", "x"), nil, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseListeners(c.table)
			if !slices.Equal(got, c.want) || (err == nil) != c.ok {
				t.Errorf("%v, %v; want %v, ok %v", got, err, c.want, c.ok)
			}
		})
	}
}

func TestAConnectionReachesTheListenerBoundToItsAddressFirst(t *testing.T) {
	at := func(address string, inode uint64) listener { return listener{netip.MustParseAddrPort(address), inode} }
	all := []listener{at("0.0.0.0:80", 1), at("127.0.10.2:80", 2), at("127.0.10.3:80", 3), at("127.0.10.2:81", 4)}
	cases := []struct {
		address string
		want    uint64
		found   bool
	}{
		{"127.0.10.2:80", 2, true},
		{"[::ffff:127.0.10.3]:80", 3, true},
		{"127.0.10.9:80", 1, true},
		{"127.0.10.3:81", 0, false},
	}
	for _, c := range cases {
		if got, found := inodeOf(all, netip.MustParseAddrPort(c.address)); got != c.want || found != c.found {
			t.Errorf("%s is %d, %v; want %d, %v", c.address, got, found, c.want, c.found)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add(42, "mongod", "S 1 2 3")
	f.Add(1, "a) T (b", "D")
	f.Fuzz(func(t *testing.T, id int, name, rest string) {
		_, _ = parseStat([]byte(rest))
		if id <= 0 || strings.Contains(rest, ")") || len(rest) == 0 {
			return
		}
		got, err := parseStat([]byte(strconv.Itoa(id) + " (" + name + ") " + rest))
		if err == nil && got != (stat{id, name, rest[0]}) {
			t.Errorf("id %d, name %q, rest %q are read as %+v", id, name, rest, got)
		}
	})
}

func FuzzParseListeners(f *testing.F) {
	f.Add(heading + "0: 0100007F:6989 00000000:0000 0A 0:0 0:0 0 0 0 77 1\n")
	if text, err := os.ReadFile("/proc/self/net/tcp"); err == nil {
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, table string) {
		found, err := parseListeners(table)
		if err != nil && found != nil {
			t.Errorf("both %v and %v", found, err)
		}
		for _, l := range found {
			if !l.Address.IsValid() || l.Address.Addr().Is4In6() {
				t.Errorf("listener at %v", l.Address)
			}
		}
	})
}

func FuzzParseSwitches(f *testing.F) {
	f.Add("voluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t30\n")
	f.Fuzz(func(_ *testing.T, text string) { _, _ = parseSwitches([]byte(text)) })
}
