datacenter "dc2" {
  subnet      = "198.18.2.0/24"
  replica_set = "consuldemo"

  host_ports {
    gateway = 9989
    admin   = 9988
    consul  = 8501
  }

  node "consul-2" {
    address = "198.18.2.2"
    server  = true
  }

  node "gateway-2" {
    address  = "198.18.2.31"
    services = ["gateway"]
  }

  node "web-3" {
    address  = "198.18.2.11"
    services = ["web"]
  }

  node "mongo-4" {
    address  = "198.18.2.21"
    services = ["mongo"]
    member   = "127.0.10.4:27017"
  }

  node "mongo-5" {
    address  = "198.18.2.22"
    services = ["mongo"]
    member   = "127.0.10.5:27017"
  }
}
