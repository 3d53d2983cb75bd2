package tcp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// ErrMalformed means that a client did not begin with a TLS ClientHello. The
// error around it says why.
var ErrMalformed = errors.New("malformed ClientHello")

const (
	// MaxHello bounds a ClientHello with its record headers, in bytes. Today's are
	// some 2 KiB, post-quantum key shares and encrypted hellos included.
	MaxHello = 16 << 10
	// maxExtensions bounds the extensions of one hello, maxRecords the records that
	// it comes in.
	maxExtensions = 128
	maxRecords    = 16

	recordHeader = 5
	// The numbers of RFC 8446, sections 5.1, 4 and 4.2, and RFC 6066, section 3.
	typeHandshake       = 22
	typeClientHello     = 1
	extensionServerName = 0
	nameTypeHost        = 0
)

// ParseHello reads the records of a ClientHello from the start of data and
// returns the server name that it asks for, in lower case; "" if it asks for
// none. want > 0 says that data is a good beginning and that at least want more
// bytes belong to it. It never asks for a byte behind the hello.
//
// It is stricter than a TLS server must be (RFC 8446, section 4.1.2; RFC 6066,
// section 3): nothing may follow the hello in its last record, no extension may
// come twice, and the name must be one host name.
func ParseHello(data []byte) (name string, want int, err error) {
	var message []byte
	rest := data
	for range maxRecords {
		if len(rest) < recordHeader {
			return "", recordHeader - len(rest), checkRecord(rest)
		}
		if err := checkRecord(rest); err != nil {
			return "", 0, err
		}
		length := int(rest[3])<<8 | int(rest[4])
		if len(data)-len(rest)+recordHeader+length > MaxHello {
			return "", 0, malformed("it is longer than %d bytes", MaxHello)
		}
		fragment := rest[recordHeader:min(len(rest), recordHeader+length)]
		message = append(message, fragment...)
		missing, err := missingOf(message)
		if err != nil {
			return "", 0, err
		}
		if len(fragment) < length {
			return "", length - len(fragment), nil
		}
		if missing == 0 {
			name, err := serverName(message[4:])
			return name, 0, err
		}
		rest = rest[recordHeader+length:]
	}
	return "", 0, malformed("it comes in more than %d records", maxRecords)
}

// checkRecord judges as much of a record's header as there is.
func checkRecord(header []byte) error {
	switch {
	case len(header) > 0 && header[0] != typeHandshake:
		return malformed("its first byte is 0x%02x, which no TLS handshake has", header[0])
	case len(header) > 1 && header[1] != 3:
		return malformed("its version is %d", header[1])
	case len(header) >= recordHeader && header[3] == 0 && header[4] == 0:
		return malformed("a record is empty")
	}
	return nil
}

// missingOf returns how much of a handshake message has not come.
func missingOf(message []byte) (int, error) {
	if len(message) > 0 && message[0] != typeClientHello {
		return 0, malformed("the handshake begins with a message of type %d", message[0])
	}
	if len(message) < 4 {
		return 4 - len(message), nil
	}
	length := 4 + (int(message[1])<<16 | int(message[2])<<8 | int(message[3]))
	switch {
	case length > MaxHello:
		return 0, malformed("it is longer than %d bytes", MaxHello)
	case len(message) > length:
		return 0, malformed("something follows it in its record")
	}
	return length - len(message), nil
}

func serverName(hello cryptobyte.String) (string, error) {
	var session, ciphers, compressions, extensions cryptobyte.String
	if !hello.Skip(2+32) || !hello.ReadUint8LengthPrefixed(&session) || len(session) > 32 ||
		!hello.ReadUint16LengthPrefixed(&ciphers) || len(ciphers) == 0 || len(ciphers)%2 != 0 ||
		!hello.ReadUint8LengthPrefixed(&compressions) || len(compressions) == 0 {
		return "", malformed("a fixed field is cut off or has a wrong length")
	}
	if hello.Empty() {
		return "", nil
	}
	if !hello.ReadUint16LengthPrefixed(&extensions) || !hello.Empty() {
		return "", malformed("the extensions do not end where the hello ends")
	}
	name := ""
	var seen []uint16
	for !extensions.Empty() {
		var kind uint16
		var value cryptobyte.String
		if !extensions.ReadUint16(&kind) || !extensions.ReadUint16LengthPrefixed(&value) {
			return "", malformed("an extension is cut off")
		}
		if slices.Contains(seen, kind) || len(seen) == maxExtensions {
			return "", malformed("extension %d comes twice, or there are more than %d", kind, maxExtensions)
		}
		seen = append(seen, kind)
		if kind == extensionServerName {
			var err error
			if name, err = hostOf(value); err != nil {
				return "", err
			}
		}
	}
	return name, nil
}

// hostOf reads the value of the extension server_name.
func hostOf(value cryptobyte.String) (string, error) {
	var list, host cryptobyte.String
	var kind uint8
	if !value.ReadUint16LengthPrefixed(&list) || !value.Empty() ||
		!list.ReadUint8(&kind) || kind != nameTypeHost || !list.ReadUint16LengthPrefixed(&host) || !list.Empty() {
		return "", malformed("the server name is not one host name")
	}
	name := strings.ToLower(string(host))
	if !isHost(name) {
		return "", malformed("the server name is not a host name")
	}
	return name, nil
}

// isHost reports whether a name in lower case is a DNS name without a dot at its
// end. An address is none (RFC 6066, section 3).
func isHost(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	_, err := netip.ParseAddr(name)
	return err != nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// readHello reads a hello from conn until deadline and returns all of its bytes,
// also with an error, so that somebody else may answer it.
func readHello(conn net.Conn, deadline time.Time) (name string, data []byte, err error) {
	if err := conn.SetReadDeadline(deadline); err != nil {
		return "", nil, err
	}
	data = make([]byte, recordHeader, 2048)
	have := 0
	for {
		n, err := conn.Read(data[have:])
		have += n
		name, want, problem := ParseHello(data[:have])
		switch {
		case problem != nil:
			return "", data[:have], problem
		case want == 0:
			return name, data[:have], conn.SetReadDeadline(time.Time{})
		case err == io.EOF:
			return "", data[:have], fmt.Errorf("read ClientHello: %w", io.ErrUnexpectedEOF)
		case err != nil:
			return "", data[:have], fmt.Errorf("read ClientHello: %w", err)
		}
		if have == len(data) {
			data = append(data, make([]byte, want)...)
		}
	}
}
