package tcp_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"sluice/gateway/tcp"
)

// hello returns the bytes of crypto/tls's hello for a server name.
func hello(t testing.TB, name string) []byte {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(client, &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"h2"}}).Handshake()
	}()
	buffer := make([]byte, 16<<10)
	n, err := server.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	_ = server.Close()
	<-done
	return buffer[:n]
}

// record wraps a handshake message.
func record(fragment string) string {
	return "\x16\x03\x01" + string(binary.BigEndian.AppendUint16(nil, uint16(len(fragment)))) + fragment
}

// message builds a hello from its extensions.
func message(extensions string) string {
	body := "\x03\x03" + strings.Repeat("r", 32) + "\x00" + "\x00\x02\x13\x01" + "\x01\x00" +
		string(binary.BigEndian.AppendUint16(nil, uint16(len(extensions)))) + extensions
	return "\x01\x00" + string(binary.BigEndian.AppendUint16(nil, uint16(len(body)))) + body
}

// sni builds the extension server_name.
func sni(entries ...string) string {
	list := ""
	for _, name := range entries {
		list += "\x00" + string(binary.BigEndian.AppendUint16(nil, uint16(len(name)))) + name
	}
	return extension(0, string(binary.BigEndian.AppendUint16(nil, uint16(len(list))))+list)
}

func extension(kind uint16, value string) string {
	head := binary.BigEndian.AppendUint16(nil, kind)
	return string(binary.BigEndian.AppendUint16(head, uint16(len(value)))) + value
}

func TestServerNameOfAHello(t *testing.T) {
	long := strings.Repeat("a", 63) + "." + strings.Repeat("b", 63)
	split := message(sni("a.example"))
	tests := []struct{ name, data, want string }{
		{"crypto/tls", string(hello(t, "Web.Example")), "web.example"},
		{"crypto/tls without a name", string(hello(t, "")), ""},
		{"name", record(message(sni("a.example"))), "a.example"},
		{"underscore", record(message(sni("_a.example"))), "_a.example"},
		{"long labels", record(message(sni(long))), long},
		{"behind others", record(message(extension(16, "x") + extension(0xfafa, "") + sni("a.example"))), "a.example"},
		{"in two records", record(split[:7]) + record(split[7:]), "a.example"},
		{"in records of one byte", record(split[:1]) + record(split[1:2]) + record(split[2:3]) + record(split[3:]), "a.example"},
		{"more records follow", record(message(sni("a.example"))) + "\x17\x03\x03\x00\x01x", "a.example"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, want, err := tcp.ParseHello([]byte(test.data))
			if err != nil || want != 0 || got != test.want {
				t.Errorf("got %q, want more %d, %v", got, want, err)
			}
		})
	}
}

func TestBeginningOfAHelloAsksForNoByteBehindIt(t *testing.T) {
	split := message(sni("a.example"))
	for _, whole := range []string{string(hello(t, "web.example")), record(split[:20]) + record(split[20:])} {
		for n := range len(whole) {
			_, want, err := tcp.ParseHello([]byte(whole[:n]))
			if err != nil || want <= 0 || n+want > len(whole) {
				t.Fatalf("after %d of %d bytes it wants %d, %v", n, len(whole), want, err)
			}
		}
	}
}

func TestWhatIsNotExactlyAHelloIsRefused(t *testing.T) {
	good := message(sni("a.example"))
	tests := []struct{ name, data string }{
		{"HTTP", "GET / HTTP/1.1\r\n"},
		{"SSLv2", "\x80\x2e\x01\x03\x01"},
		{"record of application data", "\x17" + record(good)[1:]},
		{"record version", "\x16\x02" + record(good)[2:]},
		{"empty record", record("") + record(good)},
		{"record too long", "\x16\x03\x01\x40\x00"},
		{"server hello", record("\x02" + good[1:])},
		{"message too long", record("\x01\x00\x40\x00")},
		{"message of 16 MiB", record("\x01\xff\xff\xff")},
		{"something behind it", record(good + "\x01")},
		{"cut off inside", record("\x01\x00\x00\x02\x03\x03")},
		{"bytes behind the extensions", record("\x01\x00" + string(binary.BigEndian.AppendUint16(nil, uint16(len(good)-3))) + good[4:] + "x")},
		{"too many records", strings.Repeat(record("\x01"), 1) + strings.Repeat(record("\x00"), 16)},
		{"extension cut off", record(message("\x00\x00\x00\x05\x00"))},
		{"extension twice", record(message(extension(16, "") + extension(16, "")))},
		{"two names", record(message(sni("a.example", "b.example")))},
		{"no names", record(message(sni()))},
		{"empty name", record(message(sni("")))},
		{"dot at the end", record(message(sni("a.example.")))},
		{"NUL", record(message(sni("a.example\x00.b")))},
		{"blank", record(message(sni("a example")))},
		{"address", record(message(sni("192.0.2.1")))},
		{"IPv6 address", record(message(sni("2001:db8::1")))},
		{"label too long", record(message(sni(strings.Repeat("a", 64))))},
		{"name too long", record(message(sni(strings.Repeat("a.", 127) + "a")))},
		{"not ASCII", record(message(sni("ä.example")))},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if name, want, err := tcp.ParseHello([]byte(test.data)); !errors.Is(err, tcp.ErrMalformed) {
				t.Errorf("got %q, want more %d, %v", name, want, err)
			}
		})
	}
}

// canned is a connection on which data has come and then the end.
type canned struct {
	net.Conn
	data io.Reader
}

func (c canned) Read(p []byte) (int, error)     { return c.data.Read(p) }
func (canned) Write(p []byte) (int, error)      { return len(p), nil }
func (canned) SetWriteDeadline(time.Time) error { return nil }

// theirs returns the server name as crypto/tls understands it.
func theirs(data []byte) (name string, ok bool) {
	_ = tls.Server(canned{data: bytes.NewReader(data)}, &tls.Config{
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			name, ok = info.ServerName, true
			return nil, errors.New("enough")
		},
	}).Handshake()
	return name, ok
}

// Whatever we take for a hello, crypto/tls reads the same name from, unless it
// finds fault with what we do not look at.
func FuzzParseHello(f *testing.F) {
	if name, ok := theirs(hello(f, "web.example")); name != "web.example" || !ok {
		f.Fatalf("crypto/tls reads %q", name)
	}
	f.Add(hello(f, "web.example"))
	f.Add(hello(f, ""))
	split := message(sni("a.example"))
	f.Add([]byte(record(split[:9]) + record(split[9:])))
	f.Add([]byte(record(message(extension(16, "\x00\x03\x02h2") + sni("b")))))
	f.Fuzz(func(t *testing.T, data []byte) {
		name, want, err := tcp.ParseHello(data)
		if err != nil {
			return
		}
		if want > 0 {
			if len(data)+want > tcp.MaxHello+5 {
				t.Errorf("wants %d bytes after %d", want, len(data))
			}
			return
		}
		if other, ok := theirs(data); ok && !strings.EqualFold(other, name) {
			t.Errorf("we read %q, crypto/tls reads %q", name, other)
		}
	})
}

func BenchmarkParseHello(b *testing.B) {
	data := hello(b, "web.example")
	b.ReportAllocs()
	for b.Loop() {
		if name, _, err := tcp.ParseHello(data); name != "web.example" || err != nil {
			b.Fatal(name, err)
		}
	}
}
