package config_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"sluice/gateway/config"
)

// pools are values of every flag that are good together, whichever are chosen.
func pools() map[string][]string {
	return map[string][]string{
		"datacenter": {"dc1", "dc2"}, "failover-datacenters": {"", "dc3", "dc4,dc3"}, "break-glass": {"", "sluice/deny"}, "admin-hosts": {"", "ops.example", "a.example,b"}, "loopback": {"127.0.0.1", "127.0.1.5", "::1"}, "consul": {"127.0.0.1:8500", "unix:///run/consul.sock"},
		"token-file": {"", "/etc/token"}, "log-level": {"debug", "info"}, "log-format": {"json", "text"},
		"listen": {
			"127.0.0.1:8001", "127.0.0.1:8002;certs=/c;tlsmin=1.3;clientca=/ca.pem;strictmatch=true", ":8003;proto=tcp;public=true;it=1h",
			"[::1]:8004;h2c=true;rt=1s;wt=2m;maxconn=7", "192.0.2.1:8005;cert=a,key=b;cert=c;proto=grpcs", ":8006;proto=tcp+sni;handshake=3s",
			"[2001:db8::1]:8007;pxyproto=true;pxyfrom=10.0.0.0/8,fd00::/8;public=true;pxyothers=true", "127.0.0.1:0", "127.0.0.1:0;proto=grpc",
		},
		"port": {"8080", "0"}, "cert-dir": {"", "/certs"}, "trusted-proxies": {"", "10.0.0.0/8", "192.0.2.7, ::1"}, "codec": {"own", "std"},
		"prefix": {"urlprefix-", "gw-", `"`}, "kv": {"", "fabio/config", "a=b"}, "match": {"segment"}, "strict-paths": {"true", "false"},
		"allow-plain": {"true", "false"}, "auth": {"name=a;file=/f", "name=b;file=/g;realm=our # staff"},
		"strategy": {"p2c", "rr", "random", "hash", "ewma"}, "datacenters": {"", "dc1", "dc2, dc1"}, "timeout": {"1ms", "90s", "24h"},
		"dial-timeout": {"1s"}, "max-conn": {"0", "100"}, "keepalive-upstream": {"0", "1h"}, "idle-upstream": {"1", "64"},
		"slow-start": {"0s", "10s"}, "retries": {"0", "5"}, "retry-ratio": {"0.1", "1", "1e-3"}, "retry-rate": {"1", "2.5"},
		"eject-origin": {"0", "7"}, "eject-local": {"0", "1"}, "eject-base": {"1s"}, "eject-max": {"10m", "1h0m1s"}, "eject-percent": {"1", "100"},
		"header-timeout": {"1s"}, "idle-timeout": {"1m30s"}, "body-idle-timeout": {"0", "5s"}, "min-body-rate": {"0", "240", "1KiB"},
		"max-header-bytes": {"1024", "1500", "1MiB"}, "max-headers": {"10"}, "max-body": {"0", "10MiB", "8589934591GiB"},
		"admin-address": {"", "127.0.0.1:9000", "[::1]:9001", "192.0.2.1:9002;public=true"}, "admin-token-file": {"", "/etc/admin"},
		"health-path": {"", "/healthz"}, "response-headers": {"none", "dc", "instance", "instance,dc"}, "explain-errors": {"true"}, "error-pages": {"", "/etc/pages"}, "cpu-profile": {"", "/tmp/cpu.pprof"},
		"no-route-status": {"404", "503"}, "drain": {"0", "1.5s"}, "stop-delay": {"0", "2s"}, "metrics-prefix": {"gw", "_a1"}, "access-log": {"none", "stdout", "/var/log/access"},
		"access-log-format": {"json", "common", "combined", `$remote_host "$request" # $response_status`}, "access-log-mask": {"default", "none", "default,pin", "pin,otp"},
	}
}

// TestWhatIsRenderedGivesTheSameConfigAgain chooses flags at random, gives them by
// flag, by environment or by file, and reads what comes out again both ways.
func TestWhatIsRenderedGivesTheSameConfigAgain(t *testing.T) {
	const seed = 1
	random := rand.New(rand.NewPCG(seed, seed))
	all := pools()
	for _, f := range config.Flags() {
		switch f.Name {
		case "node", "address", "config", "admin-port":
		default:
			if len(all[f.Name]) == 0 {
				t.Errorf("there are no values for -%s", f.Name)
			}
		}
	}
	for range 500 {
		input := pick(random, all)
		c, err := config.Parse(input)
		if err != nil {
			t.Fatalf("%q: %v", input.Args, err)
		}
		again, err := config.Parse(config.Input{Args: []string{"-config", "gw.conf"}, ReadFile: reader(c.File())})
		if err != nil {
			t.Fatalf("%q: %v in\n%s", input.Args, err, c.File())
		}
		if field, ok := same(c, again); !ok {
			t.Fatalf("%q: %s differs after\n%s", input.Args, field, c.File())
		}
		var args []string
		for _, row := range c.Render() {
			if row.Value != "" || row.Source != "default" {
				args = append(args, "-"+row.Name+"="+row.Value)
			}
		}
		again, err = config.Parse(config.Input{Args: args})
		if field, ok := same(c, again); err != nil || !ok {
			t.Fatalf("%q: %s differs, %v after %q", input.Args, field, err, args)
		}
	}
}

// pick returns some of the flags, each from one of the three sources.
func pick(random *rand.Rand, all map[string][]string) config.Input {
	args := []string{"-config", "gw.conf"}
	variables := map[string]string{}
	var file strings.Builder
	give := func(f config.Flag, values []string) {
		switch random.IntN(3) {
		case 0:
			for _, value := range values {
				args = append(args, "-"+f.Name+"="+value)
			}
		case 1:
			variables[config.Variable(f.Name)] = strings.Join(values, " | ")
		default:
			for _, value := range values {
				fmt.Fprintf(&file, "%s=%s\n", f.Name, value)
			}
		}
	}
	for _, f := range config.Flags() {
		values := all[f.Name]
		switch {
		case f.Name == "node" || f.Name == "address":
			give(f, []string{"192.0.2.1"})
		case f.Repeat:
			var chosen []string
			for _, value := range values {
				if random.IntN(4) == 0 {
					chosen = append(chosen, value)
				}
			}
			if len(chosen) > 0 {
				give(f, chosen)
			}
		case len(values) > 0 && random.IntN(2) == 0:
			give(f, []string{values[random.IntN(len(values))]})
		}
	}
	return config.Input{Args: args, Getenv: func(name string) string { return variables[name] }, ReadFile: reader(file.String())}
}

func TestAListenerIsWrittenAsItIsRead(t *testing.T) {
	tests := []struct{ text, want string }{
		{"127.0.0.1:80", "127.0.0.1:80;proto=http"},
		{" 127.0.0.1:80 ; proto = tcp ;", "127.0.0.1:80;proto=tcp"},
		{":443;certs=/c", ":443;proto=https;certs=/c"},
		{"[::]:443;cert=/c.pem", "[::]:443;proto=https;cert=/c.pem"},
		{"[::ffff:192.0.2.1]:1", "192.0.2.1:1;proto=http"},
		{":1;pxyfrom=::ffff:10.0.0.0/104,10.1.2.3", ":1;proto=http;pxyfrom=10.0.0.0/8,10.1.2.3/32"},
		{":1;it=60m;rt=1500ms;h2c=false", ":1;proto=http;rt=1.5s;it=1h0m0s"},
	}
	for _, test := range tests {
		l, err := config.ParseListener(test.text)
		if err != nil || l.String() != test.want {
			t.Errorf("%q: got %q, %v; want %q", test.text, l, err, test.want)
		}
	}
}

func TestAMalformedListenerIsRefusedWithTheReason(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "there is no port",
		"80":                                "there is no port",
		"127.0.0.1":                         "there is no port",
		"localhost:80":                      `"localhost" is no IP address`,
		"::1:80":                            "brackets belong around an IPv6 address",
		"[127.0.0.1]:80":                    "around no other",
		"[fe80::1%eth0]:80":                 "has a zone",
		":http":                             `port "http" is no number`,
		":65536":                            "is no number from 0 to 65535",
		":-1":                               "is no number",
		":1;prot=http":                      `option "prot" is unknown; do you mean "proto"?`,
		":1;proto=https;proto=http":         "given twice",
		":1;proto":                          "has no value; want proto=http|https",
		":1;=x":                             `option "" is unknown`,
		":1;proto=htp":                      "do you mean",
		":1;key=a":                          "cert=FILE,key=FILE",
		":1;cert=a,key=":                    "the key has no file",
		":1;cert=,key=b":                    "want cert=FILE,key=FILE",
		":1;cert=a,b":                       "want cert=FILE,key=FILE",
		":1;rt=0":                           "want a time from 1ms to 24h",
		":1;maxconn=0":                      "from 1 to",
		":1;pxyfrom=nobody":                 "option pxyfrom=nobody: parse networks",
		":1;tlsmin=1.1":                     "want one of 1.2, 1.3",
		":1;h2c=yes":                        "want true or false",
		":1;cert=a,key=b;certs=c;clientca=": "has no value",
	} {
		if _, err := config.ParseListener(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func FuzzParseListener(f *testing.F) {
	for _, text := range pools()["listen"] {
		f.Add(text)
	}
	f.Add("[::ffff:1.2.3.4]:1;proto=https+tcp+sni;cert=a,key=b,key=c;pxyfrom=::/0")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := config.ParseListener(text)
		if err != nil {
			return
		}
		again, err := config.ParseListener(l.String())
		if err != nil || again.String() != l.String() {
			t.Fatalf("%q became %q, and that %q, %v", text, l, again, err)
		}
	})
}

func FuzzFile(f *testing.F) {
	f.Add("timeout = 1s\n# comment\nlisten = :1;public=true\nlisten=:2;certs=/c\r\n\nauth=name=a;file=b")
	f.Add("\ufeffkv=\naccess-log-format = \"$request\" # x\nresponse-headers=dc")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := config.Parse(config.Input{Args: place("-config", "gw.conf"), ReadFile: reader(text)})
		if err != nil {
			return
		}
		again, err := config.Parse(config.Input{Args: []string{"-config", "gw.conf"}, ReadFile: reader(c.File())})
		if err != nil {
			t.Fatalf("%q: %v", c.File(), err)
		}
		if field, ok := same(c, again); !ok {
			t.Fatalf("%s differs after %q", field, c.File())
		}
	})
}
