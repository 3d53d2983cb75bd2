package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// nodeFiles returns the files that differ from node to node, by path.
func nodeFiles(spec NodeSpec) map[string]string {
	files := map[string]string{
		"/etc/hosts":    fmt.Sprintf("127.0.0.1 localhost\n%s %s\n", spec.Address.Addr(), spec.Name),
		"/etc/hostname": spec.Name + "\n",
	}
	if spec.Nameserver.IsValid() {
		files["/etc/resolv.conf"] = fmt.Sprintf("nameserver %s\noptions timeout:1 attempts:2\n", spec.Nameserver)
	}
	return files
}

// overlayFiles puts files over those of the host in the calling thread's mount
// namespace. They live in memory alone. A path that the host does not have is
// left out and named in the error.
//
// The memory file system is mounted, for as long as it takes to bind its files
// elsewhere, over a directory that exists everywhere; the thread's mount namespace
// has no other user yet, so nobody sees the directory covered.
func overlayFiles(files map[string]string) error {
	const staging = "/tmp"
	targets := make(map[string]int, len(files))
	defer func() {
		for _, fd := range targets {
			_ = unix.Close(fd)
		}
	}()
	var errs []error
	for path := range files {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			errs = append(errs, fmt.Errorf("open %s: %w", path, err))
			continue
		}
		targets[path] = fd
	}
	const hardened = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("tmpfs", staging, "tmpfs", hardened, "size=64k,mode=755"); err != nil {
		return errors.Join(append(errs, fmt.Errorf("mount tmpfs: %w", err))...)
	}
	for path, fd := range targets {
		source := filepath.Join(staging, strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "-"))
		if err := os.WriteFile(source, []byte(files[path]), 0o644); err != nil {
			errs = append(errs, err)
			continue
		}
		if err := unix.Mount(source, fmt.Sprintf("/proc/thread-self/fd/%d", fd), "", unix.MS_BIND, ""); err != nil {
			errs = append(errs, fmt.Errorf("bind %s: %w", path, err))
		}
	}
	if err := unix.Unmount(staging, unix.MNT_DETACH); err != nil {
		errs = append(errs, fmt.Errorf("unmount tmpfs: %w", err))
	}
	return errors.Join(errs...)
}
