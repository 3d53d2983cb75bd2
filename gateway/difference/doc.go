// Package difference holds the gateway's routing beside that of Fabio, whose tags
// it reads: the same tags, the same requests, and for each request the same
// answer, but for a list of differences that are meant (differences_test.go, and
// docs/gateway.md under "Where it differs from Fabio").
//
// Fabio is there twice. A model says what it does, in our own words and after its
// documentation and source; each difference is a correction of the model, so that
// the model with all corrections must say what the gateway does. And make
// fabio-differential runs Fabio's program (from SLUICE_FABIO, or as tools/peers/get
// gets it) against a real Consul, where it must do what the model without
// corrections says. That test has the build tag fabio, because not everybody can
// have the program.
//
// There is nothing here but tests.
package difference
