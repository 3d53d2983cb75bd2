// Package disk makes the disk of one program fail, while the program runs and
// without its help: the kernel reports each fsync and fdatasync of the program
// (seccomp's user notification, Linux 5.9), and a Disk answers. No other system
// call is reported, so nothing else costs the program anything.
package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ailment is what ails a disk.
type Ailment string

// The ailments. A full disk refuses to sync, as a file system does that takes
// writes into memory and looks for room later; the writes themselves go through.
const (
	Healthy Ailment = ""
	Full    Ailment = "full"  // fsync and fdatasync fail with ENOSPC
	Stalled Ailment = "stall" // fsync and fdatasync do not return
)

// ErrNoReports says that the kernel does not report the program's fsyncs.
var ErrNoReports = errors.New("this kernel does not report a program's fsyncs (seccomp user notification)")

// Starter starts a command somewhere; an engine's node is one.
type Starter interface {
	Start(cmd *exec.Cmd) error
}

// Disk answers the fsyncs of the programs that were started through it. An ailment
// outlives the program that it befell. Its methods may be called by several
// goroutines at once.
type Disk struct {
	starter Starter
	self    string

	mu       sync.Mutex
	ailment  Ailment
	changed  chan struct{} // closed when the ailment changes
	reporter int           // how many programs report
	stalled  int           // how many fsyncs wait for the end of a stall
	answers  sync.WaitGroup
}

// New returns a healthy disk for programs that starter starts. self is the path of
// a program that understands ExecCommand.
func New(starter Starter, self string) *Disk {
	return &Disk{starter: starter, self: self, changed: make(chan struct{})}
}

// Set makes the disk ail, or heals it; what is stalled goes on with the new
// ailment. The error is ErrNoReports when no running program reports its fsyncs.
func (d *Disk) Set(ailment Ailment) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ailment != Healthy && d.reporter == 0 {
		return ErrNoReports
	}
	d.ailment = ailment
	close(d.changed)
	d.changed = make(chan struct{})
	return nil
}

// Ailment returns what ails the disk.
func (d *Disk) Ailment() Ailment {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ailment
}

// Reports says whether a program that runs reports its fsyncs.
func (d *Disk) Reports() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reporter > 0
}

// Wait returns when every program that was started through the disk has ended, and
// with it what answered the program, or with ctx's error.
func (d *Disk) Wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		d.answers.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the programs on a disk: %w", ctx.Err())
	}
}

// Start starts cmd so that its fsyncs are reported to the disk.
func (d *Disk) Start(cmd *exec.Cmd) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("start on a disk: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "disk")
	defer theirs.Close()
	const first = 3 // of the descriptors of ExtraFiles
	descriptor := fmt.Sprint(first + len(cmd.ExtraFiles))
	cmd.ExtraFiles = append(cmd.ExtraFiles, theirs)
	cmd.Args = append([]string{d.self, ExecCommand, descriptor, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = d.self
	if err := d.starter.Start(cmd); err != nil {
		return errors.Join(err, unix.Close(pair[0]))
	}
	_ = theirs.Close()
	d.answers.Go(func() { d.receive(pair[0]) })
	return nil
}

// receive takes the reports over and answers them until the program has ended. A
// program that cannot report closes the socket instead.
func (d *Disk) receive(socket int) {
	defer unix.Close(socket)
	data, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	var n int
	for {
		var err error
		_, n, _, _, err = unix.Recvmsg(socket, data, rights, unix.MSG_CMSG_CLOEXEC)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		return
	}
	listeners, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(listeners) != 1 {
		return
	}
	d.answer(listeners[0])
}

// report is struct seccomp_notif; what the disk does not read has no name.
type report struct {
	id uint64
	_  [72]byte
}

// reply is struct seccomp_notif_resp.
type reply struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

const (
	notifyReceive    = unix.SECCOMP_IOCTL_NOTIF_RECV
	notifySend       = unix.SECCOMP_IOCTL_NOTIF_SEND
	continueSyscall  = 1 // SECCOMP_USER_NOTIF_FLAG_CONTINUE
	pollUntilReports = -1
)

func (d *Disk) answer(listener int) {
	var stalled sync.WaitGroup
	ended := make(chan struct{})
	defer func() {
		close(ended)
		stalled.Wait()
		_ = unix.Close(listener)
	}()
	// On one processor, in turns, an answer costs less. Before Linux 6.6 it cannot be
	// had, and nothing else is lost.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	d.count(&d.reporter, +1)
	defer d.count(&d.reporter, -1)
	for {
		poll := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, pollUntilReports); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			if poll[0].Revents != 0 {
				return // every thread of the program is gone
			}
			continue
		}
		var got report
		if err := ioctl(listener, notifyReceive, unsafe.Pointer(&got)); err != nil {
			continue // the thread was killed, or interrupted, in the meantime
		}
		d.mu.Lock()
		stall := d.ailment == Stalled
		d.mu.Unlock()
		if stall {
			stalled.Go(func() { d.settle(listener, got.id, ended) })
			continue
		}
		d.settle(listener, got.id, ended)
	}
}

// settle answers one fsync, as soon as the disk does not stall.
func (d *Disk) settle(listener int, id uint64, ended <-chan struct{}) {
	for {
		d.mu.Lock()
		ailment, changed := d.ailment, d.changed
		d.mu.Unlock()
		said := reply{id: id, flags: continueSyscall}
		switch ailment {
		case Full:
			said = reply{id: id, errno: -int32(unix.ENOSPC)}
		case Stalled:
			d.count(&d.stalled, +1)
			gone := false
			select {
			case <-changed:
			case <-ended:
				gone = true
			}
			d.count(&d.stalled, -1)
			if gone {
				return
			}
			continue
		case Healthy:
		}
		// Nobody waits for the answer any more when the thread is gone.
		_ = ioctl(listener, notifySend, unsafe.Pointer(&said))
		return
	}
}

func (d *Disk) count(what *int, by int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	*what += by
}

func ioctl(descriptor int, request uintptr, argument unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(descriptor), request, uintptr(argument))
		if errno == 0 {
			return nil
		}
		if errno != syscall.EINTR {
			return errno
		}
	}
}
