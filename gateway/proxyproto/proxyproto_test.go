package proxyproto_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sluice/gateway/proxyproto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const signature = "\r\n\r\n\x00\r\nQUIT\n"

// v2 builds a header of version 2 from its byte of command, its family and what
// follows.
func v2(command, family byte, rest string) string {
	head := append([]byte(signature), command, family)
	return string(binary.BigEndian.AppendUint16(head, uint16(len(rest)))) + rest
}

// withChecksum adds a CRC-32C, with delta added to what is right.
func withChecksum(header string, delta uint32) string {
	b := []byte(header + "\x03\x00\x04\x00\x00\x00\x00")
	binary.BigEndian.PutUint16(b[14:], uint16(len(b)-16))
	sum := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(b[len(b)-4:], sum+delta)
	return string(b)
}

const (
	ends4 = "\xc0\x00\x02\x01\xc6\x33\x64\x01\x12\x34\x01\xbb" // 192.0.2.1:4660 -> 198.51.100.1:443
	ends6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x12\x34\x01\xbb"
)

func TestHeadersOfBothVersionsNameTheClient(t *testing.T) {
	const four, six = "192.0.2.1:4660 198.51.100.1:443", "[2001:db8::1]:4660 [2001:db8::2]:443"
	tests := []struct{ name, header, want string }{
		{"TCP4", "PROXY TCP4 192.0.2.1 198.51.100.1 4660 443\r\n", four},
		{"shortest TCP4", "PROXY TCP4 1.1.1.1 2.2.2.2 0 1\r\n", "1.1.1.1:0 2.2.2.2:1"},
		{
			"longest", "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe 65535 65535\r\n",
			"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535 [ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535",
		},
		{"shortest TCP6", "PROXY TCP6 :: ::1 0 1\r\n", "[::]:0 [::1]:1"},
		{"TCP6", "PROXY TCP6 2001:db8::1 2001:db8::2 4660 443\r\n", six},
		{"mapped", "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.1 4660 443\r\n", four},
		{"UNKNOWN", "PROXY UNKNOWN\r\n", ""},
		{"UNKNOWN with more", "PROXY UNKNOWN ffff:f...f:ffff ffff 65535 65535\r\n", ""},
		{"v2 TCP4", v2(0x21, 0x11, ends4), four},
		{"v2 TCP6", v2(0x21, 0x21, ends6), six},
		{"v2 LOCAL", v2(0x20, 0x00, ""), ""},
		{"v2 LOCAL of a family that is none", v2(0x20, 0xff, "xyz"), ""},
		{"v2 LOCAL with addresses that are cut off", v2(0x20, 0x21, ends4), ""},
		{"v2 LOCAL with addresses", v2(0x20, 0x11, ends4), ""},
		{"v2 unspecified", v2(0x21, 0x00, ""), ""},
		{"v2 unix", v2(0x21, 0x31, strings.Repeat("\x00", 216)), ""},
		{"v2 items", v2(0x21, 0x11, ends4+"\x02\x00\x03abc\x04\x00\x00"), four},
		{"v2 checksum", withChecksum(v2(0x21, 0x11, ends4), 0), four},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, reader := range []io.Reader{
				strings.NewReader(test.header + "GET /"),
				iotest.OneByteReader(strings.NewReader(test.header + "GET /")),
			} {
				header, err := proxyproto.Read(reader)
				got := ""
				if header.Client.IsValid() {
					got = header.Client.String() + " " + header.Server.String()
				}
				if err != nil || got != test.want {
					t.Errorf("got %q, %v, want %q", got, err, test.want)
				}
				if rest, _ := io.ReadAll(reader); string(rest) != "GET /" {
					t.Errorf("behind the header is %q", rest)
				}
			}
		})
	}
}

func TestWhatIsNotExactlyAHeaderIsRefused(t *testing.T) {
	tests := []struct{ name, data string }{
		{"HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"lower case", "proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n"},
		{"blank first", " PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n"},
		{"two blanks", "PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n"},
		{"blank at the end", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n"},
		{"tab", "PROXY TCP4\t1.1.1.1 2.2.2.2 1 2\r\n"},
		{"LF alone", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n\r\n"},
		{"CR inside", "PROXY TCP4 1.1.1.1\r2.2.2.2 1 2\r\n"},
		{"UDP4", "PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n"},
		{"one port", "PROXY TCP4 192.168.111.111 2.2.2.2 1\r\n"},
		{"three ports", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n"},
		{"family does not fit", "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n"},
		{"other family does not fit", "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n"},
		{"leading zero in an address", "PROXY TCP4 1.1.1.01 2.2.2.2 1 2\r\n"},
		{"leading zero in a port", "PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n"},
		{"sign", "PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n"},
		{"port too large", "PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n"},
		{"empty port", "PROXY TCP4 192.168.1.1 2.2.2.2 1 \r\n"},
		{"zone", "PROXY TCP6 fe80::1%a fe80::2 1 2\r\n"},
		{"too long", "PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n"},
		{"no end", "PROXY UNKNOWN " + strings.Repeat("x", 200)},
		{"v2 version 1", v2(0x11, 0x11, ends4)},
		{"v2 command 2", v2(0x22, 0x11, ends4)},
		{"v2 UDP", v2(0x21, 0x12, ends4)},
		{"v2 unknown family", v2(0x21, 0x41, ends4)},
		{"v2 too short for addresses", v2(0x21, 0x11, ends4[:11])},
		{"v2 item cut off", v2(0x21, 0x11, ends4+"\x02\x00")},
		{"v2 item too long", v2(0x21, 0x11, ends4+"\x02\x00\x04abc")},
		{"v2 wrong checksum", withChecksum(v2(0x21, 0x11, ends4), 1)},
		{"v2 short checksum", v2(0x21, 0x11, ends4+"\x03\x00\x01x")},
		{"v2 too long", v2(0x21, 0x11, ends4+"\x02\x08\x00"+strings.Repeat("x", 2048))},
		{"v2 damaged signature", strings.Replace(v2(0x21, 0x11, ends4), "QUIT", "QUIP", 1)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if header, err := proxyproto.Read(strings.NewReader(test.data)); !errors.Is(err, proxyproto.ErrMalformed) {
				t.Errorf("got %+v, %v", header, err)
			}
		})
	}
}

func TestHeaderThatEndsEarlyIsAnError(t *testing.T) {
	for _, whole := range []string{"PROXY TCP4 192.0.2.1 198.51.100.1 4660 443\r\n", v2(0x21, 0x11, ends4)} {
		for n := range len(whole) {
			if _, err := proxyproto.Read(strings.NewReader(whole[:n])); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%q: %v", whole[:n], err)
			}
		}
	}
}

func TestWhatIsAppendedIsReadBack(t *testing.T) {
	tests := []struct{ client, server, want string }{
		{"192.0.2.1:4660", "198.51.100.1:443", "PROXY TCP4 192.0.2.1 198.51.100.1 4660 443\r\n"},
		{"[::ffff:192.0.2.1]:1", "198.51.100.1:2", "PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\n"},
		{"[2001:db8::1]:1", "[2001:db8::2]:2", "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"},
		{"[fe80::1%eth0]:1", "[fe80::2]:2", "PROXY TCP6 fe80::1 fe80::2 1 2\r\n"},
		{"192.0.2.1:1", "[2001:db8::2]:2", "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n"},
	}
	for _, test := range tests {
		client, server := netip.MustParseAddrPort(test.client), netip.MustParseAddrPort(test.server)
		line := proxyproto.Append([]byte("x"), client, server)
		if string(line) != "x"+test.want {
			t.Errorf("got %q, want %q", line, test.want)
		}
		if header, err := proxyproto.Read(bytes.NewReader(line[1:])); err != nil || header.Client.Port() != client.Port() {
			t.Errorf("%q was read as %+v, %v", line, header, err)
		}
	}
	if line := proxyproto.Append(nil, netip.AddrPort{}, netip.MustParseAddrPort("1.1.1.1:1")); string(line) != "PROXY UNKNOWN\r\n" {
		t.Errorf("got %q", line)
	}
}

// listen starts a Listener that trusts 127.0.0.1 only if trusted.
func listen(t *testing.T, trusted bool, cfg proxyproto.Config) (l *proxyproto.Listener, dial func(send string) net.Conn) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Trusted = func(addr netip.Addr) bool { return trusted && addr.IsLoopback() }
	l = proxyproto.Listen(inner, cfg)
	t.Cleanup(func() { _ = l.Close() })
	return l, func(send string) net.Conn {
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, send); err != nil {
			t.Fatal(err)
		}
		return conn
	}
}

func TestTrustedHeaderGivesTheConnectionItsAddresses(t *testing.T) {
	l, dial := listen(t, true, proxyproto.Config{})
	dial("PROXY TCP4 192.0.2.1 198.51.100.1 4660 443\r\nhello")
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.RemoteAddr().String() + " " + conn.LocalAddr().String(); got != "192.0.2.1:4660 198.51.100.1:443" {
		t.Errorf("addresses %s", got)
	}
	buffer := make([]byte, 5)
	if _, err := io.ReadFull(conn, buffer); err != nil || string(buffer) != "hello" {
		t.Errorf("read %q, %v", buffer, err)
	}
	if got := l.Counters(); got != (proxyproto.Counters{Accepted: 1}) {
		t.Errorf("counters %+v", got)
	}
}

func TestHeaderOfAnAddressThatIsNotTrustedIsPayload(t *testing.T) {
	l, dial := listen(t, false, proxyproto.Config{})
	client := dial("PROXY TCP4 192.0.2.1 198.51.100.1 4660 443\r\n")
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.RemoteAddr().String() != client.LocalAddr().String() {
		t.Errorf("the client is %s", conn.RemoteAddr())
	}
	buffer := make([]byte, 6)
	if _, err := io.ReadFull(conn, buffer); err != nil || string(buffer) != "PROXY " {
		t.Errorf("read %q, %v", buffer, err)
	}
}

func TestConnectionWithoutAHeaderIsClosedAndHoldsNobodyUp(t *testing.T) {
	l, dial := listen(t, true, proxyproto.Config{Timeout: time.Minute, Pending: 2})
	silent := dial("")
	wrong := dial("GET / HTTP/1.1\r\n\r\n")
	if n, err := wrong.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("a client without a header got an answer")
	}
	dial("PROXY UNKNOWN\r\n")
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	dial("P") // the second that may wait
	for l.Counters().Overflow == 0 {
		third := dial("P")
		_ = third.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		_, _ = third.Read(make([]byte, 1))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := silent.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlived its listener")
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
}

// pipes is a listener of connections that are made in memory.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}
func (p pipes) Close() error { close(p); return nil }
func (pipes) Addr() net.Addr { return &net.TCPAddr{} }

type piped struct{ net.Conn }

func (piped) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func TestSlowHeaderIsCutAtItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := make(pipes)
		l := proxyproto.Listen(inner, proxyproto.Config{
			Trusted: func(netip.Addr) bool { return true }, Timeout: time.Second,
		})
		client, server := net.Pipe()
		begin := time.Now()
		inner <- piped{server}
		for i := range 20 {
			if _, err := io.WriteString(client, "PROXY UNKNOWN xxxxxxxxxxx"[i:i+1]); err != nil {
				break
			}
			time.Sleep(300 * time.Millisecond) // virtual
		}
		if took := time.Since(begin); took != 1200*time.Millisecond {
			t.Errorf("a byte was taken until %s after the start", took)
		}
		if l.Counters().Refused != 1 {
			t.Errorf("counters %+v", l.Counters())
		}
		_ = l.Close()
	})
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"PROXY TCP4 192.0.2.1 198.51.100.1 4660 443\r\n", "PROXY UNKNOWN x\r\n", "PROXY TCP6 ::1 ::2 1 2\r\nGET",
		v2(0x21, 0x11, ends4), v2(0x20, 0, ""), withChecksum(v2(0x21, 0x21, ends6+"\x02\x00\x01a"), 0),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		header, n, want, err := proxyproto.Parse(data)
		if err != nil {
			return
		}
		if want > 0 {
			if len(data)+want > proxyproto.MaxV2 {
				t.Errorf("wants %d bytes after %d", want, len(data))
			}
			return
		}
		// A header is read the same whatever comes after it, and none of its
		// beginnings is one.
		again, _, _, err := proxyproto.Parse(data[:n])
		if err != nil || again != header {
			t.Errorf("alone it is %+v, %v; before it was %+v", again, err, header)
		}
		if _, _, want, err := proxyproto.Parse(data[:n-1]); want == 0 || err != nil {
			t.Errorf("without its last byte: want %d, %v", want, err)
		}
		if header.Client.IsValid() {
			line := proxyproto.Append(nil, header.Client, header.Server)
			back, _, _, err := proxyproto.Parse(line)
			if err != nil || back.Client != header.Client || back.Server != header.Server {
				t.Errorf("%q is read back as %+v, %v", line, back, err)
			}
		}
	})
}

func BenchmarkReadV1(b *testing.B) {
	line := []byte("PROXY TCP4 192.0.2.1 198.51.100.1 4660 443\r\n")
	reader := bytes.NewReader(line)
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(line)
		if _, err := proxyproto.Read(reader); err != nil {
			b.Fatal(err)
		}
	}
}
