package proxy

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page and its style
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strings"

	"sluice/gateway/balance"
	"sluice/gateway/errorpages"
	"sluice/identity"
	"sluice/mesh"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

// page is an answer of the gateway itself, in words. It renders as HTML, JSON
// or plain text, whichever the client asks for.
type page struct {
	Status  int    `json:"status"`
	Title   string `json:"title"`
	Reason  string `json:"reason"`
	Facts   []fact `json:"facts,omitempty"`
	Hint    string `json:"hint,omitempty"`
	Command string `json:"command,omitempty"`
	// RequestID finds the request in the logs of the gateway and of the service.
	RequestID string `json:"request_id,omitempty"`
	// Header is set on the answer.
	Header http.Header `json:"-"`
}

type fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// pageFor says why a request that has a route got no answer.
func (p *Proxy) pageFor(x *exchange, err error) *page {
	services := strings.Join(x.plan.route.Services, ", ")
	instance := services
	if x.answered != nil {
		i := x.answered.target.instance
		instance = fmt.Sprintf("%s (%s on %s)", x.answered.target.service, i.ServiceID, i.Node)
	}
	var denied *mesh.DeniedError
	var wrong *mesh.WrongIdentityError
	var result page
	switch {
	case errors.As(err, &denied):
		result = pageDenied(denied)
	case errors.As(err, &wrong):
		result = p.pageImpostor(x, wrong, instance)
	case errors.Is(err, errPanic):
		result = pageFault()
	case errors.Is(err, balance.ErrOverflow):
		result = page{
			Status: http.StatusServiceUnavailable, Title: "All instances are busy",
			Reason: fmt.Sprintf("Every instance of %s has as many requests in flight as it may have.", services),
			Hint:   "The limit is maxconn= in the route's tag, or -max-conn.", Header: http.Header{"Retry-After": {"1"}},
		}
	case errors.Is(err, mesh.ErrNoInstance):
		result = page{
			Status: http.StatusServiceUnavailable, Title: "No healthy instance",
			Reason: fmt.Sprintf("No healthy instance of %s.", services),
			Hint:   "The route is known, but Consul holds every instance for unhealthy or gone. See:", Command: "sluice status",
		}
	case errors.Is(err, mesh.ErrNotReady):
		result = page{
			Status: http.StatusServiceUnavailable, Title: "The gateway has no identity",
			Reason: "The gateway holds no valid certificate at this moment, so it calls nobody.",
			Hint:   "It gets one from its Consul agent. See:", Command: "sluice certs show",
		}
	case isTimeout(err):
		result = page{
			Status: http.StatusGatewayTimeout, Title: "No answer in time",
			Reason: fmt.Sprintf("%s did not answer in time.", instance),
			Hint:   "Whether it has carried out the request is not known.",
		}
	default:
		result = page{
			Status: http.StatusBadGateway, Title: "The instance failed",
			Reason: fmt.Sprintf("%s failed: %s.", instance, describe(err)),
			Hint:   "Consul takes it out as soon as its health check fails. See:", Command: "sluice status",
		}
	}
	result.RequestID = x.id
	return p.discreet(&result)
}

// discreet takes the inside out of a page, unless pages are to explain.
func (p *Proxy) discreet(content *page) *page {
	if p.cfg.ExplainErrors {
		return content
	}
	reasons := map[int]string{
		http.StatusUnauthorized: "This request needs credentials.",
		http.StatusForbidden:    "This request is not allowed.", http.StatusBadGateway: "The service did not answer as it should.",
		http.StatusServiceUnavailable: "The service is not available right now.", http.StatusGatewayTimeout: "The service did not answer in time.",
	}
	if reason := reasons[content.Status]; reason != "" {
		content.Reason = reason
	}
	content.Title = http.StatusText(content.Status)
	content.Facts, content.Command = nil, ""
	content.Hint = "Whoever runs this gateway can find out why by the number below."
	return content
}

func pageDenied(denied *mesh.DeniedError) page {
	d := denied.Decision
	rule := "the default policy: no intention matches"
	switch {
	case d.Rule != nil && d.Rule.L7:
		rule = fmt.Sprintf("%s, which carries HTTP permissions (precedence %d)", d.Rule.Edge(), d.Rule.Precedence())
	case d.Rule != nil:
		rule = fmt.Sprintf("%s, %s (precedence %d)", d.Rule.Edge(), d.Rule.Action, d.Rule.Precedence())
	case denied.By == mesh.ByDestination:
		rule = "the intentions that the destination holds"
	}
	return page{
		Status: http.StatusForbidden, Title: "Denied",
		Reason: denied.Error(),
		Facts: []fact{
			{"source", d.Source},
			{"destination", d.Destination},
			{"decided by", rule},
			{"refused by", refusedBy(denied)},
		},
		Hint:    "To allow it:",
		Command: fmt.Sprintf("sluice intentions allow %s %s", d.Source, d.Destination),
	}
}

// pageImpostor answers where somebody else is at an instance's address. It is a
// refusal and no failure: whoever answered there may be in the best of health.
func (p *Proxy) pageImpostor(x *exchange, wrong *mesh.WrongIdentityError, instance string) page {
	return page{
		Status: http.StatusForbidden, Title: "Somebody else answered",
		Reason: fmt.Sprintf("At the address of %s another identity answered, so nothing was sent.", instance),
		Facts: []fact{
			{"source", p.cfg.Source},
			{"destination", x.answered.target.service},
			{"decided by", "the certificate that was shown: it is not the destination's"},
			{"refused by", p.cfg.Source + ", before anything was sent"},
			{"expected", wrong.Want.String()},
			{"answered", nobody(wrong.Got)},
		},
		Hint: "The registration has a wrong address, or the address was given to somebody else. See:", Command: "sluice status",
	}
}

func refusedBy(denied *mesh.DeniedError) string {
	if denied.By == mesh.ByDestination {
		return denied.Decision.Destination + ", when it was called"
	}
	return denied.Decision.Source + ", before it called"
}

// describe puts an error into words that tell a stranger nothing about the
// inside; the log has the rest.
func describe(err error) string {
	text := err.Error()
	switch {
	case strings.Contains(text, "connection refused"):
		return "it refused the connection"
	case strings.Contains(text, "connection reset"), strings.Contains(text, "broken pipe"), strings.Contains(text, "connection cut"), strings.HasSuffix(text, "EOF"):
		return "the connection broke before it answered"
	case strings.Contains(text, "no route to host"), strings.Contains(text, "unreachable"):
		return "it cannot be reached"
	case unsent(err):
		return "no connection could be made"
	}
	return "it gave no valid answer"
}

func nobody(id identity.ID) string {
	if id.IsZero() {
		return "nobody known"
	}
	return id.String()
}

// writeStd writes a page through net/http in the form that the client accepts.
func (p *Proxy) writeStd(content *page, w http.ResponseWriter, r *http.Request) {
	content.RequestID = w.Header().Get("X-Request-Id")
	if isGRPC(r.Header) {
		content.writeGRPC(w)
		return
	}
	header, body := p.render(content, r.Header.Get("Accept"))
	for name, values := range header {
		w.Header()[name] = values
	}
	w.WriteHeader(content.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

// render makes HTML for a browser, JSON for a program that asks for it, plain
// text for a terminal.
func (p *Proxy) render(content *page, accept string) (http.Header, []byte) {
	header := http.Header{"Cache-Control": {"no-store"}, "X-Content-Type-Options": {"nosniff"}}
	for name, values := range content.Header {
		header[name] = values
	}
	var body bytes.Buffer
	switch {
	case strings.Contains(accept, "text/html"):
		header.Set("Content-Type", "text/html; charset=utf-8")
		if themed, ok := p.themed(content); ok {
			header.Set("Content-Security-Policy", themedPolicy)
			return header, themed
		}
		header.Set("Content-Security-Policy", "default-src 'none'; style-src '"+styleHash()+"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		content.html(&body)
	case strings.Contains(accept, "application/json"):
		header.Set("Content-Type", "application/json")
		encoder := json.NewEncoder(&body)
		encoder.SetEscapeHTML(false) // nobody takes this type for HTML
		_ = encoder.Encode(content)
	default:
		header.Set("Content-Type", "text/plain; charset=utf-8")
		content.text(&body)
	}
	return header, body.Bytes()
}

// themedPolicy lets the operator's pages have styles, fonts and images, of their own
// or of the service, and no script.
const themedPolicy = "default-src 'none'; style-src 'self' 'unsafe-inline'; font-src 'self' data:; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// themed makes the operator's page with what the gateway's own would tell.
func (p *Proxy) themed(content *page) ([]byte, bool) {
	if p.cfg.ErrorPages == nil {
		return nil, false
	}
	told := errorpages.Page{
		Status: content.Status, Title: content.Title, Reason: content.Reason,
		Hint: content.Hint, Command: content.Command, RequestID: content.RequestID,
	}
	for _, f := range content.Facts {
		told.Facts = append(told.Facts, errorpages.Fact(f))
	}
	return p.cfg.ErrorPages.Render(told)
}

func (content *page) html(body *bytes.Buffer) {
	t := template.Must(template.New("page").Parse(pageHTML))
	_ = t.Execute(body, struct {
		page
		Style  template.CSS
		Reason template.HTML
	}{*content, template.CSS(pageCSS), escape(content.Reason)})
}

// escape escapes text for the inside of an element. It leaves ">" alone, which
// is harmless there, so that "web -> mongo" reads the same in the source.
func escape(text string) template.HTML {
	return template.HTML(strings.ReplaceAll(template.HTMLEscapeString(text), "&gt;", ">"))
}

func styleHash() string {
	sum := sha256.Sum256([]byte(pageCSS))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

func (content *page) text(body *bytes.Buffer) {
	fmt.Fprintf(body, "%d %s\n\n%s\n", content.Status, content.Title, content.Reason)
	for _, f := range content.Facts {
		fmt.Fprintf(body, "  %-12s %s\n", f.Name+":", f.Value)
	}
	if content.Hint != "" {
		fmt.Fprintf(body, "\n%s\n", content.Hint)
	}
	if content.Command != "" {
		fmt.Fprintf(body, "  %s\n", content.Command)
	}
	fmt.Fprintf(body, "\nrequest %s\n", content.RequestID)
}
