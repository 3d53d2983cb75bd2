package engine

import (
	"os"
	"os/exec"
	"syscall"
)

// Isolate prepares cmd to run as PID 1 of a lab: in mount, PID and network
// namespaces of its own, in a session of its own. With unprivileged it also gets a
// user namespace, in which the caller is root; that needs no privilege where the
// kernel allows unprivileged user namespaces. Nothing of cmd's process tree
// outlives cmd's process: the kernel sees to that.
func Isolate(cmd *exec.Cmd, unprivileged bool) {
	attributes := cmd.SysProcAttr
	if attributes == nil {
		attributes = &syscall.SysProcAttr{}
		cmd.SysProcAttr = attributes
	}
	attributes.Setsid = true
	attributes.Cloneflags |= syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET
	if !unprivileged {
		return
	}
	attributes.Cloneflags |= syscall.CLONE_NEWUSER
	attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
	attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	attributes.GidMappingsEnableSetgroups = false
}
