package control

// Exit codes of the command line, the same for every command. An Error carries
// one, so that the supervisor can say how its client should end.
const (
	ExitOK           = 0   // yes, done, no drift
	ExitNo           = 1   // no, denied, drift
	ExitUsage        = 2   // usage or tool error
	ExitInconclusive = 3   // neither yes nor no
	ExitMissing      = 4   // this machine lacks something
	ExitCannotRun    = 126 // exec: there, but it cannot be run, as a shell says it
	ExitNotFound     = 127 // exec: no such command, as a shell says it
	ExitInterrupted  = 130 // interrupted, with everything undone
	ExitLeftBehind   = 131 // interrupted, with something left
)
