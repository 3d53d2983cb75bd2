package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ticks is CPU time in the kernel's unit for user space: 100 to a second on every
// Linux (proc(5), sysconf(_SC_CLK_TCK)).
type ticks int64

const microsPerTick = 10_000

// times is one line of a process table: what a process and the children that it
// has waited for have used, in user space and in the kernel, all threads.
type times struct {
	pid, parent int
	used        ticks
}

// parseStat reads /proc/PID/stat. The name in parentheses may hold anything, also
// parentheses.
func parseStat(content []byte) (times, error) {
	text := string(content)
	head, _, found := strings.Cut(text, " (")
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if !found || len(fields) < 15 {
		return times{}, fmt.Errorf("not the stat of a process: %.60q", text)
	}
	var t times
	var err error
	if t.pid, err = strconv.Atoi(head); err != nil {
		return times{}, err
	}
	if t.parent, err = strconv.Atoi(fields[1]); err != nil {
		return times{}, err
	}
	// utime, stime, cutime, cstime: fields 14 to 17 of the file.
	for _, field := range fields[11:15] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return times{}, err
		}
		t.used += ticks(n)
	}
	return t, nil
}

// processTable returns all processes, by ID. One that ends meanwhile is left out.
func processTable() (map[int]times, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	table := make(map[int]times, len(files))
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		t, err := parseStat(content)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		table[t.pid] = t
	}
	return table, nil
}

// tree returns the IDs of a process and of all below it.
func tree(table map[int]times, root int) []int {
	children := map[int][]int{}
	for pid, t := range table {
		children[t.parent] = append(children[t.parent], pid)
	}
	found := []int{}
	for next := []int{root}; len(next) > 0; next = next[1:] {
		if _, ok := table[next[0]]; ok {
			found = append(found, next[0])
		}
		next = append(next, children[next[0]]...)
	}
	return found
}

// used returns the CPU time of a process and all below it, those that have ended
// and were waited for included.
func used(table map[int]times, root int) ticks {
	var sum ticks
	for _, pid := range tree(table, root) {
		sum += table[pid].used
	}
	return sum
}

// machine is the first line of /proc/stat: what all processors did since the
// start. Interrupts are part of total alone, because the kernel's work for traffic
// on the loopback is counted there, and is ours.
type machine struct{ total, busy, steal ticks }

func parseMachine(content []byte) (machine, error) {
	line, _, _ := bytes.Cut(content, []byte("\n"))
	fields := strings.Fields(string(line))
	if len(fields) < 9 || fields[0] != "cpu" {
		return machine{}, fmt.Errorf("not /proc/stat: %.60q", line)
	}
	var n [8]ticks // user nice system idle iowait irq softirq steal
	var m machine
	for i := range n {
		value, err := strconv.ParseInt(fields[i+1], 10, 64)
		if err != nil {
			return machine{}, err
		}
		n[i] = ticks(value)
		m.total += n[i]
	}
	m.busy, m.steal = n[0]+n[1]+n[2], n[7]
	return m, nil
}

// snapshot is the CPU time of the proxy under test, of everything that we run, and
// of the machine, at one moment.
type snapshot struct {
	proxy, ours ticks
	machine     machine
}

func takeSnapshot(proxy int) (snapshot, error) {
	content, err := os.ReadFile("/proc/stat")
	if err != nil {
		return snapshot{}, err
	}
	m, err := parseMachine(content)
	if err != nil {
		return snapshot{}, err
	}
	table, err := processTable()
	if err != nil {
		return snapshot{}, err
	}
	if _, ok := table[proxy]; !ok {
		return snapshot{}, errors.New("the proxy has ended")
	}
	return snapshot{proxy: used(table, proxy), ours: used(table, os.Getpid()), machine: m}, nil
}

// interference returns which part of the machine, in percent, other processes had
// between two snapshots, and which the hypervisor took.
func interference(before, after snapshot) (others, steal float64) {
	total := float64(after.machine.total - before.machine.total)
	if total <= 0 {
		return 0, 0
	}
	ours := after.ours - before.ours
	others = 100 * float64(max(0, after.machine.busy-before.machine.busy-ours)) / total
	return others, 100 * float64(after.machine.steal-before.machine.steal) / total
}

// memory is in bytes, of a process and all below it. The resident set counts pages
// that processes share once for each, the proportional one divides them.
type memory struct{ resident, proportional int64 }

func readMemory(root int) (memory, error) {
	table, err := processTable()
	if err != nil {
		return memory{}, err
	}
	var sum memory
	for _, pid := range tree(table, root) {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return memory{}, err
		}
		m := parseRollup(content)
		sum.resident += m.resident
		sum.proportional += m.proportional
	}
	if sum.resident == 0 {
		return memory{}, fmt.Errorf("process %d has no memory: has it ended?", root)
	}
	return sum, nil
}

// parseRollup reads /proc/PID/smaps_rollup; values are in KiB there.
func parseRollup(content []byte) memory {
	var m memory
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		n, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			continue
		}
		switch fields[0] {
		case "Rss:":
			m.resident = n << 10
		case "Pss:":
			m.proportional = n << 10
		}
	}
	return m
}
