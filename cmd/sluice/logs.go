package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"sluice/lab"
	"sluice/lab/control"
)

func newLogs(a *app) *cobra.Command {
	var follow bool
	var lines int
	command := &cobra.Command{
		Use:   "logs [NODE[/PROCESS]|supervisor]",
		Short: "What the processes wrote",
		Long: `What the processes of the lab wrote, and with the name supervisor what the lab's
own process wrote. After a lab has ended, or did not come up, its logs are still
there until down --purge.`,
		Example: `  sluice logs mongo-1/mongo-agent
  sluice logs web-1 -f
  sluice logs -n 5
  sluice logs supervisor`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			target := strings.Join(args, "")
			client, err := a.client()
			if err != nil {
				return err
			}
			refs, err := logFiles(command.Context(), client, target)
			if err != nil {
				return err
			}
			chosen := choose(refs, target)
			if len(chosen) == 0 {
				return &codeError{exitFailed, fmt.Errorf("no process %q; there are %s", target, labels(refs))}
			}
			return a.showLogs(command.Context(), chosen, lines, follow)
		},
	}
	command.Flags().BoolVarP(&follow, "follow", "f", false, "go on as more is written, until interrupted")
	command.Flags().IntVarP(&lines, "lines", "n", 50, "how many of the last lines of each process; 0 is all")
	return command
}

// logFiles are the logs to choose from: those of the running lab's processes, else
// those that the last one left. The supervisor's is among them only by name.
func logFiles(ctx context.Context, client *lab.Client, target string) ([]lab.ProcessRef, error) {
	left, err := client.LogFiles()
	if err != nil {
		return nil, err
	}
	supervisor := client.SupervisorLog()
	refs, err := client.Processes(ctx)
	if errors.Is(err, control.ErrNotRunning) {
		if _, missing := os.Stat(supervisor.Log); missing == nil {
			refs, err = left, nil
		}
	}
	if err == nil && target == label(supervisor) {
		refs = append(refs, supervisor)
	}
	return refs, err
}

func label(ref lab.ProcessRef) string {
	if ref.Process == "" {
		return ref.Node
	}
	return ref.Node + "/" + ref.Process
}

func labels(refs []lab.ProcessRef) string {
	var all []string
	for _, ref := range refs {
		all = append(all, label(ref))
	}
	return strings.Join(append(all, "supervisor"), ", ")
}

func choose(refs []lab.ProcessRef, target string) []lab.ProcessRef {
	var chosen []lab.ProcessRef
	for _, ref := range refs {
		if target == "" || target == ref.Node || target == label(ref) {
			chosen = append(chosen, ref)
		}
	}
	return chosen
}

func (a *app) showLogs(ctx context.Context, refs []lab.ProcessRef, lines int, follow bool) error {
	var writing sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	offsets := make([]int64, len(refs))
	for i, ref := range refs {
		text, offset, err := lastLines(ref.Log, lines)
		if err != nil {
			return err
		}
		offsets[i] = offset
		writeLines(a.std.out, &writing, prefix(refs, ref), text)
	}
	if !follow {
		return nil
	}
	for i, ref := range refs {
		group.Go(func() error {
			return followFile(ctx, ref.Log, offsets[i], func(text string) {
				writeLines(a.std.out, &writing, prefix(refs, ref), text)
			})
		})
	}
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// prefix names the process where lines of several are mixed.
func prefix(refs []lab.ProcessRef, ref lab.ProcessRef) string {
	if len(refs) == 1 {
		return ""
	}
	return label(ref) + " | "
}

func writeLines(w io.Writer, writing *sync.Mutex, prefix, text string) {
	writing.Lock()
	defer writing.Unlock()
	scanner := bufio.NewScanner(strings.NewReader(text))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		fmt.Fprintln(w, prefix+scanner.Text())
	}
}

// lastLines returns the end of a file and its size. A log that does not exist
// yet is empty.
func lastLines(path string, lines int) (string, int64, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, err
	}
	text := string(content)
	if lines > 0 {
		all := slices.Collect(strings.Lines(text))
		text = strings.Join(all[max(0, len(all)-lines):], "")
	}
	return text, int64(len(content)), nil
}

// followFile reports the lines that are appended, from offset on, once they have
// ended; a file that shrank was rotated and is read from its start.
func followFile(ctx context.Context, path string, offset int64, report func(string)) error {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		text, next, err := readFrom(path, offset)
		if err != nil {
			return err
		}
		if text != "" {
			report(text)
		}
		offset = next
	}
}

func readFrom(path string, offset int64) (string, int64, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", 0, nil
	}
	if err != nil {
		return "", offset, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", offset, err
	}
	if info.Size() < offset {
		offset = 0
	}
	content, err := io.ReadAll(io.NewSectionReader(file, offset, info.Size()-offset))
	content = content[:bytes.LastIndexByte(content, '\n')+1]
	return string(content), offset + int64(len(content)), err
}
