// Mongo-agent is the process beside one mongod. It follows the member's role and
// offers it to the mesh as mongo-primary or mongo-secondary while it has that
// role and no longer; it carries the replication traffic of its mongod over
// mTLS; and it brings the replica set into being, once.
//
// It does not start mongod and never looks into the traffic that it carries.
package main

import "sluice/internal/service"

func main() { service.Main(run) }
