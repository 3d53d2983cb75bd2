package fabio_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sluice/gateway/fabio"
)

func environment(name string) string {
	return map[string]string{"AGENT": "127.0.0.1"}[name]
}

func TestPropertiesAreReadAsJavaReadsThem(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"equals sign", "a=b", "a|b|1"},
		{"colon", "a:b", "a|b|1"},
		{"blank", "a b", "a|b|1"},
		{"blanks around", "  a \t = \t b ", "a|b |1"},
		{"value with separators", "a = b = c : d", "a|b = c : d|1"},
		{"no value", "a", "a||1"},
		{"separator alone", "a =", "a||1"},
		{"comments and blank lines", "# x\n\n ! y\n \t\na=b", "a|b|5"},
		{"hash in a value", "a=b # c", "a|b # c|1"},
		{"continued", "a = b,\\\n    c,\\\n\td\ne=f", "a|b,c,d|1 e|f|4"},
		{"comment is not continued", "# x \\\na=b", "a|b|2"},
		{"continued line is no comment", "a=b\\\n#c", "a|b#c|1"},
		{"two backslashes end a line", "a=b\\\\\nc=d", `a|b\|1 c|d|2`},
		{"continued at the end", "a=b\\", "a|b|1"},
		{"escapes", `a=\t\n\r\f\\\q\u00e4\u20AC`, "a|\t\n\r\f\\qä€|1"},
		{"escapes in a name", `a\ b\=c\:d=e`, "a b=c:d|e|1"},
		{"line ends", "a=b\r\nc=d\re=f", "a|b|1 c|d|2 e|f|3"},
		{"byte order mark", "\ufeffa=b", "a|b|1"},
		{"twice", "a=b\na=c", "a|b|1 a|c|2"},
		{"not ASCII", "ä=ö", "ä|ö|1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			properties, err := fabio.Parse(test.text)
			var got []string
			for _, p := range properties {
				got = append(got, p.Name+"|"+p.Value+"|"+string(rune('0'+p.Line)))
			}
			if err != nil || strings.Join(got, " ") != test.want {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
	for text, want := range map[string]string{
		"a=b\n=c": "line 2: it has no name", `a=\u12`: "line 1", `a=\u12x4`: "four hexadecimal digits", "a=\xff": "UTF-8",
	} {
		if properties, err := fabio.Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v, want %q", text, properties, err, want)
		}
	}
}

func TestWholeConfigurationBecomesFlagsAndNotes(t *testing.T) {
	files, err := filepath.Glob("testdata/*.properties")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(strings.TrimSuffix(file, ".properties") + ".golden")
		if err != nil {
			t.Error(err)
		}
		report, err := fabio.Convert(string(text), environment)
		if err != nil {
			t.Fatal(err)
		}
		if got := report.String(); got != string(want) {
			t.Errorf("%s becomes\n%s", file, got)
		}
	}
}

// propertyTests are properties with a part of what becomes of them.
func propertyTests() []struct{ text, want string } {
	return []struct{ text, want string }{
		{"proxy.strategy=rnd", "-strategy random"},
		{"proxy.strategy=least", "malformed: \"least\" is none of rnd, rr"},
		{"proxy.noroutestatus=99", "malformed"},
		{"proxy.noroutestatus=204", "not supported"},
		{"proxy.noroutestatus=503", "-no-route-status 503"},
		{"proxy.noroutestatus=x", "malformed"},
		{"proxy.shutdownwait=90s", "-drain 1m30s"},
		{"proxy.shutdownwait=-1s", "malformed"},
		{"proxy.responseheadertimeout=0s", "done otherwise"},
		{"proxy.addr=:9999", "-listen ':9999;proto=http;public=true'"},
		{"proxy.addr=addr=:9999;proto=http", "-listen ':9999;proto=http;public=true'"},
		{"proxy.addr=\":9999\"", "-listen ':9999;proto=http;public=true'"},
		{"proxy.addr=9999", "malformed"},
		{"proxy.addr=", "malformed: there is no listener"},
		{"proxy.addr={{ GetPrivateIP }}:1", "by hand: templates of addresses are not expanded"},
		{"proxy.addr=:1;rt=x", "\"x\" is no duration"},
		{"proxy.addr=:1;pxyproto=true", "by hand: name the load balancers"},
		{"proxy.addr=:1;pxyproto=false", "-listen ':1;proto=http;public=true'"},
		{"proxy.addr=:1;colour=red", "unknown: :1: Fabio has no option \"colour\""},
		{"proxy.addr=:1;proto=udp", "malformed: :1: the protocol \"udp\" is unknown"},
		{"proxy.addr=:1;proto=https", "malformed: :1: https needs"},
		{"proxy.addr=:1;cs=x", "malformed: :1: there is no certificate source \"x\""},
		{"proxy.addr=:1;proto=tcp-dynamic", "not supported"},
		{"proxy.addr=:1;proto=grpc", "-listen ':1;proto=grpc;public=true'"},
		{"proxy.addr=:1;proto=grpcs;cs=a\nproxy.cs=cs=a;type=path;cert=/a", "-listen ':1;proto=grpcs'"},
		{"proxy.addr=:1;cs=a;tlsmin=tls13;strictmatch=true\nproxy.cs=cs=a;type=path;cert=/a", "-listen ':1;proto=https;strictmatch=true;tlsmin=1.3'"},
		{"proxy.addr=:1;cs=a\nproxy.cs=cs=a;type=file;cert=/a.pem;key=/b.pem;clientca=/ca.pem", "-listen ':1;proto=https;cert=/a.pem,key=/b.pem;clientca=/ca.pem'"},
		{"proxy.addr=:1;cs=a\nproxy.cs=cs=a;type=path;cert=/a;clientca=/ca", "by hand: a: clientca"},
		{"proxy.addr=:1;tlsmin=tls13", "same: :1: strictmatch"},
		{"proxy.maxconn=100", "-idle-upstream 100"},
		{"proxy.dialtimeout=30s", "-dial-timeout 30s"},
		{"proxy.dialtimeout=0s", "done otherwise"},
		{"proxy.idleconntimeout=2h", "-keepalive-upstream 1h0m0s"},
		{"proxy.addr=:1;\"", "malformed"},
		{"proxy.readtimeout=1s", "-listen ':9999;proto=http;public=true;rt=1s'"},
		{"proxy.strategy=rr", "default: proxy.addr: done otherwise: it is not in the file; this is Fabio's default"},
		{"proxy.addr=:1;cs=a\nproxy.cs=cs=a;type=file;cert=/a.pem;key=/b.pem", "done otherwise: a: its files"},
		{"proxy.addr=:1;cs=a\nproxy.cs=cs=a;type=file;cert='/a;.pem'", "by hand: a: put"},
		{"proxy.addr=:1\nproxy.cs=cs=a;type=file;cert=/a.pem", "same: a: no listener has it"},
		{"proxy.stratgy=rr", "unknown: Fabio has no such property; do you mean \"proxy.strategy\"?"},
		{"proxy.deregistergraceperiod=3s", "-stop-delay 3s"},
		{"proxy.cs=", "same: there is none"},
		{"proxy.cs=cs=a;type=path;cert=/a,cs=b;type=path;cert=/b", "by hand: there is one -cert-dir"},
		{"proxy.auth=", "same: there is none"},
		{"proxy.auth=name=a;type=basic", "malformed"},
		{"proxy.header.requestid=X-Request-ID", "same"},
		{"proxy.header.requestid=X-Other", "done otherwise"},
		{"registry.backend=file", "not supported"},
		{"registry.consul.addr=http://127.0.0.1:8500/x", "-consul 127.0.0.1:8500"},
		{"registry.consul.addr=https://127.0.0.1:8500", "not supported"},
		{"registry.consul.addr=localhost", "malformed: it has no port"},
		{"registry.consul.kvpath=/", "malformed"},
		{"registry.consul.tagprefix=", "malformed"},
		{"registry.consul.service.status=passing", "same"},
		{"registry.consul.service.status=passing,warning", "not supported"},
		{"registry.consul.checksRequired=one", "not supported"},
		{"registry.consul.checksrequired=one", "unknown: Fabio has no such property; is it registry.consul.checksRequired?"},
		{"registry.consul.register.enabled=false", "not supported"},
		{"registry.consul.register.checkDeregisterCriticalServiceAfter=90m", "dead"},
		{"log.access.target=", "same"},
		{"log.access.target=file", "malformed"},
		{"log.access.format=combined", "-access-log-format combined"},
		{"log.access.format=$nope", "malformed: access log format: the field $nope is unknown"},
		{"log.access.format=$header.Cookie", "malformed"},
		{"log.level=fatal", "-log-level error"},
		{"metrics.target=prometheus", "same"},
		{"metrics.target=", "done otherwise"},
		{"metrics.prefix=fabio", "-metrics-prefix fabio"},
		{"metrics.prefix=a.b", "by hand"},
		{"ui.addr=:9998", "-admin-address ':9998;public=true'"},
		{"ui.addr=:9998;cs=ui", "not supported"},
		{"ui.access=rw", "by hand"},
		{"ui.access=x", "malformed"},
		{"consul.addr=x:1", "dead"},
		{"nope=1", "unknown: Fabio has no such property"},
		{"proxy.strategy=${X}", "malformed: ${X} is neither"},
		{"proxy.strategy=${proxy.strategy}", "malformed: ${proxy.strategy} leads back"},
		{"proxy.strategy=${X", "malformed: ${ is not closed"},
		{"proxy.strategy=rr\nproxy.strategy=rnd", "line 1: proxy.strategy: dead: line 2 gives it again"},
		{"proxy.strategy=rr\nproxy.strategy=rnd", "-strategy random"},
	}
}

func TestPropertyBecomesThisFlagOrThatNote(t *testing.T) {
	for _, test := range propertyTests() {
		report, err := fabio.Convert(test.text, environment)
		if err != nil || !strings.Contains(report.String(), test.want) {
			t.Errorf("%q becomes\n%s%v, want %q", test.text, report, err, test.want)
		}
	}
}

func TestSecretIsNeverRepeated(t *testing.T) {
	for _, text := range []string{
		"registry.consul.token = SECRET",
		"registry.consul.addr = http://u:SECRET@127.0.0.1:8500",
		"registry.consul.addr = https://u:SECRET@127.0.0.1:8500",
		"registry.consul.addr = http://u:SECRET@127.0.0.1:8500 SECRET",
		"proxy.cs = cs=a;type=http;cert=https://u:SECRET@h/list?token=SECRET;hdr=Authorization: SECRET",
		"proxy.cs = cs=a;type=consul;SECRET",
		"proxy.cs = cs=a;type=x;cert=\"SECRET",
		"metrics.circonus.apikey = SECRET",
		"bgp.peers = address=1.2.3.4;password=SECRET",
		"consul.token = SECRET",
	} {
		report, err := fabio.Convert(text, nil)
		if err != nil || strings.Contains(report.String(), "SECRET") || len(report.Notes) == 0 {
			t.Errorf("%q becomes\n%s%v", text, report, err)
		}
	}
}

func TestEveryPropertyOfFabioIsKnown(t *testing.T) {
	text, err := os.ReadFile("testdata/names.txt")
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(string(text))
	if len(names) != 128 {
		t.Fatalf("%d names", len(names))
	}
	for _, name := range names {
		report, err := fabio.Convert(name+" = x", nil)
		if err != nil || slices.ContainsFunc(report.Notes, func(n fabio.Note) bool { return n.Kind == fabio.Unknown }) {
			t.Errorf("%s becomes\n%s%v", name, report, err)
		}
	}
}

func TestArgsAreOneFlagEachAndCompleteSaysWhetherAnythingIsLost(t *testing.T) {
	report, err := fabio.Convert("proxy.addr=:1,:2;rt=1s\nruntime.gogc=800\n", nil)
	want := []string{"-listen", ":1;proto=http;public=true", "-listen", ":2;proto=http;public=true;rt=1s"}
	if err != nil || !slices.Equal(report.Args(), want) || !report.Complete() {
		t.Errorf("got %q, complete %t, %v", report.Args(), report.Complete(), err)
	}
	for _, text := range []string{"ui.color=red", "nope=1", "ui.access=rw", "proxy.strategy=x"} {
		if report, _ := fabio.Convert(text, nil); report.Complete() {
			t.Errorf("%q is complete", text)
		}
	}
}

func TestReferencesThatDoubleEnd(t *testing.T) {
	var text strings.Builder
	for c := 'a'; c < 'z'; c++ {
		text.WriteString(string(c) + "=${" + string(c+1) + "}${" + string(c+1) + "}\n")
	}
	text.WriteString("z=\n")
	report, err := fabio.Convert(text.String(), nil)
	if err != nil || !strings.Contains(report.String(), "more than 10000 references") {
		t.Errorf("got\n%s%v", report, err)
	}
}

// Every property is the origin of a flag or a note, and no note has a second line.
func FuzzConvert(f *testing.F) {
	files, err := filepath.Glob("testdata/*.properties")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("proxy.addr = :1;rt='a,b',;;,x=y\nproxy.auth=name=a;type=basic;file=b'c\na=${b}${b}\nb=${c}${c}\nc=x")
	f.Fuzz(func(t *testing.T, text string) {
		properties, err := fabio.Parse(text)
		if err != nil {
			return
		}
		report, err := fabio.Convert(text, environment)
		if err != nil {
			t.Fatal(err)
		}
		origins := map[int]bool{}
		for _, flag := range report.Flags {
			origins[flag.Line] = true
		}
		for _, note := range report.Notes {
			if strings.ContainsAny(note.Reason, "\n\r\x00") {
				t.Errorf("note %+v", note)
			}
			origins[note.Line] = true
		}
		for _, p := range properties {
			if !origins[p.Line] {
				t.Errorf("nothing is said of %+v", p)
			}
		}
	})
}
