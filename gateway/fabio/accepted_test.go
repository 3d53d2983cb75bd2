package fabio_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sluice/gateway/config"
	"sluice/gateway/fabio"
)

// accept has the gateway's own configuration judge the flags, with those beside
// them that the notes leave to people.
func accept(report fabio.Report) error {
	args := append([]string{"-node", "gateway-1", "-address", "192.0.2.1"}, report.Args()...)
	text := strings.Join(args, " ")
	if strings.Contains(text, ";pxyproto=true") && noted(report, "-trusted-proxies") {
		args = append(args, "-trusted-proxies", "10.0.0.0/8")
	}
	if !slices.Contains(args, "-cert-dir") && noted(report, "-cert-dir") {
		args = append(args, "-cert-dir", "/certificates")
	}
	_, err := config.Parse(config.Input{Args: args})
	return err
}

func noted(report fabio.Report, flag string) bool {
	return slices.ContainsFunc(report.Notes, func(n fabio.Note) bool { return strings.Contains(n.Reason, flag) })
}

func TestEveryExampleIsAConfigurationThatTheGatewayAccepts(t *testing.T) {
	texts := exampleProperties(t)
	for _, test := range propertyTests() {
		texts = append(texts, test.text)
	}
	for _, text := range append(texts,
		"proxy.addr=:1;proto=tcp", "proxy.addr=0.0.0.0:1", "proxy.addr=10.0.0.1:1", "proxy.addr=127.0.0.1:1", "proxy.addr=[::]:1;proto=grpc",
		"proxy.addr=:1;proto=tcp+sni", "proxy.addr=:1;proto=https+tcp+sni", "proxy.addr=:1;cs=a\nproxy.cs=cs=a;type=vault;cert=x",
		"proxy.addr=localhost:1", "proxy.addr=:http", "proxy.addr=:99999", "proxy.addr=10.0.0.1%eth0:1", "proxy.addr=::1:80",
		"proxy.addr=:1,:1", "proxy.addr=:1,10.0.0.1:1", "proxy.addr=:9998", "proxy.addr=:1\nui.addr=:1",
		"proxy.addr=:1;rt=48h", "proxy.addr=:1;it=1us", "proxy.addr=:1\nproxy.readtimeout=240h",
		"ui.addr=10.0.0.1:9998", "ui.addr=[::1]:1", "ui.addr=localhost:9998", "ui.addr=:x",
		"proxy.responseheadertimeout=240h", "proxy.responseheadertimeout=1us", "proxy.shutdownwait=240h", "proxy.shutdownwait=0",
		"proxy.noroutestatus=100", "proxy.noroutestatus=999", "proxy.noroutestatus=204",
		"registry.consul.addr=127.0.0.1:99999", "registry.consul.addr=user:secret@127.0.0.1:8500", "registry.consul.kvpath=a//b",
		"registry.consul.tagprefix=a b", "log.access.format=\\tx", "proxy.auth=name=a;type=basic;file=/a,name=a;type=basic;file=/b",
		"proxy.auth=name=a b;type=basic;file=/a", "metrics.prefix=9a",
	) {
		report, err := fabio.Convert(text, environment)
		if err != nil {
			t.Fatal(err)
		}
		if err := accept(report); err != nil {
			t.Errorf("%q becomes\n%swhich is refused: %v", text, report, err)
		}
	}
}

// exampleProperties are the whole files.
func exampleProperties(t *testing.T) (texts []string) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.properties")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	return texts
}
