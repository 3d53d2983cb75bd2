package site

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sluice/internal/service"
	"sluice/mesh"
	"sluice/web/blog"
)

// View is everything that the page shows. Its JSON form is for programs.
type View struct {
	Title      string `json:"-"`
	Base       string `json:"-"`
	Node       string `json:"node"`
	Datacenter string `json:"datacenter"`
	// Instance is the registration that answered.
	Instance string       `json:"instance"`
	Identity *Certificate `json:"identity,omitempty"`

	Set         string   `json:"set"`
	Hosts       []string `json:"hosts"`
	Primary     string   `json:"primary"`
	Me          string   `json:"me"`
	IsPrimary   bool     `json:"is_primary"`
	IsSecondary bool     `json:"is_secondary"`

	Secondary Secondary `json:"secondary"`
	Edges     []Edge    `json:"edges"`
	// EntriesFrom is the service that the entries were read from.
	EntriesFrom string `json:"entries_from,omitempty"`
	// EntriesMember is the member that served them; "" if that cannot be told.
	EntriesMember string       `json:"entries_member,omitempty"`
	Entries       []blog.Entry `json:"entries"`
	// Notices say what is not as it should be.
	Notices []Notice `json:"notices,omitempty"`
	// Events are the newest changes, newest first.
	Events []Event `json:"events,omitempty"`
	// PrimarySince and SecondarySince are when the ways became what they are; zero
	// if that was not seen.
	PrimarySince   time.Time `json:"-"`
	SecondarySince time.Time `json:"-"`
	Problem        *Problem  `json:"problem,omitempty"`
	Form           Form      `json:"-"`
	Now            time.Time `json:"-"`
	Tagline        string    `json:"tagline,omitempty"`
	// Has are the parts that the page may lead to.
	Has parts `json:"-"`
	// Passes is the service whose next answer ends the problem; "" is one that stays.
	Passes string `json:"-"`
	// Bare shows the problem and nothing of the database or the mesh.
	Bare bool `json:"-"`
	// Near says that the entries are read from a secondary where that can be done.
	Near bool `json:"-"`
}

// Answers names the services that have answered last time they were asked.
func (v View) Answers() string {
	var answer []string
	if v.Me != "" {
		answer = append(answer, "mongo-primary")
	}
	if v.Secondary.OK {
		answer = append(answer, "mongo-secondary")
	}
	return strings.Join(answer, " ")
}

// Since returns when the way to a service became what it is, zero if unknown.
func (v View) Since(service string) time.Time {
	if service == "mongo-secondary" {
		return v.SecondarySince
	}
	return v.PrimarySince
}

// Secondary is the result of a read over the way to a secondary.
type Secondary struct {
	OK          bool   `json:"ok"`
	Me          string `json:"me,omitempty"`
	IsSecondary bool   `json:"is_secondary"`
	// Error says why the read failed, in words.
	Error string `json:"error,omitempty"`
}

// Edge is one hop over the mesh, as this process has seen it.
type Edge struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	// Inbound is the hop that this request came in by.
	Inbound bool `json:"inbound"`
	// State is open, denied, failed or unused.
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
	// Peer is the certificate that the other end presented; nil before the first
	// connection.
	Peer *Certificate `json:"peer,omitempty"`
}

// Certificate is what a certificate says.
type Certificate struct {
	ID       string    `json:"spiffe_id"`
	Serial   string    `json:"serial"`
	NotAfter time.Time `json:"not_after"`
}

// Form is what a person typed.
type Form struct {
	ID, Title, Body string
}

// Problem says in words why something cannot be shown or done.
type Problem struct {
	Status int    `json:"status"`
	Kind   string `json:"kind"`
	Title  string `json:"title"`
	// Reason is one sentence, for example "denied by intention web ->
	// mongo-primary".
	Reason string `json:"reason"`
	Hint   string `json:"hint,omitempty"`
	// Command fixes it.
	Command string `json:"command,omitempty"`
	// Login is where to log in, if that mends it.
	Login string `json:"-"`
	// Again is in how many seconds another try is worth while; 0 is not known.
	Again int `json:"-"`
	// RequestID and Detail are shown while debugging is switched on.
	RequestID string `json:"request_id,omitempty"`
	Detail    string `json:"detail,omitempty"`
}

func certificate(c *x509.Certificate) *Certificate {
	if c == nil {
		return nil
	}
	id := ""
	if len(c.URIs) == 1 {
		id = c.URIs[0].String()
	}
	return &Certificate{ID: id, Serial: fmt.Sprintf("%x", c.SerialNumber), NotAfter: c.NotAfter.UTC()}
}

// edges describes the hop that the request came in by and the two that lead out.
func (s *Site) edges(r *http.Request) []Edge {
	in := Edge{Source: "gateway", Destination: "web", Inbound: true, State: "unused"}
	if conn := mesh.ConnFromContext(r.Context()); conn != nil {
		in.Source, in.State, in.Peer = conn.Peer().Service(), "open", certificate(conn.PeerCertificate())
	}
	return []Edge{in, outbound("mongo-primary", s.cfg.Primary.Upstream), outbound("mongo-secondary", s.cfg.Secondary.Upstream)}
}

func outbound(service string, upstream Upstream) Edge {
	state := stateOf(service, upstream, time.Time{})
	edge := Edge{Source: "web", Destination: service, State: state.state, Reason: state.reason}
	if _, leaf, ok := upstream.Last(); ok {
		edge.Peer = certificate(leaf)
	}
	return edge
}

// problem puts an error into words: what it means and the one command that helps.
func problem(destination string, err error) *Problem {
	var denied *mesh.DeniedError
	var wrong *mesh.WrongIdentityError
	var refused blog.Refusal
	switch {
	case errors.As(err, &refused):
		return refusalProblem(refused)
	case errors.As(err, &denied):
		return &Problem{
			Status: http.StatusServiceUnavailable, Kind: kindDenied, Title: "The database is closed to us", Again: retrySoon,
			Reason:  denied.Error(),
			Hint:    fmt.Sprintf("The mesh does not let %s call %s, so nothing was sent. To allow it:", denied.Decision.Source, denied.Decision.Destination),
			Command: fmt.Sprintf("sluice intentions allow %s %s", denied.Decision.Source, denied.Decision.Destination),
		}
	case errors.Is(err, service.ErrStopping):
		return &Problem{
			Status: http.StatusServiceUnavailable, Kind: "stopping", Title: "This instance is being stopped", Again: retryElsewhere,
			Reason: fmt.Sprintf("It had to answer before %s did.", destination),
			Hint:   "Other instances serve meanwhile: try again. See:", Command: "sluice status",
		}
	case errors.As(err, &wrong):
		return &Problem{
			Status: http.StatusBadGateway, Kind: "wrong_identity", Title: "Somebody else answered",
			Reason: wrong.Error(),
			Hint:   "Nothing was sent to it. Is the right process at that address?", Command: "sluice status",
		}
	case errors.Is(err, mesh.ErrNoInstance):
		return &Problem{
			Status: http.StatusServiceUnavailable, Kind: kindNoInstance, Title: "The database is away", Again: retrySoon,
			Reason: fmt.Sprintf("No healthy instance of %s.", destination),
			Hint:   "A new primary is usually elected within seconds: try again. See:", Command: "sluice status",
		}
	case errors.Is(err, mesh.ErrNotReady):
		return &Problem{
			Status: http.StatusServiceUnavailable, Kind: "not_ready", Title: "We have no identity",
			Reason: "This process holds no valid certificate at this moment, so it calls nobody.",
			Hint:   "It gets one from its Consul agent. See:", Command: "sluice certs show",
		}
	case isTimeout(err):
		return &Problem{
			Status: http.StatusGatewayTimeout, Kind: "timeout", Title: "No answer in time",
			Reason: fmt.Sprintf("%s did not answer in time.", destination),
			Hint:   "See:", Command: "sluice status",
		}
	default:
		return &Problem{
			Status: http.StatusBadGateway, Kind: "failed", Title: "The database failed",
			Reason: fmt.Sprintf("%s gave no usable answer.", destination),
			Hint:   "The log of web has the details. See:", Command: "sluice logs",
		}
	}
}

// announce tells a program when another try is worth while, and the gateway so that the
// refusal is on purpose: an instance of web is not at fault for a missing database.
func (p *Problem) announce(header http.Header) {
	if p != nil && p.Again > 0 {
		header.Set("Retry-After", strconv.Itoa(p.Again))
	}
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.Is(err, mesh.ErrTimeout) || errors.As(err, &timeout) && timeout.Timeout()
}
