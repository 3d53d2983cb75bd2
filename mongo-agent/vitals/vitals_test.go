package vitals_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"sluice/internal/mongotest"
	"sluice/mongo-agent/vitals"
)

const childVariable = "VITALS_TEST_LISTEN"

func TestMain(m *testing.M) {
	if address := os.Getenv(childVariable); address != "" {
		beChild(address)
		return
	}
	goleak.VerifyTestMain(m)
}

// beChild listens and does what its input says: a number of milliseconds is a
// wait of that length in state D.
func beChild(address string) {
	if _, err := net.Listen("tcp", address); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		ms, _ := strconv.Atoi(lines.Text())
		uninterruptible(time.Duration(ms) * time.Millisecond)
	}
}

// uninterruptible keeps the calling thread in state D: a parent waits like that
// for a child that it made with vfork, until the child ends.
func uninterruptible(d time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pause := unix.NsecToTimespec(d.Nanoseconds())
	if pid, _, _ := syscall.RawSyscall6(unix.SYS_CLONE, unix.CLONE_VFORK|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0); pid == 0 {
		// Raw calls: this copy of the process has no Go runtime.
		_, _, _ = syscall.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0)
		_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}

// child is a process that listens.
type child struct {
	command *exec.Cmd
	in      io.Writer
}

func start(t *testing.T, address string) *child {
	t.Helper()
	c := &child{command: exec.Command(os.Args[0])}
	c.command.Env = append(os.Environ(), childVariable+"="+address)
	c.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := c.command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.command.Start(); err != nil {
		t.Fatal(err)
	}
	c.in = in
	t.Cleanup(func() { c.kill() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the child says %q, %v", line, err)
	}
	return c
}

func (c *child) pid() int { return c.command.Process.Pid }

func (c *child) kill() {
	_ = c.command.Process.Kill()
	_ = c.command.Wait()
}

func (c *child) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := c.command.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// watch runs a watch; next returns its next event.
func watch(t *testing.T, cfg vitals.Config) (next func() vitals.Event) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	events := make(chan vitals.Event, 100)
	var group sync.WaitGroup
	group.Go(func() {
		if err := vitals.New(cfg).Run(ctx, events); err != context.Canceled {
			t.Errorf("Run returns %v", err)
		}
	})
	t.Cleanup(func() { cancel(); group.Wait() })
	return func() vitals.Event {
		t.Helper()
		select {
		case e := <-events:
			return e
		case <-time.After(10 * time.Second):
			t.Fatal("no event within 10 s")
			return vitals.Event{}
		}
	}
}

func want(t *testing.T, e vitals.Event, state vitals.State, pid int, reason string) {
	t.Helper()
	if e.State != state || e.PID != pid || !strings.Contains(e.Reason, reason) {
		t.Fatalf("event %v of %d (%q), want %v of %d (%q)", e.State, e.PID, e.Reason, state, pid, reason)
	}
}

func TestAProcessIsFollowedFromBeforeItsStartToItsSuccessor(t *testing.T) {
	address := mongotest.FreeAddress(t, "127.0.0.1")
	next := watch(t, vitals.Config{Address: address})
	want(t, next(), vitals.Unknown, 0, "nothing listens on "+address)

	first := start(t, address)
	want(t, next(), vitals.Running, first.pid(), "")
	for range 3 {
		at := time.Now()
		first.signal(t, syscall.SIGSTOP)
		e := next()
		want(t, e, vitals.Stopped, first.pid(), "stopped by a signal")
		t.Logf("stopped: known after %v", e.At.Sub(at))
		if late := e.At.Sub(at); late > 100*time.Millisecond {
			t.Errorf("stopped is known after %v, want 100 ms at most", late)
		}
		first.signal(t, syscall.SIGCONT)
		want(t, next(), vitals.Running, first.pid(), "")
	}

	at := time.Now()
	first.kill()
	e := next()
	want(t, e, vitals.Gone, first.pid(), "ended")
	t.Logf("killed: known after %v", e.At.Sub(at))

	second := start(t, address)
	want(t, next(), vitals.Running, second.pid(), "")
	second.signal(t, syscall.SIGSTOP)
	want(t, next(), vitals.Stopped, second.pid(), "")
	second.kill()
	want(t, next(), vitals.Gone, second.pid(), "")
}

func TestAProcessThatIsAlreadyStoppedIsFound(t *testing.T) {
	address := mongotest.FreeAddress(t, "127.0.0.1")
	c := start(t, address)
	c.signal(t, syscall.SIGSTOP)
	next := watch(t, vitals.Config{Address: address})
	e := next()
	if e.State == vitals.Running { // the signal takes a moment
		e = next()
	}
	want(t, e, vitals.Stopped, c.pid(), "")
}

func TestAThreadInOneLongUninterruptibleWaitIsADisk(t *testing.T) {
	address := mongotest.FreeAddress(t, "127.0.0.1")
	c := start(t, address)
	next := watch(t, vitals.Config{Address: address, ScanInterval: 50 * time.Millisecond, DiskLimit: 500 * time.Millisecond})
	want(t, next(), vitals.Running, c.pid(), "")
	for range 5 {
		if _, err := io.WriteString(c.in, "200\n"); err != nil { // normal
			t.Fatal(err)
		}
	}
	at := time.Now()
	if _, err := io.WriteString(c.in, "1500\n"); err != nil {
		t.Fatal(err)
	}
	e := next()
	want(t, e, vitals.Disk, c.pid(), "uninterruptible wait")
	if after := e.At.Sub(at); after < 1400*time.Millisecond {
		t.Errorf("disk after %v: the short waits count together", after)
	}
	want(t, next(), vitals.Running, c.pid(), "")
}

func TestAListenerThatTwoProcessesShareIsNobodys(t *testing.T) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	next := watch(t, vitals.Config{Address: socket.Addr().String()})
	want(t, next(), vitals.Running, os.Getpid(), "")

	file, err := socket.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	holder := exec.Command("cat")
	holder.ExtraFiles = []*os.File{file}
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = holder.Wait() }()
	want(t, watch(t, vitals.Config{Address: socket.Addr().String()})(), vitals.Unknown, 0, "share the listening socket")
}

func TestAnAddressThatIsNoneIsUnknownWithItsReason(t *testing.T) {
	want(t, watch(t, vitals.Config{Address: "127.0.0.1"})(), vitals.Unknown, 0, "missing port")
}

func TestMongodIsFollowed(t *testing.T) {
	set := mongotest.Start(t, mongotest.Config{Addresses: []string{mongotest.FreeAddress(t, "127.0.0.1")}})
	member := set.Members[0]
	next := watch(t, vitals.Config{Address: member.Address})
	first := next()
	want(t, first, vitals.Running, first.PID, "")
	member.Signal(t, syscall.SIGSTOP)
	want(t, next(), vitals.Stopped, first.PID, "")
	member.Signal(t, syscall.SIGCONT)
	want(t, next(), vitals.Running, first.PID, "")
	member.Kill(t)
	want(t, next(), vitals.Gone, first.PID, "")
	member.Start(t)
	if second := next(); second.State != vitals.Running || second.PID == first.PID {
		t.Errorf("after a restart: %+v", second)
	}
}

// BenchmarkMongodWatched shows the cost of a watch: cpu-us/s is the processor
// time of this process per second of watching, 10,000 are one percent.
func BenchmarkMongodWatched(b *testing.B) {
	set := mongotest.Start(b, mongotest.Config{Addresses: []string{mongotest.FreeAddress(b, "127.0.0.1")}})
	for _, scan := range []time.Duration{vitals.DefaultScanInterval, time.Hour} {
		b.Run("scan="+scan.String(), func(b *testing.B) {
			ctx, cancel := context.WithCancel(context.Background())
			events := make(chan vitals.Event, 100)
			var group sync.WaitGroup
			group.Go(func() {
				_ = vitals.New(vitals.Config{Address: set.Members[0].Address, ScanInterval: scan}).Run(ctx, events)
			})
			<-events // it is found
			before, at := used(b), time.Now()
			for b.Loop() {
				time.Sleep(5 * time.Second)
			}
			spent := used(b) - before
			cancel()
			group.Wait()
			b.ReportMetric(float64(spent.Microseconds())/time.Since(at).Seconds(), "cpu-us/s")
		})
	}
}

func used(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
