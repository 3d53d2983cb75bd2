package mesh

// Judgement is what a Protocol makes of the bytes that it has seen so far.
type Judgement int

// The three judgements.
const (
	// Incomplete means that more bytes are needed.
	Incomplete Judgement = iota
	// Yes and No are final.
	Yes
	No
)

// Protocol is what an Upstream may know about a protocol in which the client
// speaks first and then waits for the answer. The functions are pure, are called
// concurrently, and get all bytes of one direction from its beginning, or, for
// Watches and Answer, from the beginning of a message. Bytes are somebody else's:
// nothing about them can be relied upon.
type Protocol struct {
	// Greeting judges the first bytes of a client: Yes if they are one whole
	// message that may be said again to another instance, as long as nobody has
	// answered it.
	Greeting func(said []byte) Judgement
	// Watches judges one message of the client, the greeting included: Yes if the
	// connection carries no work but only learns from it when the instance
	// changes, No if it carries work.
	Watches func(said []byte) Judgement
	// Answer judges the first message in said by an instance: to a greeting, or to
	// a client that only watches.
	Answer func(said []byte) Answer
	// Question is a greeting of the Upstream's own, by which it asks an instance
	// for an Answer; empty is never to ask.
	Question []byte
}

// Answer is an instance's word on whether it leads.
type Answer struct {
	// Size is the length of the message in bytes, 0 as long as it is Incomplete.
	Size int
	// Leads is Yes if the instance is the one to talk to. No sends the client to
	// another one.
	Leads Judgement
	// Epoch is the epoch in which it leads, 0 if the message does not say.
	Epoch int64
}
