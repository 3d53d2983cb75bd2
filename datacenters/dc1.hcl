# The primary datacenter: it signs the Connect root and owns the intentions.
#
# A node is one machine. Each has its own loopback and its own Consul agent, and
# runs the services named here beside it. The first address of the subnet (.1)
# belongs to the router.

datacenter "dc1" {
  primary     = true
  subnet      = "198.18.1.0/24"
  replica_set = "consuldemo"

  # On 127.0.0.1 of the host.
  host_ports {
    gateway = 9999
    admin   = 9998
    consul  = 8500
  }

  node "consul-1" {
    address = "198.18.1.2"
    server  = true
  }

  node "gateway-1" {
    address  = "198.18.1.31"
    services = ["gateway"]
  }

  node "web-1" {
    address  = "198.18.1.11"
    services = ["web"]
  }

  node "web-2" {
    address  = "198.18.1.12"
    services = ["web"]
  }

  # A member is called by the same name on every node: on its own node that is
  # mongod itself, on every other node a listener of the local mongo-agent.

  node "mongo-1" {
    address  = "198.18.1.21"
    services = ["mongo"]
    member   = "127.0.10.1:27017"
  }

  node "mongo-2" {
    address  = "198.18.1.22"
    services = ["mongo"]
    member   = "127.0.10.2:27017"
  }

  node "mongo-3" {
    address  = "198.18.1.23"
    services = ["mongo"]
    member   = "127.0.10.3:27017"
  }
}
