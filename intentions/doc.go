// Package intentions decides who may talk to whom. An intention says what
// happens to a connection from a source service to a destination service; this
// package reads intentions from files, checks them, ranks them as Consul does,
// decides by them, explains a decision, and compares the files with what Consul
// holds.
//
// Beside the package lie the lab's own intentions, one file per destination, in
// the form that "consul config write" takes.
//
// The package starts no goroutine, opens no socket and asks nobody for the time.
package intentions
