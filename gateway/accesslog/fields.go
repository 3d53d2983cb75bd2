package accesslog

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"sluice/internal/service/mask"
)

// view is an entry on its way to a line.
type view struct {
	*slot
	secrets mask.Mask
	// scratch is for a value before it is escaped.
	scratch []byte
}

// field appends one value to dst, not escaped.
type field func(dst []byte, v *view) []byte

// fields are those of Fabio (its documentation of log.access.format), and behind
// them ours. Times are those of the end of the answer, in UTC.
func fields() map[string]field {
	all := map[string]field{
		"remote_addr":             func(dst []byte, v *view) []byte { return appendAddr(dst, v.entry.Client) },
		"remote_host":             func(dst []byte, v *view) []byte { return appendHost(dst, v.entry.Client) },
		"remote_port":             func(dst []byte, v *view) []byte { return appendPort(dst, v.entry.Client) },
		"request":                 appendRequest,
		"request_args":            appendArgs,
		"request_host":            ofText(textHost),
		"request_method":          ofText(textMethod),
		"request_proto":           ofText(textProtocol),
		"request_scheme":          func(dst []byte, v *view) []byte { return appendScheme(dst, v.entry.TLS) },
		"request_uri":             ofTarget(textTarget),
		"request_url":             appendURL,
		"response_body_size":      ofInt(func(e *Entry) int64 { return e.BytesOut }),
		"response_status":         ofInt(func(e *Entry) int64 { return int64(e.Status) }),
		"response_time_ms":        ofDuration(3),
		"response_time_us":        ofDuration(6),
		"response_time_ns":        ofDuration(9),
		"time_unix_ms":            ofInt(func(e *Entry) int64 { return e.End.UnixMilli() }),
		"time_unix_us":            ofInt(func(e *Entry) int64 { return e.End.UnixMicro() }),
		"time_unix_ns":            ofInt(func(e *Entry) int64 { return e.End.UnixNano() }),
		"time_common":             ofTime("02/Jan/2006:15:04:05 -0700"),
		"time_rfc3339":            ofTime("2006-01-02T15:04:05Z"),
		"time_rfc3339_ms":         ofTime("2006-01-02T15:04:05.000Z"),
		"time_rfc3339_us":         ofTime("2006-01-02T15:04:05.000000Z"),
		"time_rfc3339_ns":         ofTime("2006-01-02T15:04:05.000000000Z"),
		"upstream_addr":           func(dst []byte, v *view) []byte { return appendAddr(dst, v.entry.Upstream) },
		"upstream_host":           func(dst []byte, v *view) []byte { return appendHost(dst, v.entry.Upstream) },
		"upstream_port":           func(dst []byte, v *view) []byte { return appendPort(dst, v.entry.Upstream) },
		"upstream_request_scheme": appendUpstreamScheme,
		"upstream_request_uri":    ofTarget(textUpstreamTarget),
		"upstream_request_url":    appendUpstreamURL,
		"upstream_service":        ofText(textService),
	}
	ours := map[string]field{
		"attempts":          ofInt(func(e *Entry) int64 { return int64(e.Attempts) }),
		"flags":             func(dst []byte, v *view) []byte { return append(dst, v.entry.Flags.String()...) },
		"overhead_us":       ofInt(func(e *Entry) int64 { return e.Overhead.Microseconds() }),
		"reason":            ofText(textReason),
		"remote_user":       ofText(textUser),
		"request_body_size": ofInt(func(e *Entry) int64 { return e.BytesIn }),
		"request_id":        ofText(textRequestID),
		"route":             ofText(textRoute),
		"source":            ofText(textSource),
		"destination":       ofText(textDestination),
		"serial":            ofText(textSerial),
		"upstream_instance": ofText(textInstance),
		"upstream_dc":       ofText(textDatacenter),
	}
	for name, f := range ours {
		all[name] = f
	}
	return all
}

// FieldNames returns the names of all fields of a format, without their dollar
// sign, sorted. $header.NAME is none of them.
func FieldNames() []string { return slices.Sorted(maps.Keys(fields())) }

func ofText(i int) field {
	return func(dst []byte, v *view) []byte { return append(dst, v.text(i)...) }
}

func ofTarget(i int) field {
	return func(dst []byte, v *view) []byte { return v.secrets.Append(dst, v.text(i)) }
}

func ofInt(value func(*Entry) int64) field {
	return func(dst []byte, v *view) []byte { return strconv.AppendInt(dst, value(&v.entry), 10) }
}

func ofTime(layout string) field {
	return func(dst []byte, v *view) []byte { return v.entry.End.UTC().AppendFormat(dst, layout) }
}

// ofDuration is the time from start to end in seconds, with a number of decimals
// beyond which it is cut and not rounded.
func ofDuration(decimals int) field {
	return func(dst []byte, v *view) []byte {
		d := max(0, v.entry.End.Sub(v.entry.Start))
		dst = append(strconv.AppendInt(dst, int64(d/time.Second), 10), '.')
		fraction, unit := d%time.Second, time.Second
		for range decimals {
			unit /= 10
			dst = append(dst, byte('0'+fraction/unit%10))
		}
		return dst
	}
}

// appendAddr appends address and port; the address alone where the port is not known.
func appendAddr(dst []byte, addr netip.AddrPort) []byte {
	if addr.Port() == 0 {
		return appendHost(dst, addr)
	}
	return addr.AppendTo(dst)
}

func appendHost(dst []byte, addr netip.AddrPort) []byte {
	if !addr.IsValid() {
		return dst
	}
	return addr.Addr().AppendTo(dst)
}

func appendPort(dst []byte, addr netip.AddrPort) []byte {
	if !addr.IsValid() || addr.Port() == 0 {
		return dst
	}
	return strconv.AppendUint(dst, uint64(addr.Port()), 10)
}

func appendScheme(dst []byte, secure bool) []byte {
	if secure {
		return append(dst, "https"...)
	}
	return append(dst, "http"...)
}

func appendRequest(dst []byte, v *view) []byte {
	dst = append(append(dst, v.text(textMethod)...), ' ')
	dst = append(v.secrets.Append(dst, v.text(textTarget)), ' ')
	return append(dst, v.text(textProtocol)...)
}

func appendArgs(dst []byte, v *view) []byte {
	_, query, _ := bytes.Cut(v.text(textTarget), []byte("?"))
	return v.secrets.AppendQuery(dst, query)
}

func appendURL(dst []byte, v *view) []byte {
	dst = append(appendScheme(dst, v.entry.TLS), "://"...)
	return v.secrets.Append(append(dst, v.text(textHost)...), v.text(textTarget))
}

func appendUpstreamScheme(dst []byte, v *view) []byte {
	if !v.entry.Upstream.IsValid() {
		return dst
	}
	return appendScheme(dst, v.entry.UpstreamTLS)
}

func appendUpstreamURL(dst []byte, v *view) []byte {
	if !v.entry.Upstream.IsValid() {
		return dst
	}
	dst = append(appendUpstreamScheme(dst, v), "://"...)
	return v.secrets.Append(v.entry.Upstream.AppendTo(dst), v.text(textUpstreamTarget))
}
