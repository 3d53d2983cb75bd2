package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// setNice gives a process that leads a session its share of busy processors:
// nice, -20 (most) to 19, for all threads of its group (setpriority(2)) and for
// the group that Linux shares processors out to first (sched(7), "The autogroup
// feature"), without which the former counts only inside of the session. More
// than the default needs CAP_SYS_NICE on the machine, not only in a user
// namespace; a kernel without autogroups has no second part.
func setNice(pid, nice int) error {
	err := unix.Setpriority(unix.PRIO_PGRP, pid, nice)
	group := os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", pid), []byte(strconv.Itoa(nice)), 0)
	if errors.Is(group, os.ErrNotExist) {
		group = nil
	}
	if err := errors.Join(err, group); err != nil {
		return fmt.Errorf("set nice %d for pid %d: %w", nice, pid, err)
	}
	return nil
}
