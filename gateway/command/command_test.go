package command_test

import (
	"errors"
	"strings"
	"testing"

	"sluice/gateway/command"
	"sluice/gateway/config"
	"sluice/internal/service"
)

func TestAWrongCallIsAnsweredWithWhatIsRight(t *testing.T) {
	for _, c := range []struct{ args, want, of string }{
		{"explian /a", `there is no command "explian"; do you mean explain? The commands are check, explain, lint and import-fabio`, ""},
		{"import f", "do you mean import-fabio?", ""},
		{"nonsense", "without one it is the gateway, which takes flags alone", ""},
		{"explain", "want one URL, or the ID of a request", "explain"},
		{"explain /a /b", "want one URL", "explain"},
		{"explain -client 1.2 /a", `-client "1.2": want an IP address`, "explain"},
		{"explain -x", "-x", "explain"},
		{"lint -x", "-x", "lint"},
		{"import-fabio", "want one file", "import-fabio"},
		{"import-fabio -o xml f", "want text or json", "import-fabio"},
	} {
		err := command.Run(t.Context(), command.Streams{Out: t.Output(), Err: t.Output()}, strings.Split(c.args, " "))
		var usage service.UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), c.want) || usage.Command != c.of {
			t.Errorf("gateway %s: %v (help of %q); want %q (of %q)", c.args, err, usage.Command, c.want, c.of)
		}
	}
}

func TestTheUsageOfTheGatewayNamesEveryCommand(t *testing.T) {
	for _, name := range command.Names() {
		if !strings.Contains(config.Usage(), "\n       gateway "+name+" ") {
			t.Errorf("%s is not in it", name)
		}
	}
}

func TestNobodyAtTheAddressIsSaidShortly(t *testing.T) {
	err := command.Run(t.Context(), command.Streams{Out: t.Output(), Err: t.Output()}, []string{"explain", "-admin", "127.0.0.1:1", "/a"})
	if err == nil || !strings.HasPrefix(err.Error(), "ask the gateway at 127.0.0.1:1: dial tcp 127.0.0.1:1: ") || !strings.Contains(err.Error(), "-admin names another place") {
		t.Errorf("got %v", err)
	}
}
