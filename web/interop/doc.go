// Package interop holds tests of programs that are not ours against the local
// listeners of web, in a whole lab.
package interop
