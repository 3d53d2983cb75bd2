package config

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/gateway/acl"
	"sluice/gateway/tlsfiles"
)

// Proto is what clients of a listener speak.
type Proto string

// The protocols of the option proto=, those of Fabio.
const (
	HTTP  Proto = "http"
	HTTPS Proto = "https"
	// GRPC is HTTP whose clients may speak HTTP/2 without TLS, GRPCS is HTTPS.
	GRPC  Proto = "grpc"
	GRPCS Proto = "grpcs"
	// TCP goes by the port, TCPSNI by the server name in the client's TLS hello,
	// which is passed on. HTTPSTCPSNI is TCPSNI for the names that have a route, and
	// HTTPS for the others.
	TCP         Proto = "tcp"
	TCPSNI      Proto = "tcp+sni"
	HTTPSTCPSNI Proto = "https+tcp+sni"
)

// protos are all of them, in the order of the documents.
func protos() []string {
	return []string{string(HTTP), string(HTTPS), string(GRPC), string(GRPCS), string(TCP), string(TCPSNI), string(HTTPSTCPSNI)}
}

// TLS reports whether the gateway itself shakes hands with clients.
func (p Proto) TLS() bool { return p == HTTPS || p == GRPCS || p == HTTPSTCPSNI }

// HTTP reports whether requests come in, and not only bytes.
func (p Proto) HTTP() bool { return p != TCP && p != TCPSNI }

// TLSVersion is the least version of TLS that a listener takes.
type TLSVersion string

// The versions of the option tlsmin=.
const (
	TLS12 TLSVersion = "1.2"
	TLS13 TLSVersion = "1.3"
)

// Listener is where clients connect, and how. Times of 0 leave it to the
// gateway's own.
type Listener struct {
	Address Address
	Proto   Proto
	// CertDir and Certs are where certificates are read from, again and again; a
	// Proto with TLS has at least one of them once Parse has returned.
	CertDir string
	Certs   []tlsfiles.Pair
	// StrictMatch refuses clients that ask for a name without a certificate.
	StrictMatch bool
	// ClientCA is a file of roots, PEM: a client has to show a certificate that leads
	// to one of them. "" asks for none.
	ClientCA string
	// TLSMin is TLS12 if it is not given.
	TLSMin TLSVersion
	// Handshake bounds the TLS handshake.
	Handshake time.Duration
	// PROXY says that clients come through load balancers, which send a PROXY header.
	// Whoever is not in PROXYFrom is refused, unless PROXYOthers lets them in as the
	// clients that they are. An empty PROXYFrom is -trusted-proxies.
	PROXY       bool
	PROXYFrom   acl.Networks
	PROXYOthers bool
	// H2C lets clients speak HTTP/2 without TLS.
	H2C bool
	// Public allows an address that others than this node reach, where what clients
	// send is neither encrypted nor authenticated.
	Public bool
	// Read bounds a whole request, Write an answer; both are for HTTP alone. Idle
	// bounds the wait for the next request, or for a byte in either direction of a
	// TCP connection.
	Read, Write, Idle time.Duration
	// MaxConn bounds the connections at once; 0 is listen.DefaultMaxConn.
	MaxConn int
}

const (
	// maxListenerTime bounds each time of a listener.
	maxListenerTime = 24 * time.Hour
	maxConnections  = 1_000_000
)

// ParseListener reads "ADDRESS;OPTION=VALUE;...", for example
// "127.0.0.1:9443;proto=https;certs=/etc/gateway/certs". What it accepts is well
// formed; whether it makes sense next to the other flags is for Parse to say.
func ParseListener(text string) (Listener, error) {
	var l Listener
	err := parseSpec(text, &l.Address, l.options())
	if err != nil {
		return Listener{}, err
	}
	if l.Proto == "" {
		l.Proto = HTTP
		if l.CertDir != "" || len(l.Certs) > 0 {
			l.Proto = HTTPS
		}
	}
	return l, nil
}

// option is one word that a spec may have behind its address.
type option struct {
	name string
	// value is the form of the value in the usage text.
	value string
	usage string
	// repeat allows the option more than once.
	repeat bool
	set    func(text string) error
	// get returns the values; one that is "" is not written.
	get func() []string
}

// options are those of -listen, bound to l, in the order in which they are
// written.
func (l *Listener) options() []option {
	return slices.Concat(l.protoOptions(), l.tlsOptions(), []option{
		boolOption("pxyproto", "clients come through load balancers that send a PROXY header, version 1 or 2", &l.PROXY),
		{
			name: "pxyfrom", value: "CIDR,CIDR", usage: "those load balancers; without it they are -trusted-proxies", set: l.setPROXYFrom,
			get: func() []string { return []string{strings.ReplaceAll(l.PROXYFrom.String(), " ", "")} },
		},
		boolOption("pxyothers", "with pxyproto, let clients in that come directly; else they are refused", &l.PROXYOthers),
		boolOption("h2c", "HTTP/2 without TLS as well", &l.H2C),
		boolOption("public", "allow plain traffic on an address that others than this node reach", &l.Public),
		timeOption("rt", "time for a whole request, body included; for TCP it is taken from configurations of Fabio, and not used", &l.Read),
		timeOption("wt", "time for an answer, body included; for TCP as rt", &l.Write),
		timeOption("it", "time between two requests, or without a byte on a TCP connection; without it=, one that is half closed ends after 5 minutes in which nothing moves", &l.Idle),
		{
			name: "maxconn", value: "N", usage: "connections at once; one more is closed at once",
			set: func(text string) (err error) { l.MaxConn, err = parseInt(text, 1, maxConnections); return err },
			get: func() []string { return unlessZero(l.MaxConn, strconv.Itoa(l.MaxConn)) },
		},
	})
}

func (l *Listener) protoOptions() []option {
	return []option{{
		name: "proto", value: strings.Join(protos(), "|"), usage: "what clients speak; http, or https where there are certificates",
		set: func(text string) error {
			l.Proto = Proto(text)
			return oneOf(text, protos())
		},
		get: func() []string { return []string{string(l.Proto)} },
	}}
}

func (l *Listener) tlsOptions() []option {
	return []option{
		pathOption("certs", "DIR", "folder of certificates: NAME.pem, NAME-cert.pem with NAME-key.pem, or NAME.crt with NAME.key", &l.CertDir),
		{
			name: "cert", value: "FILE,key=FILE", usage: "one certificate, PEM; may be given several times, the first is the default", repeat: true,
			set: l.addCert, get: l.certTexts,
		},
		boolOption("strictmatch", "refuse clients that ask for a name without a certificate", &l.StrictMatch),
		pathOption("clientca", "FILE", "roots, PEM: clients must show a certificate that leads to one of them; when one is taken away, the connections of its clients are cut", &l.ClientCA),
		{
			name: "tlsmin", value: "1.2|1.3", usage: "least version of TLS; 1.2",
			set: func(text string) error {
				l.TLSMin = TLSVersion(text)
				return oneOf(text, []string{string(TLS12), string(TLS13)})
			},
			get: func() []string { return []string{string(l.TLSMin)} },
		},
		timeOption("handshake", "time for the TLS handshake", &l.Handshake),
	}
}

func (l *Listener) setPROXYFrom(text string) (err error) {
	l.PROXYFrom, err = acl.ParseNetworks(text)
	if err == nil && l.PROXYFrom.Empty() {
		err = errors.New("it names no network")
	}
	return err
}

func (l *Listener) addCert(text string) error {
	cert, key, _ := strings.Cut(text, ",key=")
	for _, path := range []string{cert, key} {
		if strings.ContainsAny(path, ",") || path == "" && key != "" {
			return errors.New("want cert=FILE,key=FILE, or cert=FILE for a file that holds both")
		}
	}
	if strings.HasSuffix(text, ",key=") {
		return errors.New("the key has no file")
	}
	l.Certs = append(l.Certs, tlsfiles.Pair{Cert: cert, Key: key})
	return nil
}

func (l *Listener) certTexts() []string {
	var texts []string
	for _, pair := range l.Certs {
		text := pair.Cert
		if pair.Key != "" {
			text += ",key=" + pair.Key
		}
		texts = append(texts, text)
	}
	return texts
}

// String returns the listener as ParseListener reads it, options in a fixed order.
func (l Listener) String() string {
	return l.Address.String() + writeOptions(l.options())
}

// hasCerts reports whether it says where its certificates are.
func (l Listener) hasCerts() bool { return l.CertDir != "" || len(l.Certs) > 0 }

// plainHTTP reports whether it takes requests without TLS.
func (l Listener) plainHTTP() bool { return l.Proto.HTTP() && !l.Proto.TLS() }

// AllowsH2C reports whether clients may speak HTTP/2 without TLS.
func (l Listener) AllowsH2C() bool { return l.plainHTTP() && (l.H2C || l.Proto == GRPC) }
