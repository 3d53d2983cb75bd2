package service

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
)

// Exit codes of a process.
const (
	ExitOK      = 0
	ExitFailure = 1
	ExitUsage   = 2
)

// ErrVersion is returned by ParseFlags after it has printed the version: there
// is nothing left to do.
var ErrVersion = errors.New("version printed")

// UsageError is an error in how the process was called.
type UsageError struct {
	Err error
	// Command is the part of the program that was called wrongly; "" is the program.
	Command string
}

// Error returns the text of the cause.
func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e UsageError) Unwrap() error { return e.Err }

// Run is the whole of a process but its exit. args are without the program's
// name.
type Run func(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error

// Main runs a process and exits: 0 after a clean stop, -h or -version, 2 after
// an error in the command line, 1 after any other, of which an empty text prints nothing.
func Main(run Run) {
	name := filepath.Base(os.Args[0])
	err := run(context.Background(), os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	code := ExitCode(err)
	switch code {
	case ExitUsage:
		fmt.Fprintf(os.Stderr, "%s: %v\nRun '%s -h' for the flags.\n", name, err, usageOf(name, err))
	case ExitFailure:
		if err.Error() == "" {
			break // it has been said
		}
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	}
	os.Exit(code)
}

// usageOf is what to call with -h.
func usageOf(name string, err error) string {
	var usage UsageError
	if errors.As(err, &usage) && usage.Command != "" {
		return name + " " + usage.Command
	}
	return name
}

// ExitCode returns how a process ends that failed with err.
func ExitCode(err error) int {
	var usage UsageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp), errors.Is(err, ErrVersion):
		return ExitOK
	case errors.As(err, &usage):
		return ExitUsage
	default:
		return ExitFailure
	}
}

// ParseFlags parses args with fs and adds -version. It prints the usage (-h) or
// the version to stdout and then returns flag.ErrHelp or ErrVersion; whatever is
// wrong is a UsageError. Arguments that are no flags are refused.
func ParseFlags(fs *flag.FlagSet, args []string, stdout io.Writer) error {
	version := fs.Bool("version", false, "print the version and exit")
	fs.SetOutput(io.Discard)
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fs.SetOutput(stdout)
		fmt.Fprintf(stdout, "Usage: %s [flags]\n\n", fs.Name())
		fs.PrintDefaults()
		return err
	case err != nil:
		return UsageError{Err: err}
	case *version:
		fmt.Fprintf(stdout, "%s %s\n", fs.Name(), Version())
		return ErrVersion
	case fs.NArg() > 0:
		return UsageError{Err: fmt.Errorf("unexpected argument %q", fs.Arg(0))}
	}
	return nil
}

// Version names the build: the module's version, or the revision that it was
// built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version, modified := info.Main.Version, ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12 && (version == "" || version == "(devel)"):
			version = s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = " (modified)"
		}
	}
	if version == "" {
		version = "(devel)"
	}
	return version + modified + " " + info.GoVersion
}
