package engine

import (
	"errors"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// errThreadEnded means that the machine was removed.
var errThreadEnded = errors.New("it was removed")

// thread is an operating system thread set aside for jobs. Namespaces belong to
// threads, so a thread that has entered a node's namespaces is the place where the
// node's processes and sockets are made. The thread ends with stop and is never
// given back to the Go scheduler.
type thread struct {
	jobs  chan func()
	quit  chan struct{}
	ended chan struct{}
	once  sync.Once
}

// startThread starts a thread and runs setup on it. When setup fails, the thread
// has ended and its error is returned.
func startThread(setup func() error) (*thread, error) {
	t := &thread{jobs: make(chan func()), quit: make(chan struct{}), ended: make(chan struct{})}
	ready := make(chan error, 1)
	go t.run(setup, ready)
	if err := <-ready; err != nil {
		<-t.ended
		return nil, err
	}
	return t, nil
}

func (t *thread) run(setup func() error, ready chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// The process's main thread must stay as it is: /proc/self means it. While
		// this goroutine holds it, another one cannot be put on it.
		inner := make(chan error)
		go t.run(setup, inner)
		err := <-inner
		runtime.UnlockOSThread()
		ready <- err
		return
	}
	defer close(t.ended) // the lock is never undone: the thread dies with its goroutine
	err := setup()
	ready <- err
	if err != nil {
		return
	}
	for {
		select {
		case job := <-t.jobs:
			job()
		case <-t.quit:
			return
		}
	}
}

// do runs job on the thread and waits for it.
func (t *thread) do(job func()) error {
	done := make(chan struct{})
	select {
	case t.jobs <- func() { defer close(done); job() }:
		<-done
		return nil
	case <-t.ended:
		return errThreadEnded
	}
}

// stop ends the thread after the job in progress.
func (t *thread) stop() {
	t.once.Do(func() { close(t.quit) })
	<-t.ended
}
