package proxy_test

// waits is the reason of those cases that net/http could refuse and does not: it waits
// for more, until its time-outs, and the instance has nothing or a body that is broken.
const waits = "it waits for the rest, which would be refused"

// differencesOfStd are the cases that net/http judges otherwise than the gateway's own
// codec, with the reason why. None of them smuggles anything between the gateway and
// its instances: what net/http takes it writes anew, so that they see what it has seen.
func differencesOfStd() map[string]string {
	reasons := map[string]string{}
	if !withStd() {
		return reasons
	}
	for _, d := range []struct {
		reason string
		names  []string
	}{
		{"it looks into no chunk extension, and sends none on", []string{
			"body-chunks/an extension of more than 1 KiB", "body-chunks/extensions of more than 1 KiB together", "body-chunks/extension ;",
			"body-chunks/extension ; a", "body-chunks/extension ;a ", "body-chunks/extension ;a =b", "body-chunks/extension ;a= b", "body-chunks/extension ;=b",
			"body-chunks/extension ;a=", `body-chunks/extension ;a="`, `body-chunks/extension ;a="b`, `body-chunks/extension ;a="b"c`,
			"body-chunks/extension ;a,b", "body-chunks/extension ;;a", "body-chunks/extension ;a;", "body-chunks/extension ;a=b c", "body-chunks/extension ;a0",
			`body-chunks/extension ;a="0"`, `body-chunks/extension ;a="x7f"`, "body-chunks/extension of a quote and a backslash", "body-chunks/extension ;(a)",
			"body-chunks/extension ;xe9",
		}},
		{"trailer fields that were not announced go no further than the gateway", []string{
			"body-trailers/Content-Length: 5 is refused", "body-trailers/Transfer-Encoding: chunked is refused", "body-trailers/Host: y is refused",
			"body-trailers/content-length: 0 is refused", "body-trailers/a space before the colon", "body-trailers/a space in the name",
		}},
		{"whitespace behind a chunk's size ends with the size, and is not sent on", []string{
			"body-chunks/size 5 ", "body-chunks/size 5~t",
		}},
		{"options of Connection go no further than the gateway; those that name a field it needs are refused", []string{
			"request-connection/option a b", "request-connection/option close;q=1", `request-connection/option "close"`, "request-connection/option close/1",
			"request-connection/option a=b", "request-connection/option @", "request-connection/option close, (x)", "request-connection/option xe9",
			"request-connection/option close keep-alive", "request-connection/33 options", "request-connection/33 options in two fields",
		}},
		{"the first value is sent on, and none where it is empty: the instance sees one", []string{
			"request-connection/an empty Upgrade",
		}},
		{"lengths that are the same are one, and one is sent on", []string{
			"request-content-length/two that are the same", "request-content-length/two in different case", "request-content-length/three",
			"request-content-length/two, apart from each other", "request-content-length/two with HTTP/1.0",
		}},
		{"what continues a line becomes a part of it, with one space, and is sent on as one line", []string{
			"body-trailers/a line that continues", "request-fields/a line that continues", "request-fields/a line that continues with a tab",
			"request-fields/a line that continues with a field", "request-fields/an empty line that continues",
		}},
		{"a bare LF ends a line for it, and lines with CRLF are sent on", []string{
			"body-trailers/LF as the line end", "request-fields/LF between fields", "request-line/the request line ends with LF",
			"request-line/all lines end with LF", "request-line/the head ends with LF LF", "request-line/the head ends with CRLF LF",
		}},
		{"Transfer-Encoding beats Content-Length (RFC 9112, section 6.3), which is not sent on", []string{
			"request-transfer-encoding/with Content-Length before", "request-transfer-encoding/with Content-Length after",
			"request-transfer-encoding/with Content-Length 0",
		}},
		{"with HTTP/1.0 it ignores Transfer-Encoding, and sends on neither it nor the body: what would be one is the client's next request, judged like others", []string{
			"request-transfer-encoding/with HTTP/1.0", "request-transfer-encoding/with HTTP/1.0 and keep-alive",
			"request-transfer-encoding/identity with HTTP/1.0",
		}},
		{"it has other limits", []string{
			"body-trailers/129 trailers", "body-trailers/a trailer of 8 KiB", "request-fields/128 fields and Host", "request-fields/a head of one byte more",
			"request-line/a line of more than 16 KiB",
		}},
		{waits, []string{
			"body-chunks/an extension without end", "body-chunks/size 8000000000000000", "body-chunks/size FFFFFFFFFFFFFFFF",
			"body-chunks/size fffffffffffffffb", "body-chunks/size 8000000000000000 and no data", "body-chunks/size ffffffffffffffff and no data",
			"body-chunks/size fffffffffffffffe and no data", "body-chunks/the last line with LF", "body-chunks/the last line with CR CR LF",
			"body-trailers/a trailer without end", "request-fields/fields without end", "request-fields/a value without end",
			"request-fields/a name without end", "request-fields/a bare LF after a long value",
			"request-fields/a bad request line before a head that is too large", "request-fields/a bad request line before a bare LF",
			"request-line/a TLS hello", "request-line/a line of 20 KiB that does not end", "request-line/a method that does not end",
			"request-transfer-encoding/behind a bare LF", "request-transfer-encoding/a value on the next line",
		}},
		{"it takes no empty line before a request", []string{
			"request-line/one empty line before the request line",
		}},
		{"expectations that it does not know are ignored, and sent on to an instance that may refuse them", []string{
			"request-connection/Expect (empty)", "request-connection/Expect 100-continue, x", "request-connection/two Expects, one of them unknown",
		}},
		{"it has no limit for methods", []string{
			"request-line/a method of 33 bytes",
		}},
		{"HTTP/1.x is HTTP/1.1 for it, and sent on as such", []string{
			"request-line/version HTTP/1.2", "request-line/version HTTP/1.9",
		}},
		{"it refuses with another status", []string{
			"body-trailers/a trailer of one byte more", "request-line/the preface of HTTP/2", "request-line/a long line that ends with LF",
			"request-transfer-encoding/value (empty)", "request-transfer-encoding/value chunked, chunked", "request-transfer-encoding/value chunked,chunked",
			"request-transfer-encoding/value chunked, gzip", "request-transfer-encoding/value chunked, identity", "request-transfer-encoding/value chunked,",
			"request-transfer-encoding/value ,chunked", "request-transfer-encoding/value , chunked", "request-transfer-encoding/value ,",
			"request-transfer-encoding/value chunked;", "request-transfer-encoding/value chunked;a=b", "request-transfer-encoding/value chunked; q=1",
			"request-transfer-encoding/value gzip;q=1, chunked", `request-transfer-encoding/value "chunked"`, "request-transfer-encoding/value chunked chunked",
			"request-transfer-encoding/value chunked identity", "request-transfer-encoding/value xa0chunked", "request-transfer-encoding/value chunkedxa0",
			"request-transfer-encoding/value chuntked", "request-transfer-encoding/value chunked, ,gzip", "request-transfer-encoding/value gzip, ,chunked",
			"request-transfer-encoding/value (chunked)", "request-transfer-encoding/value chxc3xbcnked", "request-transfer-encoding/value chunkedx85",
			"request-transfer-encoding/value chunked/1", "request-transfer-encoding/identity with Content-Length",
			"request-transfer-encoding/an empty one with Content-Length", "request-transfer-encoding/a coding that is not known with Content-Length",
			"request-transfer-encoding/two", "request-transfer-encoding/two in different case", "request-transfer-encoding/gzip and chunked in two",
			"request-transfer-encoding/chunked and identity in two", "request-transfer-encoding/an empty one and chunked",
			"request-transfer-encoding/a line that continues",
		}},
		{"it answers OPTIONS * itself", []string{
			"request-target/OPTIONS *",
		}},
		{"it answers what is cut within a head", []string{
			"request-line/a request line that stops", "request-line/a head that stops after the request line", "request-line/a head that stops in a field",
			"request-line/a head that stops before the last line end", "request-line/an empty line and nothing",
		}},
	} {
		for _, name := range d.names {
			reasons[name] = d.reason
		}
	}
	return reasons
}

// answersOfStd are the answers that net/http judges otherwise, with the reason why that
// splits none: each is written anew.
func answersOfStd() map[string]string {
	if !withStd() {
		return nil
	}
	const version = "for it, any version with numbers is one, and HTTP/1.1 is sent on"
	const reason = "reasons are not sent on"
	return map[string]string{
		"response-body/304 with Content-Length":         "it sends none with 304",
		"response-body/Content-Length and chunked":      "Transfer-Encoding beats Content-Length, which is not sent on",
		"response-body/both lengths to HEAD":            "Transfer-Encoding beats Content-Length, which is not sent on",
		"response-body/two Content-Lengths":             "lengths that are the same are one, and one is sent on",
		"response-body/chunked with HTTP/1.0":           "with HTTP/1.0 it ignores Transfer-Encoding: all that comes is the body, in new chunks",
		"response-body/a trailer about framing":         "trailer fields that were not announced go no further than the gateway",
		"response-body/a space before the colon":        "it takes the field, and sends it on without the space",
		"response-body/a line that continues":           "what continues a line becomes a part of it",
		"response-body/Connection names Content-Length": "the body has its length all the same",
		"response-body/Connection names Set-Cookie":     "the instance takes away what is its own",
		"response-status/status  200":                   "spaces before a status are none",
		"response-status/version HTTP/2.0":              version,
		"response-status/version HTTP/1.2":              version,
		"response-status/version HTTP/0.9":              version,
		"response-status/version HTTP/1.1 ":             version,
		"response-status/a line end of LF":              "a bare LF ends a line for it, and lines with CRLF are sent on",
		"response-status/CR in the reason":              reason,
		"response-status/NUL in the reason":             reason,
		"response-status/DEL in the reason":             reason,
	}
}
