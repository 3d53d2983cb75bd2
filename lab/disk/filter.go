package disk

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ExecCommand is the hidden first argument with which the program starts itself in
// the place of a program whose disk can be made to fail: it asks the kernel to
// report the program's fsyncs, hands the reports to its parent and becomes the
// program. Its further arguments are the descriptor of a Unix socket, the
// program's path and the program's arguments.
const ExecCommand = "__exec-on-disk"

// ExecMain is ExecCommand; it returns only when the program cannot be started. On a
// kernel that cannot report, the program runs all the same.
func ExecMain(args []string) error {
	if len(args) < 2 {
		return errors.New("run on a disk: want a descriptor and a program")
	}
	socket, err := strconv.Atoi(args[0])
	if err != nil {
		return fmt.Errorf("run on a disk: descriptor %q: %w", args[0], err)
	}
	// The filter is the calling thread's; the program takes that thread's place.
	runtime.LockOSThread()
	if listener, err := installFilter(); err == nil {
		err = unix.Sendmsg(socket, []byte{0}, unix.UnixRights(listener), nil, 0)
		if err != nil {
			return fmt.Errorf("run on a disk: hand over the reports: %w", err)
		}
	}
	unix.CloseOnExec(socket)
	path, err := exec.LookPath(args[1])
	if err != nil {
		return fmt.Errorf("run on a disk: %w", err)
	}
	if err := syscall.Exec(path, args[1:], os.Environ()); err != nil {
		return fmt.Errorf("run %s on a disk: %w", path, err)
	}
	return nil
}

// Offsets in struct seccomp_data.
const (
	offsetNumber       = 0
	offsetArchitecture = 4
)

func architecture() (uint32, bool) {
	switch runtime.GOARCH {
	case "amd64":
		return unix.AUDIT_ARCH_X86_64, true
	case "arm64":
		return unix.AUDIT_ARCH_AARCH64, true
	default:
		return 0, false
	}
}

// installFilter makes the kernel report this thread's fsyncs, and those of all that
// it becomes and starts, to whoever holds the descriptor that it returns.
func installFilter() (int, error) {
	arch, ok := architecture()
	if !ok {
		return -1, fmt.Errorf("report fsyncs: not on %s", runtime.GOARCH)
	}
	const load, equal, answer = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	program := []unix.SockFilter{
		{Code: load, K: offsetArchitecture},
		{Code: equal, K: arch, Jf: 3},
		{Code: load, K: offsetNumber},
		{Code: equal, K: unix.SYS_FSYNC, Jt: 2},
		{Code: equal, K: unix.SYS_FDATASYNC, Jt: 1},
		{Code: answer, K: unix.SECCOMP_RET_ALLOW},
		{Code: answer, K: unix.SECCOMP_RET_USER_NOTIF},
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	// Without it the kernel takes a filter from root alone.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, fmt.Errorf("report fsyncs: %w", err)
	}
	listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&filter)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return -1, fmt.Errorf("report fsyncs: %w", errno)
	}
	return int(listener), nil
}
