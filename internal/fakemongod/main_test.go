package fakemongod_test

import (
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

const (
	stop = syscall.SIGSTOP
	cont = syscall.SIGCONT
	term = syscall.SIGTERM
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
