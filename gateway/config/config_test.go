package config_test

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/gateway/config"
	"sluice/gateway/fabio"
	"sluice/gateway/tag"
	"sluice/internal/service"
	"sluice/internal/service/mask"
)

// place are the flags that every process needs.
func place(args ...string) []string {
	return append([]string{"-node", "gateway-1", "-address", "198.18.1.31"}, args...)
}

func environment(pairs ...string) func(string) string {
	values := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		values[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return values[name] }
}

func reader(text string) func(string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		if name != "gw.conf" {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		return []byte(text), nil
	}
}

func parse(t testing.TB, args ...string) config.Config {
	t.Helper()
	c, err := config.Parse(config.Input{Args: place(args...)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sourceOf(c config.Config, name string) string {
	for _, row := range c.Render() {
		if row.Name == name {
			return row.Source
		}
	}
	return ""
}

func TestAProcessThatIsToldNothingServesItsLoopback(t *testing.T) {
	c := parse(t)
	want := []string{"127.0.0.1:9999;proto=http"}
	if got := texts(c.Listeners); !slices.Equal(got, want) || c.Admin.String() != "127.0.0.1:9998" {
		t.Errorf("listeners %q, admin %s; want %q and 127.0.0.1:9998", got, c.Admin, want)
	}
	if c.Prefix != "urlprefix-" || c.OverrideKey != "fabio/config" || c.Timeout != 30*time.Second || c.Drain != 1500*time.Millisecond {
		t.Errorf("got %+v", c)
	}
	for _, row := range c.Render() {
		if want := "default"; row.Source != want && row.Name != "node" && row.Name != "address" {
			t.Errorf("%s comes from %s, want %s", row.Name, row.Source, want)
		}
	}
}

func texts(listeners []config.Listener) []string {
	var all []string
	for _, l := range listeners {
		all = append(all, l.String())
	}
	return all
}

func TestAFlagGoesBeforeTheEnvironmentAndThatBeforeTheFile(t *testing.T) {
	file := "# ours\n\ntimeout = 1s\ndrain=2s\r\nretries = 1\naccess-log-format = $remote_host # \"$request\"\nlisten = 127.0.0.1:1;proto=tcp\n"
	c, err := config.Parse(config.Input{
		Args: place("-config", "gw.conf", "-timeout", "3s", "-timeout", "4s"),
		Getenv: environment("SLUICE_GATEWAY_TIMEOUT", "5s", "SLUICE_GATEWAY_DRAIN", "6s",
			"SLUICE_GATEWAY_LISTEN", "127.0.0.1:2;proto=tcp | 127.0.0.1:3"),
		ReadFile: reader(file),
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Timeout != 4*time.Second || c.Drain != 6*time.Second || c.Retries != 1 || c.AccessLogFormat != `$remote_host # "$request"` {
		t.Errorf("got timeout %s, drain %s, retries %d, format %s", c.Timeout, c.Drain, c.Retries, c.AccessLogFormat)
	}
	if got, want := texts(c.Listeners), []string{"127.0.0.1:2;proto=tcp", "127.0.0.1:3;proto=http"}; !slices.Equal(got, want) {
		t.Errorf("listeners %q, want those of the environment alone, and none of -port: %q", got, want)
	}
	for name, want := range map[string]string{
		"timeout": "flag", "drain": "env SLUICE_GATEWAY_DRAIN", "retries": "gw.conf:5", "strategy": "default", "port": "default",
	} {
		if got := sourceOf(c, name); got != want {
			t.Errorf("%s comes from %q, want %q", name, got, want)
		}
	}
}

func TestTheEnvironmentMayNameTheFile(t *testing.T) {
	c, err := config.Parse(config.Input{
		Args: place(), Getenv: environment("SLUICE_GATEWAY_CONFIG", "gw.conf"), ReadFile: reader("\ufeffoverride-key = other/key"),
	})
	if err != nil || c.OverrideKey != "other/key" {
		t.Errorf("got %q, %v", c.OverrideKey, err)
	}
}

// TestEachFaultIsSaidWithItsPlaceItsValueAndWhatIsAllowed is about values by
// themselves and how they go together.
func TestEachFaultIsSaidWithItsPlaceItsValueAndWhatIsAllowed(t *testing.T) {
	tests := []struct {
		args, want string
	}{
		{"-timeout 5", `-timeout "5": want a number with its unit`},
		{"-timeout 0s", `want a time from 1ms to 24h`},
		{"-timeuot 5s", `there is no flag -timeuot; do you mean "-timeout"?`},
		{"-route-timeout 5", `-route-timeout "5": want`},
		{"-retries 6", `-retries "6": want a whole number from 0 to 5`},
		{"-retry-ratio NaN", `want a number from 0 to 1`},
		{"-strategy p2", `want one of p2c, rr, random, hash, ewma; do you mean "p2c"?`},
		{"-max-header-bytes 64KB", `want bytes, as in`},
		{"-max-header-bytes 1", `want from 1KiB to 16MiB`},
		{"-max-body 9999999999GiB", `want bytes, as in`},
		{"-trusted-proxies 10.0.0.0/33", `-trusted-proxies "10.0.0.0/33": parse networks`},
		{"-prefix=", `every tag would be a route`},
		{"-allow-plain=yes", `want true or false`},
		{"-kv /fabio", `neither begins nor ends with a slash`},
		{"-auth name=a;password=b", `"password" is unknown; want name, file, realm or type`},
		{"-auth name=a;file=f -auth name=a;file=g", `the scheme "a" is declared twice`},
		{"-port 99999", `want a number from 0 to 65535, or none`},
		{"-access-log stdot", `do you mean "stdout"?`},
		{"-access-log-format $nothing", `the field $nothing is unknown`},
		{"-access-log-mask token,none", `none does not go with other names`},
		{"-access-log-mask user[token]", `want the name of a query parameter`},
		{"-health-path /", `every route would lose its first page`},
		{"-health-path /a/../b", `want a path`},
		{"-response-headers dc,node", `want one of dc, instance`},
		{"-response-headers=", `both with a comma between`},
		{"-metrics-prefix 1a", `no digit first`},
		{"-datacenters dc1,dc1", `"dc1" is given twice`},
		{"-datacenters dc1,,dc2", `between the commas is empty`},
		{"-datacenters DC1", `small letters`},
		{"-no-route-status 204", `from 400 to 599`}, // a page has a body, and is no success
		{"-drain=\u00a01s", `begins or ends with a blank`},
		{"-node a\x01b", `a control character`},
		{"-listen 127.0.0.1:1|127.0.0.1:2", `stands between two values`},
		{"-consul http://me:secret@127.0.0.1:8500", `-token-file`},
		{"-config gone.conf", `-config "gone.conf": open gone.conf`},
		{"-config=", `want the path of a file`},
		{"extra", `unexpected argument "extra"`},

		{"-listen 127.0.0.1:1;proto=https", `needs certificates; add certs=DIR`},
		{"-listen 127.0.0.1:1;proto=http;certs=/c", `has no use for certificates`},
		{"-listen 127.0.0.1:1;proto=tcp;clientca=/c", `has no use for clientca=`},
		{"-listen 127.0.0.1:1;tlsmin=1.3", `has no use for tlsmin=`},
		{"-listen 127.0.0.1:1;strictmatch=true", `has no use for strictmatch=`},
		{"-listen 127.0.0.1:1;handshake=1s", `has no use for handshake=`},
		{"-listen 127.0.0.1:1;certs=/c;h2c=true", `has no use for h2c=`},
		{"-listen 127.0.0.1:1;pxyfrom=10.0.0.0/8", `without pxyproto=true`},
		{"-listen 127.0.0.1:1;pxyothers=true", `without pxyproto=true`},
		{"-listen 127.0.0.1:1;pxyproto=true", `nobody is trusted`},
		{"-listen 127.0.0.1:1 -listen :1;public=true", `-listen :1: the port is taken by -listen 127.0.0.1:1`},
		{"-listen 0.0.0.0:9999;public=true -port 9999", `the port is taken by -port 127.0.0.1:9999`},
		{"-listen 127.0.0.1:9998", `taken by the operations page`},
		{"-listen :1", `others reach; bind to 127.0.0.1, use TLS, or add ;public=true`},
		{"-listen 192.0.2.1:1;proto=tcp", `add ;public=true`},
		{"-listen 127.0.0.1:1;public=true", `leave it out`},
		{"-listen :1;certs=/c;public=true", `leave it out`},
		{"-port none", `nobody could connect`},
		{"-admin-port none", `is always there`},
		{"-admin-address 127.0.0.1:1 -admin-port 2", `contradict each other`},
		{"-admin-address :1", `others than this node reach it`},
		{"-admin-address 127.0.0.1:1;public=true", `leave it out`},
		{"-eject-base 1m -eject-max 30s", `-eject-max 30s is less than -eject-base 1m`},
		{"-retry-ratio 0 -retry-rate 0", `say -retries 0`},
		{"-strict-paths -match glob", `contradicts -match glob`},
	}
	for _, test := range tests {
		_, err := config.Parse(config.Input{Args: place(strings.Split(test.args, " ")...), ReadFile: reader("")})
		var usage service.UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want a usage error with %s", test.args, err, test.want)
		}
	}
}

func TestAFaultInAFileHasItsLineAndTheNearestName(t *testing.T) {
	tests := []struct{ file, want string }{
		{"a = b\ntimeuot = 5s", `gw.conf:2: there is no "timeuot"; do you mean "timeout"?`},
		{"a", `gw.conf:1: "a" has no =`},
		{"-drain = 1s", `names have no dash in front here`},
		{"drain = 1s\n\ndrain = 2s", `gw.conf:3: drain is given before, in line 1`},
		{"kv = a\noverride-key = b", `gw.conf:2: override-key is given before, in line 1`},
		{"drain = x", `gw.conf:1: drain "x": want a number with its unit`},
		{"config = gw.conf", `a file cannot name another one`},
		{"Drain = 1s", `do you mean "drain"?`},
		{"version = true", `there is no "version"`},
		{strings.Repeat("#", 1<<20+1), `larger than 1MiB`},
	}
	for _, test := range tests {
		_, err := config.Parse(config.Input{Args: place("-config", "gw.conf"), ReadFile: reader(test.file)})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.40q: got %v, want %s", test.file, err, test.want)
		}
	}
}

// TestAFaultBetweenSettingsSaysWhereEachOfThemIs has the second of some settings in the
// environment.
func TestAFaultBetweenSettingsSaysWhereEachOfThemIs(t *testing.T) {
	getenv := environment("SLUICE_GATEWAY_EJECT_BASE", "1m", "SLUICE_GATEWAY_ADMIN_ADDRESS", "127.0.0.1:7", "SLUICE_GATEWAY_RETRY_RATE", "0")
	tests := []struct{ file, want string }{
		{"\neject-max = 30s", `gw.conf:2: eject-max 30s is less than -eject-base 1m (SLUICE_GATEWAY_EJECT_BASE)`},
		{"eject-max = 1m\nretries = 1\nretry-ratio = 0", `gw.conf:2: retries 1, but -retry-ratio 0 (gw.conf:3) and -retry-rate 0 (SLUICE_GATEWAY_RETRY_RATE) allow none`},
		{"retry-ratio = 0", `-retries 2, but -retry-ratio 0 (gw.conf:1) and`},
		{"match = glob\nstrict-paths = true", `gw.conf:2: strict-paths contradicts -match glob (gw.conf:1)`},
		{"# no\nport = none", `gw.conf:2: port none without -listen`},
		{"admin-port = 8", `gw.conf:1: admin-port 8 and -admin-address 127.0.0.1:7 (SLUICE_GATEWAY_ADMIN_ADDRESS) contradict each other`},
		{"listen = 127.0.0.1:1\nlisten = 127.0.0.1:2\nlisten = 127.0.0.1:1", `gw.conf:3: listen 127.0.0.1:1: the port is taken by -listen 127.0.0.1:1 (gw.conf:1)`},
		{"listen = 127.0.0.1:1\nlisten = 127.0.0.1:2;proto=https", `gw.conf:2: listen 127.0.0.1:2: proto=https needs certificates`},
		{"port = 3\nlisten = 127.0.0.1:3", `gw.conf:2: listen 127.0.0.1:3: the port is taken by -port 127.0.0.1:3 (gw.conf:1)`},
		{"listen = 127.0.0.1:1\nlisten = 127.0.0.1:7", `gw.conf:2: listen 127.0.0.1:7: the port is taken by the operations page at 127.0.0.1:7 (SLUICE_GATEWAY_ADMIN_ADDRESS)`},
		{"port = 7", `gw.conf:1: port 127.0.0.1:7: the port is taken by the operations page`},
		{"auth = name=a;file=f\nauth = name=b;file=f\nauth = name=a;file=g", `gw.conf:3: auth: the scheme "a" is declared twice (gw.conf:1)`},
		{"consul = http://me:secret@127.0.0.1:8500", `gw.conf:1: consul: it holds a user's name or a password`},
		{"log-level = loud", `gw.conf:1: log-level "loud": want debug, info, warn or error`},
		{"\nloopback = 192.0.2.1", `gw.conf:2: loopback 192.0.2.1 is not a loopback address`},
		{"failover-datacenters = dc2,dc2", `gw.conf:1: failover-datacenters: dc2 is there already`},
		{"admin-hosts = a/b", `gw.conf:1: admin-hosts: "a/b"`},
		{"datacenter =", `gw.conf:1: datacenter is empty`},
	}
	for _, test := range tests {
		_, err := config.Parse(config.Input{Args: place("-config", "gw.conf"), Getenv: getenv, ReadFile: reader(test.file)})
		var lines []string
		if err != nil {
			lines = strings.Split(err.Error(), "\n")
		}
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, test.want) }) {
			t.Errorf("%.60q: got %v, want %s", test.file, err, test.want)
		}
		for _, line := range lines {
			if !strings.Contains(line, "gw.conf:") && !strings.Contains(line, "SLUICE_GATEWAY_") {
				t.Errorf("%.60q: %s says not where it is", test.file, line)
			}
		}
	}
	_, err := config.Parse(config.Input{Args: place(), Getenv: environment("SLUICE_GATEWAY_LOG_FORMAT", "xml")})
	if err == nil || !strings.HasPrefix(err.Error(), `SLUICE_GATEWAY_LOG_FORMAT "xml": want json or text`) {
		t.Errorf("a value of the environment: %v", err)
	}
}

func TestWhatIsWrongWithWhereItIsHidesNoOtherFault(t *testing.T) {
	_, err := config.Parse(config.Input{Args: []string{"-config", "gw.conf"}, ReadFile: reader("log-level = loud\neject-max = 1s")})
	const want = "-address is missing\n-node is missing\ngw.conf:1: log-level \"loud\": want debug, info, warn or error\ngw.conf:2: eject-max 1s is less than -eject-base 10s"
	if err == nil {
		t.Fatal("it was taken")
	}
	lines := strings.Split(err.Error(), "\n")
	slices.Sort(lines)
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestEachListenerOfAFileIsShownWithItsLine(t *testing.T) {
	c, err := config.Parse(config.Input{Args: place("-config", "gw.conf"), ReadFile: reader("listen = 127.0.0.1:1\n\nlisten = 127.0.0.1:2")})
	if err != nil {
		t.Fatal(err)
	}
	var sources []string
	for _, row := range c.Render() {
		if row.Name == "listen" {
			sources = append(sources, row.Source)
		}
	}
	if want := []string{"gw.conf:1", "gw.conf:3"}; !slices.Equal(sources, want) {
		t.Errorf("the listeners come from %q, want %q", sources, want)
	}
}

func TestAFaultInTheEnvironmentNamesTheVariable(t *testing.T) {
	_, err := config.Parse(config.Input{Args: place(), Getenv: environment("SLUICE_GATEWAY_DIAL_TIMEOUT", "x")})
	if err == nil || !strings.HasPrefix(err.Error(), `SLUICE_GATEWAY_DIAL_TIMEOUT "x": want`) {
		t.Errorf("got %v", err)
	}
}

func TestAllFaultsAreSaidAtOnce(t *testing.T) {
	_, err := config.Parse(config.Input{
		Args: place("-config", "gw.conf", "-timeout", "x"), Getenv: environment("SLUICE_GATEWAY_DRAIN", "y"), ReadFile: reader("none = z\nretries = many"),
	})
	if got := strings.Count(err.Error(), "\n") + 1; got != 4 {
		t.Errorf("%d lines, want 4: %v", got, err)
	}
}

func TestHelpAndVersionAreAnswered(t *testing.T) {
	for arg, want := range map[string]error{"-h": flag.ErrHelp, "-version": service.ErrVersion} {
		var out bytes.Buffer
		_, err := config.Parse(config.Input{Args: []string{arg}, Stdout: &out})
		if !errors.Is(err, want) || !strings.Contains(out.String(), "gateway ") {
			t.Errorf("%s: got %v and %q", arg, err, out.String())
		}
	}
}

func TestUsageNamesEveryFlagOnceWithItsDefault(t *testing.T) {
	usage := config.Usage()
	for _, f := range config.Flags() {
		if got := strings.Count(usage, "\n  -"+f.Name+" ") + strings.Count(usage, "\n  -"+f.Name+"\n"); got != 1 {
			t.Errorf("-%s is there %d times", f.Name, got)
		}
		if f.Default != "" && f.Default != "false" && !strings.Contains(usage, "(default "+f.Default+")") {
			t.Errorf("-%s: its default %s is not there", f.Name, f.Default)
		}
	}
}

// A configuration of Fabio must start the gateway once what is done by hand is
// done, so every flag that is made of one is known, and its value well formed.
func TestWhatIsMadeOfAConfigurationOfFabioIsAccepted(t *testing.T) {
	text, err := os.ReadFile("../fabio/testdata/production.properties")
	if err != nil {
		t.Fatal(err)
	}
	report, err := fabio.Convert(string(text), nil)
	if err != nil || len(report.Flags) == 0 {
		t.Fatalf("%d flags, %v", len(report.Flags), err)
	}
	args := place("-trusted-proxies", "10.0.0.0/8")
	for _, f := range report.Flags {
		args = append(args, "-"+f.Name, f.Value)
	}
	c, err := config.Parse(config.Input{Args: args})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Listeners) != 6 || c.Strategy != tag.RoundRobin || c.Match != tag.IPrefix || c.OverrideKey != "fabio/config" || len(c.Auth) != 1 || c.Timeout != 30*time.Second {
		t.Errorf("got %+v", c)
	}
}

func TestZeroIsNeverAndNotTheDefault(t *testing.T) {
	c := parse(t, "-eject-origin", "0", "-retry-ratio", "0", "-slow-start", "0")
	if e, b := c.Ejection(), c.Budget(); e.Origin >= 0 || e.Local != 2 || b.Ratio >= 0 || b.PerSecond != 10 || c.SlowStart() >= 0 {
		t.Errorf("got %+v, %+v, %s", e, b, c.SlowStart())
	}
}

func TestListenersGetWhatTheGatewayHasForAll(t *testing.T) {
	c := parse(t, "-listen", "127.0.0.1:1;proto=https;pxyproto=true", "-listen", "127.0.0.1:2;cert=a,key=b;cert=c;pxyproto=true;pxyfrom=192.0.2.0/24",
		"-cert-dir", "/c", "-trusted-proxies", "10.0.0.0/8, fd00::/8", "-strict-paths")
	want := []string{
		"127.0.0.1:1;proto=https;certs=/c;tlsmin=1.2;pxyproto=true;pxyfrom=10.0.0.0/8,fd00::/8",
		"127.0.0.1:2;proto=https;cert=a,key=b;cert=c;tlsmin=1.2;pxyproto=true;pxyfrom=192.0.2.0/24",
	}
	if got := texts(c.Listeners); !slices.Equal(got, want) || c.Match != tag.Segment {
		t.Errorf("got %q and %s, want %q and segment", got, c.Match, want)
	}
}

// same compares two configurations by everything that others see.
func same(a, b config.Config) (field string, ok bool) {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range x.NumField() {
		if f := x.Type().Field(i); f.IsExported() && !reflect.DeepEqual(x.Field(i).Interface(), y.Field(i).Interface()) {
			return f.Name, false
		}
	}
	return "", a.Ejection() == b.Ejection() && a.Budget() == b.Budget() && a.SlowStart() == b.SlowStart()
}

func TestTheUsualSecretsAreMaskedUnlessAllNamesAreGiven(t *testing.T) {
	for text, want := range map[string][]string{
		"": mask.Names(), "default": mask.Names(), "none": {}, "pin": {"pin"},
		"default, pin": append(mask.Names(), "pin"),
	} {
		var args []string
		if text != "" {
			args = []string{"-access-log-mask", text}
		}
		if got := parse(t, args...).MaskedParameters(); got == nil || !slices.Equal(got, want) {
			t.Errorf("%q masks %q, want %q", text, got, want)
		}
	}
}
