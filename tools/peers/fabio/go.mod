module sluice/tools/peers/fabio

go 1.26.7

// tools/peers/get downloads this module, checks it against go.sum, and builds Fabio
// in a copy of it, by its own go.mod and go.sum.
require github.com/fabiolb/fabio v1.5.15
