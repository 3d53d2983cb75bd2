package consulconfig

import (
	"fmt"
	"strings"

	"sluice/datacenters"
)

// Token is an ACL token with the one policy that it carries.
type Token struct {
	// Name is unique in the lab; the file that holds the secret is named after it.
	Name string
	// Description is what people see in Consul's list of tokens.
	Description string
	// NodeIdentity, when not empty, makes it the token of that node's agent
	// (Consul: ACL node identity: node:write on itself, service reads).
	NodeIdentity string
	// Rules is the policy in Consul's ACL language, on top of a NodeIdentity.
	Rules string
}

// AgentToken is the name of the token of a node's Consul agent.
func AgentToken(node string) string { return "agent-" + node }

// ServiceToken is the name of the token of a service's process on a node.
func ServiceToken(service, node string) string { return service + "-on-" + node }

// Names of the services in Consul, by the process that serves them.
const (
	mongoPrimary   = "mongo-primary"
	mongoSecondary = "mongo-secondary"
	mongoRepl      = "mongo-repl"
)

// Tokens returns the tokens of a datacenter's agents and processes, each with
// the least that its owner needs: write on the names it serves, read on the
// names it dials, and node reads, without which Consul hides every instance.
func Tokens(dc datacenters.Datacenter) []Token {
	var tokens []Token
	for _, node := range dc.Nodes {
		tokens = append(tokens, Token{
			Name:         AgentToken(node.Name),
			Description:  "Consul agent of " + node.Name,
			NodeIdentity: node.Name,
			// So that people who look around inside a node see the others.
			Rules: nodeReads,
		})
		for _, service := range node.Services {
			tokens = append(tokens, Token{
				Name:        ServiceToken(service, node.Name),
				Description: fmt.Sprintf("%s on %s", service, node.Name),
				Rules:       serviceRules(dc, node, service),
			})
		}
	}
	return tokens
}

// OperatorRules is the policy of the command line: it may read everything that
// `status` shows, write intentions, the gateway's overrides and the blog's
// configuration, and rotate the certificate authority.
const OperatorRules = `
node_prefix ""    { policy = "read" }
service_prefix "" { policy = "read" intentions = "write" }
agent_prefix ""   { policy = "read" }
key_prefix "fabio/config" { policy = "write" }
key_prefix "sluice/deny" { policy = "read" }
key_prefix "web/" { policy = "write" }
operator = "write"
`

// BreakGlassKey is the key below which each datacenter keeps its own denials. Keys are
// not copied between datacenters, so that it can be written while the primary is away.
const BreakGlassKey = "sluice/deny"

// BreakGlassRules is the policy of the one who may deny in a datacenter by itself, and
// nothing else.
const BreakGlassRules = `
key_prefix "sluice/deny" { policy = "write" }
`

// readsBreakGlass lets a service know what its datacenter denies.
const readsBreakGlass = `key_prefix "sluice/deny" { policy = "read" }` + "\n"

// ReplicationRules is the policy with which the servers of a secondary datacenter
// copy tokens, policies and intentions from the primary, and have it sign their
// intermediate certificate (Consul documentation, "ACL replication", "WAN
// federation").
const ReplicationRules = `
acl = "write"
operator = "write"
service_prefix "" { policy = "read" intentions = "read" }
`

// UIRules is the policy of a person who looks at Consul's pages.
const UIRules = `
node_prefix ""    { policy = "read" }
service_prefix "" { policy = "read" intentions = "read" }
agent_prefix ""   { policy = "read" }
key_prefix ""     { policy = "read" }
operator = "read"
`

// nodeReads lets its owner see nodes. Without it Consul hides every instance too.
const nodeReads = `node_prefix "" { policy = "read" }` + "\n"

func serviceRules(dc datacenters.Datacenter, node datacenters.Node, service string) string {
	var b strings.Builder
	b.WriteString(nodeReads)
	b.WriteString(readsBreakGlass)
	switch service {
	case "gateway":
		// Routes come from tags that any service may carry.
		b.WriteString(`service "gateway" { policy = "write" }` + "\n")
		b.WriteString(`service_prefix "" { policy = "read" }` + "\n")
		// And from the operator's changes to them.
		b.WriteString(`key_prefix "fabio/config" { policy = "read" }` + "\n")
	case "web":
		b.WriteString(`service "web" { policy = "write" }` + "\n")
		b.WriteString(`key_prefix "web/" { policy = "read" }` + "\n")
		for _, upstream := range []string{mongoPrimary, mongoSecondary} {
			fmt.Fprintf(&b, "service %q { policy = \"read\" }\n", upstream)
		}
	case "mongo":
		for _, name := range []string{mongoPrimary, mongoSecondary, mongoRepl} {
			fmt.Fprintf(&b, "service %q { policy = \"write\" }\n", name)
		}
		if dc.Primary && initiates(dc, node) {
			fmt.Fprintf(&b, "key_prefix %q { policy = \"write\" }\n", "sluice/mongo/"+dc.ReplicaSet+"/")
			fmt.Fprintf(&b, "session %q { policy = \"write\" }\n", node.Name)
		}
	}
	return b.String()
}

// initiates reports whether the node's agent is the one that brings the replica
// set up: the primary datacenter's first member's, under a lock. No other agent needs the lock's key.
func initiates(dc datacenters.Datacenter, node datacenters.Node) bool {
	for _, other := range dc.Nodes {
		if other.Member.IsValid() {
			return other.Name == node.Name
		}
	}
	return false
}
