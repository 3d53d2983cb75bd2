package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/consultest"
)

// themeDir makes a folder of error pages, with one for every status.
func themeDir(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	theme(t, dir, text)
	return dir
}

func theme(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "error.html"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// asBrowser asks as a browser does, and wants a text in the answer.
func asBrowser(url, want string) func() error {
	return func() error {
		request, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		request.Header.Set("Accept", "text/html")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err == nil && !strings.Contains(string(body), want) {
			err = fmt.Errorf("it is %s, want %q", body, want)
		}
		return err
	}
}

func TestErrorPagesAreFollowedAndAFaultInThemIsSeen(t *testing.T) {
	agent := consultest.Start(t, consultest.Config{})
	dir := themeDir(t, "ours: {{.Status}}")
	startProcess(t, "-node", agent.Node, "-address", agent.Host, "-loopback", agent.Host, "-error-pages", dir,
		"-consul", agent.Address, "-token-file", agent.ServiceFile("gateway"))
	page, admin := "http://"+net.JoinHostPort(agent.Host, "9999")+"/nothing", "http://"+net.JoinHostPort(agent.Host, "9998")
	refused := func(n string) func() error {
		return asBrowser(admin+"/metrics", "sluice_gateway_error_pages_refused "+n+"\n")
	}
	for _, c := range []struct {
		what  string
		check func() error
	}{
		{"the page is ours", asBrowser(page, "ours: 404")},
		{"the metric tells no fault", refused("0")},
		{"the operations page tells of it", asBrowser(admin+"/", "Error pages from <code>"+dir)},
	} {
		consultest.Await(t, 20*time.Second, c.what, c.check)
	}
	last := newest(t, admin)
	theme(t, dir, "new: {{.Secret}}")
	consultest.Await(t, 10*time.Second, "the metric tells the fault", refused("1"))
	if err := asBrowser(page, "ours: 404")(); err != nil {
		t.Errorf("the last good page: %v", err)
	}
	if err := asBrowser(admin+"/", "newer error pages are not used: ")(); err != nil {
		t.Errorf("the operations page: %v", err)
	}
	if e := tells(t, admin, last, "errorpage", dir+" refused, those before stay: "); !strings.Contains(e.Text, "Secret") {
		t.Errorf("the timeline has %+v, want the fault", e)
	}
	theme(t, dir, "mended: {{.Status}}")
	consultest.Await(t, 10*time.Second, "it is mended", asBrowser(page, "mended: 404"))
	tells(t, admin, last, "errorpage", dir+" changed: error.html")
	if err := refused("0")(); err != nil {
		t.Error(err)
	}
}
