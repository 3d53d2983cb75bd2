// Package h1 reads and writes the messages of HTTP/1.1 (RFC 9110, RFC 9112) for a
// gateway: heads in place, bodies piece by piece, and nothing is allocated once the
// buffers are there. It knows no routes and no pools of connections.
//
// A gateway and what is behind it must agree on where each message ends, or one
// client's bytes become another client's request. So whatever two readers could
// take in two ways is refused, from clients and from upstreams alike, and all that
// says how a message is framed is written anew. What is refused ends the connection.
//
// Where the RFCs leave a choice, or this package departs from them:
//
//   - a line ends with CRLF. A bare LF or CR is refused, and so is a line that
//     continues the one before. One empty line may come before a request;
//   - a target is in origin-form, or "*" with OPTIONS. Absolute-form, which RFC 9112,
//     section 3.2.2, wants every server to accept, is refused: it has a second host.
//     CONNECT is refused. The path has good escapes only, and not of NUL; the query
//     may have any "%", as many have;
//   - Host is demanded once with HTTP/1.1, and has a name or an address. It has no
//     escapes, no comma, and no empty port;
//   - Content-Length comes once and has digits only, Transfer-Encoding comes once and
//     is "chunked", and not both come. Other codings are answered with 501, other
//     expectations than 100-continue with 417, methods of more than 32 bytes with 501;
//   - Connection names no field that is for the recipient of the content, such as
//     Host, Cookie, Authorization or X-Forwarded-For: that is refused. It has at most
//     32 options;
//   - Upgrade comes at most once where Connection has "upgrade", and is ignored else;
//   - chunk sizes have 1 to 16 digits, no whitespace follows them, and all extensions
//     of a body have at most 1 KiB. They are dropped;
//   - trailer fields about framing and routing are refused, others that may not be
//     trailer fields are dropped;
//   - a response has a status from 100 to 599. The space before an empty reason may
//     be missing. Framing fields in an interim response are refused, with 204 ignored.
package h1
