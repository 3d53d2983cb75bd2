//go:build !race

package mesh_test

// comeAndGo is how many connections come and go in the test of that name.
const comeAndGo = 10_000
