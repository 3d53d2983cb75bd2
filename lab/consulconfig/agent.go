// Package consulconfig writes what Consul is told: the configuration of each
// agent, and the tokens and policies of each process. It decides; it does no
// I/O.
package consulconfig

import (
	"encoding/json"
	"fmt"
	"net/netip"
)

// Agent is what the configuration of one Consul agent depends on.
type Agent struct {
	Node              string
	Datacenter        string
	PrimaryDatacenter string
	Server            bool
	// Servers is how many servers the datacenter has.
	Servers int
	// Address is where other nodes reach this agent; Loopback is where only its
	// own node does.
	Address  netip.Addr
	Loopback netip.Addr
	// Join are the addresses of agents to look for at the start, JoinWAN those of the
	// primary datacenter's servers, for a server of another datacenter.
	Join    []netip.Addr
	JoinWAN []netip.Addr
	// HTTPSocket is the path of a Unix socket for the HTTP API; empty is Loopback's
	// TCP port.
	HTTPSocket string
	// DNSPort is 53, or 8600 where 53 cannot be bound.
	DNSPort int
	DataDir string
	// Gossip and Tokens are secrets: the file must be 0600.
	Gossip     string
	AgentToken string
	// ManagementToken is for servers of the primary datacenter, ReplicationToken for
	// those of the others, which copy all other tokens from there.
	ManagementToken  string
	ReplicationToken string
	CAFile           string
	CertFile         string
	KeyFile          string
}

// Ports that every agent uses (Consul documentation, "Required ports").
const (
	HTTPPort    = 8500
	ServerPort  = 8300
	SerfLANPort = 8301
	SerfWANPort = 8302
)

type object = map[string]any

// Config returns the agent's configuration file, in JSON.
//
// It is Consul's own security model, in full: ACLs with default deny, gossip
// encryption, TLS verified both ways between agents, intentions that deny by
// default, the HTTP API on the node's loopback only, no remote execution and no
// script checks.
func (a Agent) Config() ([]byte, error) {
	config := object{
		"node_name":                  a.Node,
		"datacenter":                 a.Datacenter,
		"primary_datacenter":         a.PrimaryDatacenter,
		"server":                     a.Server,
		"data_dir":                   a.DataDir,
		"bind_addr":                  a.Address.String(),
		"advertise_addr":             a.Address.String(),
		"client_addr":                a.Loopback.String(),
		"ports":                      a.ports(),
		"encrypt":                    a.Gossip,
		"encrypt_verify_incoming":    true,
		"encrypt_verify_outgoing":    true,
		"tls":                        a.tls(),
		"acl":                        a.acl(),
		"default_intention_policy":   "deny",
		"connect":                    object{"enabled": true},
		"disable_remote_exec":        true,
		"enable_script_checks":       false,
		"enable_local_script_checks": false,
		"disable_update_check":       true,
		"disable_host_node_id":       true,
		"leave_on_terminate":         false,
		"log_level":                  "INFO",
		"limits":                     object{"http_max_conns_per_client": 2000},
		"performance":                object{"raft_multiplier": 1},
	}
	if a.HTTPSocket != "" {
		config["addresses"] = object{"http": "unix://" + a.HTTPSocket}
		config["unix_sockets"] = object{"mode": "0600"}
	}
	if a.Server {
		config["bootstrap_expect"] = a.Servers
		config["ui_config"] = object{"enabled": true}
		config["rejoin_after_leave"] = true
		config["gossip_wan"] = gossipWAN()
	}
	config["retry_join"] = addressed(a.Join, SerfLANPort)
	config["retry_interval"] = "1s"
	if len(a.JoinWAN) > 0 {
		config["retry_join_wan"] = addressed(a.JoinWAN, SerfWANPort)
		config["retry_interval_wan"] = "1s"
	}
	encoded, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the configuration of %s: %w", a.Node, err)
	}
	return encoded, nil
}

// secondary reports whether the agent is a server of a datacenter that copies
// tokens, intentions and the trust in the root from the primary one.
func (a Agent) secondary() bool { return a.Server && a.Datacenter != a.PrimaryDatacenter }

// acl is the access control. A secondary's servers hold a copy of every token, so
// that their datacenter goes on while the primary is away; the copying must be on
// from the first start (Consul documentation, "ACL token replication").
func (a Agent) acl() object {
	tokens := object{"agent": a.AgentToken}
	acl := object{
		"enabled":        true,
		"default_policy": "deny",
		"down_policy":    "extend-cache",
		"tokens":         tokens,
	}
	switch {
	case a.secondary():
		tokens["replication"] = a.ReplicationToken
		acl["enable_token_replication"] = true
	case a.Server:
		tokens["initial_management"] = a.ManagementToken
	}
	return acl
}

// gossipWAN lets servers notice the loss of another datacenter about as fast as
// that of a neighbour: Consul's defaults are for links around the world, and take
// half a minute and more.
func gossipWAN() object {
	return object{"gossip_interval": "200ms", "probe_interval": "1s", "probe_timeout": "500ms", "suspicion_mult": 4}
}

func addressed(hosts []netip.Addr, port int) []string {
	addresses := make([]string, len(hosts))
	for i, host := range hosts {
		addresses[i] = fmt.Sprintf("%s:%d", host, port)
	}
	return addresses
}

func (a Agent) tls() object {
	return object{
		"defaults": object{
			"ca_file":         a.CAFile,
			"cert_file":       a.CertFile,
			"key_file":        a.KeyFile,
			"verify_incoming": true,
			"verify_outgoing": true,
		},
		"internal_rpc": object{"verify_server_hostname": true},
	}
}

func (a Agent) ports() object {
	ports := object{
		"http":     HTTPPort,
		"https":    -1,
		"grpc":     -1,
		"grpc_tls": -1,
		"dns":      a.DNSPort,
		"serf_lan": SerfLANPort,
		"server":   ServerPort,
		"serf_wan": -1,
	}
	if a.Server {
		ports["serf_wan"] = SerfWANPort
	}
	return ports
}
