package proofs_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// pageQuestion is a page of one instance of web, asked for as the gateway does.
type pageQuestion struct {
	Address string `json:"address"`
	Path    string `json:"path"`
	// Text is waited for on the page; Absent waits until it is not there.
	Text   string `json:"text"`
	Absent bool   `json:"absent,omitempty"`
	// Form is sent instead, once.
	Form string `json:"form,omitempty"`
}

// page asks until the page is as it is waited for, and says how long that took.
func (p *probe) page(ctx context.Context) error {
	began := monotonic()
	for {
		status, body, err := p.getPage(ctx)
		found := err == nil && strings.Contains(body, p.Page.Text) != p.Page.Absent
		switch {
		case found && status < 400, p.Page.Form != "":
			p.say(event{Stream: "page", Result: served, Began: began, Ended: monotonic(), Count: status, Detail: textOf(err)})
			return nil
		case monotonic()-began > 50*time.Second:
			p.say(event{Stream: "page", Result: timeout, Began: began, Ended: monotonic(), Count: status, Detail: textOf(err) + excerpt(body)})
			return nil
		}
		pause(ctx, 100*time.Millisecond)
	}
}

func (p *probe) getPage(ctx context.Context) (status int, body string, err error) {
	conn, err := p.dialRaw(ctx, p.Page.Address, nil)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://web"+p.Page.Path, nil)
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Accept", "application/json")
	if p.Page.Form != "" {
		request.Method, request.Body, request.ContentLength = http.MethodPost, io.NopCloser(strings.NewReader(p.Page.Form)), int64(len(p.Page.Form))
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	} else if p.Page.Path != "/web" {
		request.Header.Set("Accept", "text/html")
	}
	request.Close = true
	if err := request.Write(conn); err != nil {
		return 0, "", err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	read, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	return response.StatusCode, string(read), err
}

// consulAway hangs the agent beside web-1, and then kills it. The pages of web-1 say
// so, are read and take entries, and say nothing any more when it is back.
func consulAway(p *proof) {
	address := p.node("web-1").Address + ":8000"
	await := func(path, text string, absent bool) {
		p.Helper()
		for _, e := range p.ask("gateway-1", order{Service: "gateway", TokenFile: p.token("gateway", "gateway-1"), Page: &pageQuestion{
			Address: address, Path: path, Text: text, Absent: absent,
		}}) {
			if e.Result != served {
				p.Fatalf("%s, %q: %s, status %d: %s", path, text, e.Result, e.Count, e.Detail)
			}
		}
	}
	const words = "Consul is away: running on the last known state"
	for _, fault := range []struct{ begin, end string }{{"stop", "cont"}, {"kill", "restart"}} {
		began := monotonic()
		p.lab.Must("fault", fault.begin, "web-1/consul")
		await("/web", `"kind":"consul_away"`, false)
		told := monotonic() - began
		await("/web/blog/main", words, false)
		form := url.Values{"title": {"Written while Consul is away: " + fault.begin}, "body": {"x"}}.Encode()
		for _, e := range p.ask("gateway-1", order{Service: "gateway", TokenFile: p.token("gateway", "gateway-1"), Page: &pageQuestion{Address: address, Path: "/web/entries", Form: form}}) {
			if e.Count != http.StatusCreated {
				p.Errorf("%s: a write is answered with %d: %s", fault.begin, e.Count, e.Detail)
			}
		}
		await("/web", "Written while Consul is away: "+fault.begin, false)
		back := monotonic()
		p.lab.Must("fault", fault.end, "web-1/consul")
		p.awaitAgent("web-1")
		await("/web", `"kind":"consul_away"`, true)
		p.Logf("%s: told after %s, and no more %s after the agent is let go", fault.begin, told.Round(time.Millisecond), (monotonic() - back).Round(time.Millisecond))
		if limit := 15 * time.Second; told > limit {
			p.Errorf("%s: told after %s only, want %s", fault.begin, told, limit)
		}
		p.awaitInstance("web", "web-1", 2*recovery)
	}
}
