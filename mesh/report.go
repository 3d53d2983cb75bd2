package mesh

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"sluice/identity"
	"sluice/intentions"
)

// The sides of a policy, for PolicyReport.Side.
const (
	SideDestination = "destination"
	SideSource      = "source"
)

// chainOK is what IdentityReport.Chain says of a certificate that peers believe.
const chainOK = "ok"

// IdentityReport says who a process is and whether its certificate holds.
type IdentityReport struct {
	ID        identity.ID `json:"id"`
	Serial    string      `json:"serial,omitempty"`
	NotBefore time.Time   `json:"not_before,omitzero"`
	NotAfter  time.Time   `json:"not_after,omitzero"`
	// Chain is "ok", or why the own certificate would not be believed.
	Chain string `json:"chain"`
	// Issuers vouch for the leaf, from the one that signed it to the root.
	Issuers []IssuerReport `json:"issuers,omitempty"`
}

// Root identifies the root that the identity hangs on; "" if there is none.
func (r IdentityReport) Root() string {
	if len(r.Issuers) == 0 {
		return ""
	}
	return r.Issuers[len(r.Issuers)-1].Key
}

// IssuerReport is a certificate of an authority.
type IssuerReport struct {
	Name string `json:"name"`
	// Key identifies its key: the first 8 bytes of the SHA-256 of the public key, in
	// hexadecimal digits. A renewed certificate of the same key has the same.
	Key      string    `json:"key"`
	NotAfter time.Time `json:"not_after"`
}

// PolicyReport says which intentions are enforced.
type PolicyReport struct {
	Service string `json:"service"`
	// Side is SideDestination or SideSource.
	Side string `json:"side"`
	// Arrived is false while no policy has arrived; the rest is empty then.
	Arrived   bool              `json:"arrived"`
	Index     uint64            `json:"index"`
	Confirmed time.Time         `json:"confirmed,omitzero"`
	Default   intentions.Action `json:"default"`
	Rules     []intentions.Rule `json:"rules"`
	// Denials are the datacenter's own, on top of the rules.
	Denials []intentions.Denial `json:"break_glass,omitempty"`
}

// Report is the state of the mesh in one process at one moment.
type Report struct {
	Identities  []IdentityReport `json:"identities"`
	Policies    []PolicyReport   `json:"policies"`
	Connections []ConnectionInfo `json:"connections"`
	Counters    Counters         `json:"counters"`
	Upstreams   []UpstreamReport `json:"upstreams,omitempty"`
}

// PolicyRef names a policy that a report shows.
type PolicyRef struct {
	Service string
	// Side is SideDestination or SideSource.
	Side   string
	Source PolicySource
}

// ReportConfig is what a report is made of. It holds no secret: keys never
// enter a report.
type ReportConfig struct {
	Credentials []CredentialSource
	Policies    []PolicyRef
	Table       *Table
	Upstreams   []*Upstream
	// Now tells the time; nil is time.Now.
	Now func() time.Time
}

// Report returns the state at this moment.
func (c ReportConfig) Report() Report {
	now := time.Now
	if c.Now != nil {
		now = c.Now
	}
	report := Report{Identities: []IdentityReport{}, Policies: []PolicyReport{}, Connections: []ConnectionInfo{}}
	for _, source := range c.Credentials {
		report.Identities = append(report.Identities, reportIdentity(source, now()))
	}
	for _, ref := range c.Policies {
		report.Policies = append(report.Policies, reportPolicy(ref))
	}
	if c.Table != nil {
		report.Connections = c.Table.Connections()
		report.Counters = c.Table.Counters()
	}
	for _, upstream := range c.Upstreams {
		report.Upstreams = append(report.Upstreams, upstream.Report())
	}
	return report
}

// Handler serves the report as JSON to GET.
func (c ReportConfig) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "use GET", http.StatusMethodNotAllowed)
			return
		}
		body, err := json.MarshalIndent(c.Report(), "", "  ")
		if err != nil {
			http.Error(w, "encode report: "+err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(append(body, '\n'))
	})
}

func reportIdentity(source CredentialSource, now time.Time) IdentityReport {
	c, err := source.Credentials()
	if err != nil {
		return IdentityReport{Chain: err.Error()}
	}
	report := IdentityReport{ID: c.ID, Chain: chainOK}
	if c.Certificate != nil && c.Certificate.Leaf != nil {
		leaf := c.Certificate.Leaf
		report.Serial, report.NotBefore, report.NotAfter = serial(leaf), leaf.NotBefore, leaf.NotAfter
	}
	if err := c.Verify(now); err != nil {
		report.Chain = err.Error()
	}
	for _, issuer := range c.issuers(now) {
		sum := sha256.Sum256(issuer.RawSubjectPublicKeyInfo)
		report.Issuers = append(report.Issuers, IssuerReport{Name: issuer.Subject.CommonName, Key: hex.EncodeToString(sum[:8]), NotAfter: issuer.NotAfter})
	}
	return report
}

func reportPolicy(ref PolicyRef) PolicyReport {
	report := PolicyReport{Service: ref.Service, Side: ref.Side, Rules: []intentions.Rule{}}
	if ref.Source == nil {
		return report
	}
	policy, ok := ref.Source.Policy()
	if !ok {
		return report
	}
	report.Arrived, report.Index, report.Confirmed = true, policy.Index, policy.Confirmed
	report.Default = policy.Set.Default()
	report.Rules = append(report.Rules, policy.Set.Rules()...)
	report.Denials = policy.Set.Overlay().Denials()
	return report
}
