package h1

import (
	"bytes"
	"strings"
	"testing"
)

func TestEachByteIsInItsClasses(t *testing.T) {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	for i := range 256 {
		c := byte(i)
		in := func(set string) bool { return strings.IndexByte(set, c) >= 0 }
		for class, want := range map[byte]bool{
			token:  in(letters + "!#$%&'*+-.^_`|~"),
			target: c > ' ' && c < 0x7f && c != '#',
			host:   in(letters + "-._~"),
			hex:    in("0123456789abcdefABCDEF"),
			text:   c == '\t' || c >= ' ' && c != 0x7f,
		} {
			if is(c, class) != want {
				t.Errorf("byte %02x in class %d: %v", c, class, !want)
			}
		}
	}
}

func TestTextIsJudgedTheSameEightAtATime(t *testing.T) {
	for length := range 20 {
		for at := range length {
			for c := range 256 {
				for _, around := range []byte{'a', ' ', 0x80, 0xff, '\t', 0x7e} {
					b := bytes.Repeat([]byte{around}, length)
					b[at] = byte(c)
					if validText(b) != all(b, text) {
						t.Fatalf("%q: %v", b, validText(b))
					}
				}
			}
		}
	}
}

func TestNamesAreTheSameInAnyCaseAndNoOtherWay(t *testing.T) {
	names := []string{"x-forwarded-", "http2-settings", "te", "content-length"}
	for _, name := range names {
		for i := range name {
			for c := range 256 {
				other := []byte(strings.ToUpper(name))
				other[i] = byte(c)
				want := strings.EqualFold(string(other), name)
				if got := equalFold(other, name); got != want {
					t.Errorf("equalFold of %q: %v", other, got)
				}
				if got := same(other, name); got != want && is(byte(c), token) {
					t.Errorf("same of %q: %v", other, got)
				}
			}
		}
	}
}

// idle is a source that has nothing, after what it had.
type idle struct{ strings.Reader }

func TestAConnectionThatWaitsHoldsASmallBuffer(t *testing.T) {
	large := strings.Repeat("x", 300_000)
	head := "GET / HTTP/1.1\r\nHost: x\r\nA: " + large[:20_000] + "\r\n\r\n"
	for name, wire := range map[string]string{
		"after a large body": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + large,
		"after a large head": head,
		"after both":         "POST / HTTP/1.1\r\nHost: x\r\nA: " + large[:65_000] + "\r\nContent-Length: 300000\r\n\r\n" + large,
	} {
		t.Run(name, func(t *testing.T) {
			src := &idle{*strings.NewReader(wire)}
			var out bytes.Buffer
			r, w := NewReader(src, Limits{}), NewWriter(&out)
			var req Request
			if err := r.ReadRequest(&req); err != nil {
				t.Fatal(err)
			}
			w.Copy(req.Fields[1])
			if _, err := r.CopyBody(w, req.Body, true); err != nil {
				t.Fatal(err)
			}
			_ = r.Wait()
			if len(r.buf.b) != smallSize || r.old != nil || w.buf != nil {
				t.Errorf("it holds %d bytes, %v, %v", len(r.buf.b), r.old != nil, w.buf != nil)
			}
			r.Release()
			if r.buf != nil {
				t.Error("it holds a buffer after Release")
			}
		})
	}
}
