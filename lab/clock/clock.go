// Package clock starts a program with a clock that is wrong by some time: a library
// of Debian's (libfaketime) stands between the program and the C library, and adds
// the offset to the wall clock. The monotonic clock, by which programs wait, goes
// on as it is.
//
// Only programs that ask the C library for the time can be deceived: mongod can, a
// Go program cannot. A program that runs already keeps its clock.
package clock

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"
)

// ErrNoLibrary means that libfaketime is not installed.
var ErrNoLibrary = errors.New("libfaketime is not installed")

// Starter starts a command somewhere; an engine's node is one.
type Starter interface {
	Start(cmd *exec.Cmd) error
}

// Clock is the clock of the programs that are started through it. Its methods may
// be called by several goroutines at once.
type Clock struct {
	starter Starter

	mu      sync.Mutex
	offset  time.Duration
	library string
}

// New returns a clock that is right, for programs that starter starts.
func New(starter Starter) *Clock { return &Clock{starter: starter} }

// Set makes the clock wrong by offset, ahead if it is positive, for the programs
// that are started from now on; 0 makes it right. The error is ErrNoLibrary.
func (c *Clock) Set(offset time.Duration) error {
	library := ""
	if offset != 0 {
		var err error
		if library, err = find(); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset, c.library = offset, library
	return nil
}

// Offset returns by how much the clock is wrong.
func (c *Clock) Offset() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offset
}

// Able returns ErrNoLibrary where a clock cannot be set wrong.
func Able() error {
	_, err := find()
	return err
}

// find returns the path of the library for programs with threads, where Debian and
// its kin, and Red Hat's, install it.
func find() (string, error) {
	for _, folder := range []string{
		"/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime",
		"/usr/lib64/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime",
	} {
		path := folder + "/libfaketimeMT.so.1"
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", ErrNoLibrary
}

// Start starts cmd under the clock.
func (c *Clock) Start(cmd *exec.Cmd) error {
	c.mu.Lock()
	offset, library := c.offset, c.library
	c.mu.Unlock()
	if offset != 0 {
		cmd.Env = append(cmd.Environ(),
			"LD_PRELOAD="+library,
			fmt.Sprintf("FAKETIME=%+d", int64(offset/time.Second)),
			"FAKETIME_DONT_FAKE_MONOTONIC=1", // what waits must not wait an hour
			"NO_FAKE_STAT=1",                 // files keep their times
		)
	}
	return c.starter.Start(cmd)
}
