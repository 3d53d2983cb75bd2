package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// every calls each for a command and all below it that are the lab's own.
func every(command *cobra.Command, each func(*cobra.Command)) {
	each(command)
	for _, child := range command.Commands() {
		if child.Name() != "help" && child.Name() != "completion" {
			every(child, each)
		}
	}
}

func TestEveryCommandExplainsItselfAndShowsAnExample(t *testing.T) {
	every(newRoot(&app{}), func(command *cobra.Command) {
		path := strings.Fields(command.CommandPath())[1:]
		t.Run(strings.Join(append(path, "help"), " "), func(t *testing.T) {
			result := sluice(t, append(slices.Clone(path), "--help")...)
			if result.code != exitOK || result.errOut != "" {
				t.Fatalf("--help: %s", result)
			}
			if !strings.Contains(result.out, "Usage:\n  "+command.CommandPath()) {
				t.Errorf("the help does not say how to call it: %s", result.out)
			}
			if command.Short == "" || strings.HasSuffix(command.Short, ".") {
				t.Errorf("the one-line description %q is missing, or ends with a full stop", command.Short)
			}
			if !strings.Contains(command.Example, command.CommandPath()) {
				t.Errorf("no example shows the command itself: %q", command.Example)
			}
		})
	})
}

// Nothing that an example shows may be refused as a wrong command line.
func TestEveryExampleIsACommandLineThatIsTaken(t *testing.T) {
	seen := 0
	every(newRoot(&app{}), func(command *cobra.Command) {
		for _, line := range strings.Split(command.Example, "\n") {
			args, ok := commandLine(line)
			if !ok {
				continue
			}
			seen++
			root := newRoot(&app{})
			target, rest, err := root.Find(args)
			if err != nil {
				t.Errorf("%q: %v", line, err)
				continue
			}
			if err := target.ParseFlags(rest); err != nil {
				t.Errorf("%q: %v", line, err)
			}
			if err := target.ValidateArgs(target.Flags().Args()); err != nil {
				t.Errorf("%q: %v", line, err)
			}
			if target == root {
				t.Errorf("%q names no command", line)
			}
		}
	})
	if seen < 20 {
		t.Errorf("only %d examples found", seen)
	}
}

// commandLine takes the arguments out of a line of an example: up to a pipe or a
// comment.
func commandLine(line string) ([]string, bool) {
	words := strings.Fields(line)
	if len(words) == 0 || words[0] != "sluice" {
		return nil, false
	}
	words = words[1:]
	if end := slices.IndexFunc(words, func(word string) bool { return word == "|" || strings.HasPrefix(word, "#") }); end >= 0 {
		words = words[:end]
	}
	return words, true
}

func TestAWrongCommandLineIsExitCode2WithAHint(t *testing.T) {
	const help = "try: sluice --help"
	cases := []struct{ args, want, hint string }{
		{"bogus", `unknown command "bogus"`, help},
		{"statsu", "status", help},
		{"--bogus", "unknown flag: --bogus", help},
		{"status --bogus", "unknown flag: --bogus", "try: sluice status --help"},
		{"status extra", `unknown command "extra"`, "try: sluice status --help"},
		{"up extra", `unknown command "extra"`, "try: sluice up --help"},
		{"up --port-offset x", "invalid argument", "try: sluice up --help"},
		{"up --timeout x", "invalid duration", "try: sluice up --help"},
		{"-o yaml status", "want table or json", "try: sluice status --help"},
		{"exec", "exec wants one node", "try: sluice exec --help"},
		{"exec web-1", "exec wants one node", "try: sluice exec --help"},
		{"exec web-1 web-2 -- true", "exec wants one node", "try: sluice exec --help"},
		{"logs a b", "accepts at most 1 arg", "try: sluice logs --help"},
		{"intentions bogus", `unknown command "bogus" for "sluice intentions"`, "try: sluice intentions --help"},
		{"intentions alow", "did you mean allow", "try: sluice intentions --help"},
		{"intentions deny web", "accepts 2 arg(s)", "try: sluice intentions deny --help"},
		{"intentions check web", "accepts 2 arg(s)", "try: sluice intentions check --help"},
		{"fault bogus web-1", `unknown command "bogus" for "sluice fault"`, "try: sluice fault --help"},
		{"fault kill", "accepts 1 arg(s)", "try: sluice fault kill --help"},
		{"fault heal", "heal wants", "try: sluice fault heal --help"},
		{"fault heal web-1 --all", "heal wants", "try: sluice fault heal --help"},
		{"intentions list --dir x", "unknown flag: --dir", "try: sluice intentions list --help"},
		{"intentions check web web --dir x", "unknown flag: --dir", "try: sluice intentions check --help"},
		{"intentions deny web web --dir x", "unknown flag: --dir", "try: sluice intentions deny --help"},
		{"status -w -o json", "more than one document", "try: sluice status --help"},
		{"mongo status -w -o json", "more than one document", "try: sluice mongo status --help"},
		{"mongo freeze", "accepts 1 arg(s)", "try: sluice mongo freeze --help"},
		{"mongo resync mongo-3", "say --yes", "try: sluice mongo resync --help"},
		{"web config bogus", `unknown command "bogus" for "sluice web config"`, "try: sluice web config --help"},
		{"web config set", "set wants a key and a value", "try: sluice web config set --help"},
		{"web config set web/debug", "set wants a value for web/debug as well", "try: sluice web config set --help"},
		{"web config set web/tagline We moved", "a value with blanks stands between quotes", "try: sluice web config set --help"},
		{"web config set web/debug maybe", `web/debug: "maybe": want true or false`, "try: sluice web config set --help"},
		{"web config set debug maybe", `web/debug: "maybe": want true or false`, "try: sluice web config set --help"},
		{"web config set web/installed_apps blog,shop", `web/installed_apps: "blog,shop": "shop" is none of blog, admin, topology, feed`, "try: sluice web config set --help"},
		{"web config set web/shop true", "there are web/debug, web/allowed_hosts", "try: sluice web config set --help"},
		{"web config get web/shop", "there are web/debug, web/allowed_hosts", "try: sluice web config get --help"},
		{"web config unset web/", "there are web/debug, web/allowed_hosts", "try: sluice web config unset --help"},
		{"certs bogus", `unknown command "bogus" for "sluice certs"`, "try: sluice certs --help"},
	}
	for _, c := range cases {
		t.Run(c.args, func(t *testing.T) {
			result := sluice(t, strings.Fields(c.args)...)
			if result.code != exitFailed {
				t.Errorf("want exit code %d: %s", exitFailed, result)
			}
			if result.out != "" {
				t.Errorf("an error is no data: stdout is %q", result.out)
			}
			if !strings.Contains(result.errOut, c.want) || !strings.Contains(result.errOut, c.hint) {
				t.Errorf("want %q and %q: %s", c.want, c.hint, result.errOut)
			}
		})
	}
}

// commands that need a lab.
func needALab() []string {
	return []string{
		"status", "status -o json", "exec web-1 -- true", "logs", "logs web-1 -f",
		"intentions list", "intentions plan", "intentions apply", "intentions apply --dry-run",
		"intentions allow web mongo-primary", "intentions deny web mongo-primary",
		"intentions check web mongo-primary", "intentions why web mongo-primary",
		"fault kill web-1", "fault stop web-1/web", "fault cont web-1", "fault restart web-1", "fault cut web-1",
		"fault term web-1", "fault cut web-1 --direction in", "fault disk mongo-1 full",
		"mongo status", "mongo status -o json", "mongo stepdown", "mongo freeze mongo-1", "mongo resync mongo-1 --yes", "mongo rolling-restart",
		"fault heal web-1", "fault heal --all", "certs show", "certs rotate",
		"web config list", "web config get web/debug", "web config set debug true", "web config unset web/debug", "web config set web/debug on --dry-run",
	}
}

func TestWithoutALabACommandSaysSoAndHowToStartOne(t *testing.T) {
	for _, line := range needALab() {
		t.Run(line, func(t *testing.T) { wantNoLab(t, sluice(t, strings.Fields(line)...)) })
	}
}

// What a killed lab leaves in its folder must not be taken for a lab.
func TestTheFilesOfAKilledLabAreNoLab(t *testing.T) {
	for _, line := range needALab() {
		t.Run(line, func(t *testing.T) {
			state := filepath.Join(t.TempDir(), "state")
			if err := os.Mkdir(state, 0o700); err != nil {
				t.Fatal(err)
			}
			remains := `{"state": "` + state + `", "engine": "loopback", "hosts": [{"name": "consul", "address": "127.0.0.1:1"}]}`
			if err := os.WriteFile(filepath.Join(state, "lab.json"), []byte(remains), 0o600); err != nil {
				t.Fatal(err)
			}
			wantNoLab(t, sluice(t, append([]string{"--state", state}, strings.Fields(line)...)...))
		})
	}
}

func wantNoLab(t *testing.T, result outcome) {
	t.Helper()
	if result.code != exitFailed || result.out != "" {
		t.Errorf("want exit code %d and nothing on stdout: %s", exitFailed, result)
	}
	if !strings.Contains(result.errOut, "no lab is running") || !strings.Contains(result.errOut, "try: sluice up") {
		t.Errorf("it does not say that no lab is running: %s", result.errOut)
	}
}

func TestDownWithoutALabIsNoError(t *testing.T) {
	for _, args := range [][]string{{"down"}, {"down", "--purge"}} {
		result := sluice(t, args...)
		if result.code != exitOK || !strings.Contains(result.errOut, "no lab was running") {
			t.Errorf("%s: %s", strings.Join(args, " "), result)
		}
	}
	result := sluice(t, "down", "-o", "json")
	oneDocument(t, result.out)
}

func TestADryRunOfDownDeletesNothing(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	result := sluice(t, "down", "--purge", "--dry-run", "--state", state)
	if result.code != exitOK || !strings.Contains(result.errOut, "would delete "+state) {
		t.Errorf("it does not say what it would delete: %s", result)
	}
	result = sluice(t, "down", "--purge", "--dry-run", "--state", state, "-o", "json")
	oneDocument(t, result.out)
	if _, err := os.Stat(state); err != nil {
		t.Error(err)
	}
	if result := sluice(t, "down", "--purge", "--yes", "--state", state); result.code != exitOK {
		t.Errorf("down --purge --yes: %s", result)
	}
	if _, err := os.Stat(state); err == nil {
		t.Error("the state folder is still there")
	}
	foreign := t.TempDir()
	write(t, filepath.Join(foreign, "thesis.txt"), "years of work", 0)
	result = sluice(t, "down", "--purge", "--dry-run", "--state", foreign)
	if result.code != exitFailed || !strings.Contains(result.errOut, "would not be deleted") {
		t.Errorf("a folder that is not a lab's: %s", result)
	}
}

func TestUpRefusesWhatIsWrongBeforeItStartsAnything(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "dc1.hcl")
	topology := "datacenter \"dc1\" {\n  primary = true\n  subnet = \"198.18.1.0/24\"\n  node \"a\" {\n    address = \"10.0.0.1\"\n  }\n}\n"
	if err := os.WriteFile(broken, []byte(topology), 0o600); err != nil {
		t.Fatal(err)
	}
	alone, err := filepath.Abs("../../datacenters/dc1.hcl")
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		args []string
		want string
	}{
		{[]string{"--port-offset", "-1"}, "--port-offset -1"},
		{[]string{"--port-offset", "20001"}, "--port-offset 20001"},
		{[]string{"--engine", "podman"}, "want auto, netns or loopback"},
		{[]string{"--dc2", "--topology", alone}, "no second datacenter"},
		{nil, "datacenters/dc1.hcl"},
		{[]string{"--topology", broken}, broken + ":"},
	}
	for _, c := range cases {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			result := sluice(t, append([]string{"up"}, c.args...)...)
			if result.code != exitFailed || !strings.Contains(result.errOut, c.want) {
				t.Errorf("want exit code %d and %q: %s", exitFailed, c.want, result)
			}
			if _, err := os.Stat(os.Getenv("SLUICE_STATE")); err == nil {
				t.Error("a state folder was left")
			}
		})
	}
}

func TestDoctorListsWhatIsMissingAsOneDocument(t *testing.T) {
	t.Setenv("SLUICE_MONGOD", "/nonexistent/mongod")
	result := sluice(t, "doctor", "-o", "json")
	oneDocument(t, result.out)
	if result.code != exitMissing {
		t.Errorf("want exit code %d: %s", exitMissing, result)
	}
	result = sluice(t, "doctor")
	if result.code != exitMissing || !strings.Contains(result.out, "MISSING  mongod") {
		t.Errorf("the missing program is not named: %s", result)
	}
}

func TestDoctorNamesWhoHoldsAPort(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if f := port(address); f.OK || f.Needed || !strings.Contains(f.Detail, fmt.Sprintf("pid %d", os.Getpid())) {
		t.Errorf("a port that this process holds: %+v", f)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if f := port(address); !f.OK {
		t.Errorf("a free port: %+v", f)
	}
}

func TestDoctorKnowsWhichGoIsTooOld(t *testing.T) {
	for found, ok := range map[string]bool{"go1.26": true, "go1.26.3": true, "go1.27": true, "go1.9": false, "go1.25.9": false, "": false, "devel": false} {
		if f := judgeGo(found); f.OK != ok || f.Needed {
			t.Errorf("%q: %+v", found, f)
		}
	}
}

func TestCompletionKnowsTheServices(t *testing.T) {
	if result := sluice(t, "completion", "bash"); result.code != exitOK || !strings.Contains(result.out, "sluice") {
		t.Errorf("completion bash: %s", result)
	}
	result := sluice(t, "__complete", "intentions", "deny", "web", "mongo")
	if result.code != exitOK || !strings.Contains(result.out, "mongo-primary") {
		t.Errorf("complete: %s", result)
	}
}

func TestCompletionKnowsTheSettingsAndTheirWords(t *testing.T) {
	for line, want := range map[string][]string{
		"get web/":                      {"web/debug\terror pages", "web/tagline", "web/maintenance"},
		"get web/debug ":                nil,
		"unset web/r":                   {"web/read_preference"},
		"set web/debug ":                {"true", "false"},
		"set debug t":                   {"true"},
		"set web/read_preference ":      {"nearest", "primary"},
		"set web/installed_apps blog,t": {"blog,topology"},
		"set web/tagline ":              nil,
	} {
		words := strings.Split("__complete web config "+line, " ")
		result := sluice(t, words...)
		completed := strings.Split(strings.TrimSuffix(result.out, "\n"), "\n")
		for _, word := range want {
			if !slices.ContainsFunc(completed, func(got string) bool { return strings.HasPrefix(got, word) }) {
				t.Errorf("%q: %q is not offered: %s", line, word, result)
			}
		}
		if want == nil && len(completed) != 1 || !strings.HasPrefix(completed[len(completed)-1], ":4") {
			t.Errorf("%q: want no files, and nothing that does not fit: %s", line, result)
		}
	}
	if again := sluice(t, "__complete", "web", "config", "set", "web/installed_apps", "blog,"); strings.Contains(again.out, "blog,blog") || !strings.Contains(again.out, "blog,feed") {
		t.Error("what is there already is offered again")
	}
}

func TestVersionIsOneLine(t *testing.T) {
	result := sluice(t, "--version")
	if result.code != exitOK || strings.Count(result.out, "\n") != 1 {
		t.Errorf("--version: %s", result)
	}
}
