package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"sluice/lab/control"
	"sluice/lab/engine"
	"sluice/lab/hostport"
)

// SuperviseCommand is the hidden first argument with which the program starts
// itself as the supervisor.
const SuperviseCommand = "__supervise"

// defaultState is the state folder where nobody names one.
const defaultState = ".sluice"

// UpConfig says how a lab is to be started. The zero value of a field means its
// default.
type UpConfig struct {
	// State is the state folder, ".sluice" by default.
	State string
	// Topology are the files of the datacenters that the lab may have, "datacenters/dc1.hcl"
	// and "datacenters/dc2.hcl" by default, the second if it is there.
	Topology []string
	// Second says that every datacenter of the topology is started, not only the
	// primary one. A lab that runs gets those that it lacks.
	Second bool
	// IntentionsDir is the folder of the intention files, "intentions" by default.
	IntentionsDir string
	// Engine is "auto", "netns" or "loopback".
	Engine string
	// PortOffset is added to every port on the host, so that two labs can run at
	// once; 0 to 20,000.
	PortOffset int
	// Profile is ProfileFast or ProfileStock; empty takes that of the kept state, and
	// ProfileFast for a new one.
	Profile string
	// Timeout bounds the whole way up; 5 minutes by default.
	Timeout time.Duration
	// Programs that are empty are looked for beside this program, in the cache and
	// on PATH.
	Programs Programs
	// OnEvent is called for each event on the way up.
	OnEvent func(Event)
	// Notice is called with a sentence that people should read.
	Notice func(string)
}

// Started is what became of Up.
type Started struct {
	// Already is true when a lab was running before; nothing was started then.
	Already bool    `json:"already"`
	Options Options `json:"options"`
	Summary Summary `json:"summary"`
}

// Up starts a lab and waits until a real request has crossed every allowed edge.
// A lab that does not come up is ended again, and the error is a *control.Error
// with the exit code (4: something is missing on this machine), or an *UpError.
func Up(ctx context.Context, config UpConfig) (Started, error) {
	config = config.withDefaults()
	layout, err := NewLayout(config.State)
	if err != nil {
		return Started{}, err
	}
	if client, err := control.Dial(ctx, layout.Socket()); err == nil {
		_ = client.Close()
		return rejoin(ctx, layout, config)
	} else if !errors.Is(err, control.ErrNotRunning) {
		return Started{}, err
	}
	options, err := config.options(ctx, layout)
	if err != nil {
		return Started{}, err
	}
	already, err := begin(ctx, layout, options, config.Notice)
	if err != nil {
		return Started{}, err
	}
	started, err := attach(ctx, layout, config, already)
	if err != nil && !already {
		if left := endFailed(ctx, layout); left != nil {
			return started, &LeftError{Cause: err, Left: left}
		}
	}
	return started, err
}

// begin cleans up after a lab that crashed and launches the new one. Of two that
// begin at once the second finds the lab of the first: it reports true.
func begin(ctx context.Context, layout Layout, options Options, notice func(string)) (bool, error) {
	if err := layout.Prepare(); err != nil {
		return false, err
	}
	lock, err := lockFile(layout.LaunchLockFile(), syscall.LOCK_EX)
	if err != nil {
		return false, err
	}
	defer lock.Close()
	if client, err := control.Dial(ctx, layout.Socket()); err == nil {
		return true, client.Close()
	}
	if err := clearRemains(ctx, layout, notice); err != nil {
		return false, err
	}
	if err := launch(layout, options, notice); err != nil {
		return false, errors.Join(err, killRemains(layout))
	}
	return false, nil
}

// DefaultTopology returns the files of the datacenters below a project's folder: dc1,
// and dc2 if it is there.
func DefaultTopology(dir string) []string {
	files := []string{filepath.Join(dir, "datacenters", "dc1.hcl")}
	second := filepath.Join(dir, "datacenters", "dc2.hcl")
	if _, err := os.Stat(second); err == nil {
		files = append(files, second)
	}
	return files
}

func (c UpConfig) withDefaults() UpConfig {
	if c.State == "" {
		c.State = defaultState
	}
	if len(c.Topology) == 0 {
		c.Topology = DefaultTopology(".")
	}
	if c.IntentionsDir == "" {
		c.IntentionsDir = "intentions"
	}
	if c.Engine == "" {
		c.Engine = "auto"
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Minute
	}
	if c.OnEvent == nil {
		c.OnEvent = func(Event) {}
	}
	if c.Notice == nil {
		c.Notice = func(string) {}
	}
	return c
}

// launch starts the supervisor and hands it the control socket and the host's
// listeners, which stay usable inside its own network namespace.
func launch(layout Layout, options Options, notice func(string)) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	doors, err := options.bind(notice)
	defer closeAll(doors)
	if err != nil {
		return err
	}
	// Whoever finds the socket reads the options.
	if err := options.save(layout); err != nil {
		return err
	}
	socket, err := control.Listen(layout.Socket())
	if err != nil {
		return err
	}
	defer socket.Close()
	socket.SetUnlinkOnClose(false)
	file, err := socket.File()
	if err != nil {
		return fmt.Errorf("hand over the control socket: %w", err)
	}
	defer file.Close()
	return startSupervisor(self, layout, options, append([]*os.File{file}, doors...))
}

// bind takes the host's ports. Those of a datacenter that is not started yet may be
// busy: then they are left out.
func (o *Options) bind(notice func(string)) ([]*os.File, error) {
	var files []*os.File
	var hosts []HostPort
	for _, host := range o.Hosts {
		file, err := hostport.Bind(host.Address)
		switch {
		case err == nil:
			files, hosts = append(files, file), append(hosts, host)
		case host.Datacenter == o.Hosts[0].Datacenter || slices.Contains(o.Second, host.Datacenter):
			return files, fail(control.ExitMissing, o.otherPorts(), "%v", err)
		default:
			notice(fmt.Sprintf("%v; %s would have no %s port there", err, host.Datacenter, host.Name))
		}
	}
	o.Hosts = hosts
	return files, nil
}

func closeAll(files []*os.File) {
	for _, file := range files {
		_ = file.Close()
	}
}

// noticeIgnored says which wishes a lab that runs already does not meet.
func (c UpConfig) noticeIgnored(running Options) {
	var ignored []string
	if c.Engine != "auto" && c.Engine != string(running.Engine) {
		ignored = append(ignored, "--engine")
	}
	if c.Profile != "" && c.Profile != running.Profile {
		ignored = append(ignored, "--profile")
	}
	if c.PortOffset != 0 && c.PortOffset != running.PortOffset {
		ignored = append(ignored, "--port-offset")
	}
	if len(ignored) > 0 {
		c.Notice("the lab runs already, so " + strings.Join(ignored, " and ") + " changed nothing; `sluice down` first")
	}
}

// otherPorts is the command that starts the same lab on ports that are probably
// free.
func (o Options) otherPorts() string {
	command := "sluice up"
	if folder, err := filepath.Abs(defaultState); err != nil || folder != o.State {
		command += " --state " + o.State
	}
	return fmt.Sprintf("%s --port-offset %d", command, o.PortOffset+100)
}

func startSupervisor(self string, layout Layout, options Options, files []*os.File) error {
	log, err := os.OpenFile(layout.SupervisorLog(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the supervisor's log: %w", err)
	}
	defer log.Close()
	command := exec.Command(self, SuperviseCommand, layout.Root())
	command.Stdout, command.Stderr, command.ExtraFiles = log, log, files
	command.Env = supervisorEnvironment()
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if options.Engine == engine.Netns {
		engine.Isolate(command, options.Unprivileged)
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	options.PID = command.Process.Pid
	if err := options.save(layout); err != nil {
		return err
	}
	return command.Process.Release()
}

// supervisorEnvironment is what the lab takes over from the user's shell: where
// programs are and nothing that would make Consul's tools behave otherwise.
func supervisorEnvironment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8"}
}

// Supervise is what the hidden command runs: the supervisor, on the files that
// launch passed.
func Supervise(ctx context.Context, state string, logTo io.Writer) error {
	layout, err := NewLayout(state)
	if err != nil {
		return err
	}
	// Consul makes files that everybody may read; what the lab writes is its user's.
	syscall.Umask(0o077)
	options, err := loadOptions(layout)
	if err != nil {
		return err
	}
	lock, err := lockState(layout)
	if err != nil {
		return err
	}
	defer lock.Close()
	log := slog.New(slog.NewTextHandler(logTo, nil))
	socket, err := control.ListenerFromFile(os.NewFile(3, "control"))
	if err != nil {
		return err
	}
	doors := make([]*os.File, 0, len(options.Hosts))
	for i, host := range options.Hosts {
		// An inherited file is not closed in the lab's processes by itself.
		syscall.CloseOnExec(4 + i)
		doors = append(doors, os.NewFile(uintptr(4+i), host.Address))
	}
	defer closeAll(doors)
	supervisor, err := NewSupervisor(options, log)
	if err != nil {
		return err
	}
	err = supervisor.Run(ctx, socket, doors)
	_ = os.Remove(layout.Socket())
	return err
}

// rejoin is Up where a lab runs already: it waits until that is up, and adds the
// datacenters that it lacks.
func rejoin(ctx context.Context, layout Layout, config UpConfig) (Started, error) {
	started, err := attach(ctx, layout, config, true)
	if err != nil || !config.Second {
		return started, err
	}
	client, err := control.Dial(ctx, layout.Socket())
	if err != nil {
		return started, err
	}
	defer client.Close()
	return follow(ctx, client, opExtend, config, started)
}

// attach follows a supervisor's way up.
func attach(ctx context.Context, layout Layout, config UpConfig, already bool) (Started, error) {
	options, err := loadOptions(layout)
	if err != nil {
		return Started{}, err
	}
	started := Started{Already: already, Options: options}
	client, err := control.Dial(ctx, layout.Socket())
	if err != nil {
		return started, err
	}
	defer client.Close()
	if already {
		config.noticeIgnored(options)
		config.OnEvent = func(Event) {}
	}
	return follow(ctx, client, opAwait, config, started)
}

// follow shows the steps of an operation of the supervisor and returns what the
// whole has come to.
func follow(ctx context.Context, client *control.Client, op string, config UpConfig, started Started) (Started, error) {
	result, err := client.Do(ctx, op, nil, nil, func(raw json.RawMessage) {
		var event Event
		if json.Unmarshal(raw, &event) == nil {
			config.OnEvent(event)
		}
	})
	if err != nil {
		var refused *control.Error
		switch {
		case ctx.Err() != nil:
			return started, ctx.Err()
		case errors.As(err, &refused):
			return started, err
		}
		return started, fmt.Errorf("the supervisor ended: %w; its log: %s", err, tailFile(Layout{started.Options.State}.SupervisorLog(), 3))
	}
	var final Event
	if err := json.Unmarshal(result, &final); err != nil {
		return started, fmt.Errorf("read the supervisor's answer: %w", err)
	}
	if final.Failure != nil {
		return started, &UpError{Failure: *final.Failure}
	}
	started.Summary = *final.Summary
	return started, nil
}
