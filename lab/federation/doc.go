// Package federation holds the proofs of what two datacenters do together: real
// processes, real partitions, real load. They take some minutes, so they have a build
// tag and a target of their own: make test-dc2.
package federation
