//go:build race

package mesh_test

// comeAndGo is how many connections come and go in the test of that name: the
// race detector makes each of them several times as dear.
const comeAndGo = 2_000
