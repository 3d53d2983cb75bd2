// Package proofs_test holds a whole lab to its claims, on the wire and from
// inside its nodes.
//
// One lab serves all claims, one after the other; each leaves it healed and with
// the intentions of the files. What has to happen inside a node is done by this
// test's own program, started there through `sluice exec` as a probe: it holds
// the node's service token and nothing else that a process of that node does not
// hold. See TestMain.
package proofs_test
