package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sluice/lab/control"
)

// Layout names every file of one lab, all below one state folder. The folder
// and all that is in it belong to the user alone (0700, files 0600).
type Layout struct{ root string }

// NewLayout returns the layout below the folder state, which need not exist yet.
func NewLayout(state string) (Layout, error) {
	root, err := filepath.Abs(state)
	if err != nil {
		return Layout{}, fmt.Errorf("find the state folder: %w", err)
	}
	return Layout{root: root}, nil
}

// Root is the state folder itself.
func (l Layout) Root() string { return l.root }

// Socket is the supervisor's control socket.
func (l Layout) Socket() string { return filepath.Join(l.root, "control.sock") }

// LockFile is held for as long as a supervisor lives, so that two of them can
// never share a state folder.
func (l Layout) LockFile() string { return filepath.Join(l.root, "lock") }

// LaunchLockFile is held while a supervisor is being started, so that of two `up`
// at once the second waits for the first and then finds its lab.
func (l Layout) LaunchLockFile() string { return filepath.Join(l.root, "launch.lock") }

// SupervisorLog is where the supervisor itself writes.
func (l Layout) SupervisorLog() string { return filepath.Join(l.root, "logs", "supervisor.log") }

// Secrets is the folder of keys and tokens.
func (l Layout) Secrets() string { return filepath.Join(l.root, "secrets") }

// TokenFile is where the ACL token of that name lies.
func (l Layout) TokenFile(name string) string { return filepath.Join(l.Secrets(), name+".token") }

// KeyFile is the replica set's key file.
func (l Layout) KeyFile() string { return filepath.Join(l.Secrets(), "mongo.key") }

// AppPasswordFile holds the password of web's database user.
func (l Layout) AppPasswordFile() string { return filepath.Join(l.Secrets(), "web.password") }

// AdminPasswordFile holds the password of the blog's first administrator.
func (l Layout) AdminPasswordFile() string { return filepath.Join(l.Secrets(), "blog-admin.password") }

// TLS is the folder of the agents' own authority and certificates.
func (l Layout) TLS() string { return filepath.Join(l.root, "tls") }

// Node is the folder of everything that a node's processes write but logs.
func (l Layout) Node(node string) string { return filepath.Join(l.root, "nodes", node) }

// Data is the folder in which a process of a node keeps its data.
func (l Layout) Data(node, process string) string {
	return filepath.Join(l.root, "nodes", node, process)
}

// AgentConfig is the configuration file of a node's Consul agent.
func (l Layout) AgentConfig(node string) string {
	return filepath.Join(l.root, "nodes", node, "consul.json")
}

// AgentSocket is the Unix socket of a node's Consul agent, in the engine whose
// nodes share one loopback.
func (l Layout) AgentSocket(node string) string {
	return filepath.Join(l.root, "nodes", node, "http.sock")
}

// Log is the log file of a process of a node.
func (l Layout) Log(node, process string) string {
	return filepath.Join(l.root, "logs", node, process+".log")
}

// Rollback is the folder of what a promotion has undone.
func (l Layout) Rollback() string { return filepath.Join(l.root, "rollback") }

// OptionsFile is how the running lab was started; it is there while one runs.
func (l Layout) OptionsFile() string { return filepath.Join(l.root, "lab.json") }

// FaultsFile lists the faults that hold in the running lab.
func (l Layout) FaultsFile() string { return filepath.Join(l.root, "faults.json") }

// ProfileFile holds the profile that the replica set was made with.
func (l Layout) ProfileFile() string { return filepath.Join(l.root, "profile") }

// GossipKey is the file of Consul's gossip key.
func (l Layout) GossipKey() string { return filepath.Join(l.Secrets(), "gossip.key") }

// marker says that a folder is a lab's: only such a folder is closed to others,
// written to and deleted.
func (l Layout) marker() string { return filepath.Join(l.root, "sluice-state") }

const markerText = "This folder is the state of a sluice lab. `sluice down --purge` deletes it, whole.\n"

// errNotOurs means that a folder holds something that is not a lab's state.
var errNotOurs = errors.New("it is not the state folder of a lab")

// Prepare makes the state folder. A folder that holds anything else is refused.
func (l Layout) Prepare() error {
	if err := os.MkdirAll(l.root, 0o700); err != nil {
		return fmt.Errorf("make the state folder: %w", err)
	}
	if err := l.owned(); err != nil {
		return fail(control.ExitUsage, "choose another folder with --state", "use %s for state: %v", l.root, err)
	}
	if err := os.Chmod(l.root, 0o700); err != nil {
		return fmt.Errorf("close the state folder to others: %w", err)
	}
	if err := os.WriteFile(l.marker(), []byte(markerText), 0o600); err != nil {
		return fmt.Errorf("mark the state folder: %w", err)
	}
	for _, dir := range []string{l.Secrets(), l.TLS(), filepath.Join(l.root, "logs"), filepath.Join(l.root, "nodes")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make the state folder: %w", err)
		}
	}
	return nil
}

// owned returns nil if the folder is marked as a lab's, or empty, or not there.
func (l Layout) owned() error {
	entries, err := os.ReadDir(l.root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(entries) == 0 {
		return nil
	}
	if _, err := os.Stat(l.marker()); err != nil {
		return errNotOurs
	}
	return nil
}

// purge deletes the state folder, if it is one.
func (l Layout) purge() error {
	if err := l.owned(); err != nil {
		return fail(control.ExitUsage, "delete it yourself if that is what you want", "%s is not deleted: %v", l.root, err)
	}
	if err := os.RemoveAll(l.root); err != nil {
		return fmt.Errorf("delete the state folder: %w", err)
	}
	return nil
}

// writeSecret writes a file that only the user can read, whole or not at all.
func writeSecret(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	defer os.Remove(temporary.Name())
	if _, err := temporary.Write(content); err != nil {
		_ = temporary.Close()
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if err := temporary.Close(); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if err := os.Rename(temporary.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}
