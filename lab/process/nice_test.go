package process

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAFavouredProcessIsFavouredAfterARestartTooAndOthersAreNot(t *testing.T) {
	wanted := -5
	if os.Geteuid() != 0 {
		wanted = 5 // everybody may have less
	}
	for _, nice := range []int{0, wanted} {
		p, err := Start(t.Context(), Here{}, Spec{Name: "sleep", Path: "/bin/sleep", Args: []string{"60"}, Nice: nice})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Kill(context.Background()) })
		wantNice(t, p.PID(), nice)
		if err := p.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantNice(t, p.PID(), nice)
	}
}

func wantNice(t *testing.T, pid, nice int) {
	t.Helper()
	// The system call answers 20 - nice (getpriority(2), "C library/kernel differences").
	if got, err := unix.Getpriority(unix.PRIO_PROCESS, pid); err != nil || 20-got != nice {
		t.Errorf("the process has nice %d (%v), want %d", 20-got, err, nice)
	}
	group, err := os.ReadFile(fmt.Sprintf("/proc/%d/autogroup", pid))
	if os.IsNotExist(err) {
		return // this kernel has none
	}
	if err != nil {
		t.Fatal(err)
	}
	// "/autogroup-185 nice -10"
	if _, got, _ := strings.Cut(strings.TrimSpace(string(group)), " nice "); got != strconv.Itoa(nice) {
		t.Errorf("its session is %q, want nice %d", group, nice)
	}
}
