package mesh

import (
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

// IdentityReport says who a process is and whether its certificate holds.
type IdentityReport struct {
	ID        identity.ID `json:"id"`
	Serial    string      `json:"serial,omitempty"`
	NotBefore time.Time   `json:"not_before,omitzero"`
	NotAfter  time.Time   `json:"not_after,omitzero"`
	// Chain is "ok", or why the own certificate would not be believed.
	Chain string `json:"chain"`
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
}

// Report is the state of the mesh in one process at one moment.
type Report struct {
	Identities  []IdentityReport `json:"identities"`
	Policies    []PolicyReport   `json:"policies"`
	Connections []ConnectionInfo `json:"connections"`
	Counters    Counters         `json:"counters"`
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
	// Now tells the time; nil is time.Now.
	Now func() time.Time
}

// Report returns the state at this moment.
func (c ReportConfig) Report() Report { return Report{} }

// Handler serves the report as JSON to GET.
func (c ReportConfig) Handler() http.Handler { return http.NotFoundHandler() }
