// Package answers reads answers of Consul's HTTP API while they arrive. It keeps of
// them only what the product uses, and shares with the last answer all that is the
// same: of a service with thousands of tags Consul sends all of them again whenever
// one changes, and whoever follows it would make and throw away each of them each
// time.
//
// It is strict as encoding/json is, and stricter with a member that is there twice, with
// a null among what is listed, and with an instance that has no node or no service, none
// of which Consul says: an answer is read whole or refused. It starts nothing and asks
// nobody for the time.
package answers
