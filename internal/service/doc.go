// Package service is what every process of the mesh has in common: the flags
// that place it on a node, its logger, the group of actors that it consists of,
// and the operations endpoint on its node's loopback.
//
// A process is main -> Main(run) -> run: parse flags, construct every part, add
// each to a Group in the order in which they depend on each other, Group.Run.
// Nothing outside Main exits the process.
package service
