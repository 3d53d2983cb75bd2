package proofs_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/internal/labtest"
)

// written is what came of the form of an entry.
type written struct {
	status int
	again  string // Retry-After
	body   string
	took   time.Duration
	err    error
}

// formOf is what the page sends when somebody writes an entry with a title.
func formOf(title string) url.Values {
	id := make([]byte, 16)
	for i := range id {
		id[i] = byte(rand.Uint32())
	}
	return url.Values{"id": {hex.EncodeToString(id)}, "title": {title}, "body": {"held & kept"}}
}

// write sends a form through the gateway, as a browser does.
func (p *proof) write(form url.Values) written {
	client := &http.Client{
		Timeout: 25 * time.Second, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(p.Context(), http.MethodPost, p.lab.URL(9999, "/web/entries"), strings.NewReader(form.Encode()))
	if err != nil {
		return written{err: err}
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	request.Header.Set("Accept", "text/html")
	began := monotonic()
	response, err := client.Do(request)
	if err != nil {
		return written{err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	return written{response.StatusCode, response.Header.Get("Retry-After"), string(body), monotonic() - began, err}
}

// titles are those of the newest entries.
func (p *proof) titles() []string {
	p.Helper()
	status, body, _ := p.page("application/json")
	var page struct {
		Entries []struct {
			Title string `json:"title"`
		} `json:"entries"`
	}
	if err := json.Unmarshal([]byte(body), &page); err != nil || status != http.StatusOK {
		p.Fatalf("%v: %d: %s", err, status, excerpt(body))
	}
	var titles []string
	for _, entry := range page.Entries {
		titles = append(titles, entry.Title)
	}
	return titles
}

// writesAreHeld kills two of three members. A write is held and then refused, with the
// form; one during which a primary comes back is taken; and sent again it is stored once.
// That holds for a visitor's entry, and for an administrator's, whose login is checked
// first.
func writesAreHeld(p *proof) {
	primary, secondaries := p.members()
	run := fmt.Sprint(rand.Uint32())
	admin, patient := p.opensEditor("Edited in vain "+run), p.opensEditor("Edited in time "+run)
	p.lab.Must("fault", "kill", secondaries[0].Name+"/mongod")
	p.lab.Must("fault", "kill", primary.Name+"/mongod")
	labtest.Eventually(p, 40*time.Second, "the page says that nobody is primary", func() error {
		status, body, err := p.lab.Page("application/json")
		if err == nil && (status != http.StatusServiceUnavailable || !strings.Contains(body, `"kind":"no_instance"`)) {
			err = fmt.Errorf("status %d: %s", status, excerpt(body))
		}
		return err
	})

	vain := formOf("In vain " + run)
	unsaved := make(chan written, 1)
	go func() { unsaved <- admin.saves() }()
	refused := p.write(vain)
	p.refusedEditor(admin, <-unsaved)
	p.Logf("without a primary: %d after %s", refused.status, refused.took.Round(time.Millisecond))
	if refused.err != nil || refused.status != http.StatusServiceUnavailable || refused.again == "" || refused.took < 9*time.Second || refused.took > 20*time.Second {
		p.Errorf("%v: %d after %s, Retry-After %q; want 503 after 10 s", refused.err, refused.status, refused.took, refused.again)
	}
	for _, words := range []string{"No healthy instance of mongo-primary. Nothing was stored; what you typed is below.", vain.Get("id"), vain.Get("title"), "held &amp; kept"} {
		if !strings.Contains(refused.body, words) {
			p.Errorf("no %q on the page: %s", words, excerpt(refused.body))
		}
	}

	form := formOf("In time " + run)
	done, saved := make(chan written, 1), make(chan written, 1)
	go func() { done <- p.write(form) }()
	go func() { saved <- patient.saves() }()
	p.lab.Must("fault", "restart", primary.Name+"/mongod")
	taken := <-done
	p.Logf("with one that comes back: %d after %s", taken.status, taken.took.Round(time.Millisecond))
	if taken.err != nil || taken.status != http.StatusSeeOther || taken.took < 500*time.Millisecond {
		p.Errorf("%v: %d after %s, want 303 once somebody is primary: %s", taken.err, taken.status, taken.took, excerpt(taken.body))
	}
	if again := p.write(form); again.err != nil || again.status != http.StatusSeeOther {
		p.Errorf("sent again: %v: %d: %s", again.err, again.status, excerpt(again.body))
	}
	p.savedEditor(patient, <-saved)
	titles := p.titles()
	in := func(title string) int {
		return len(titles) - len(slices.DeleteFunc(slices.Clone(titles), func(t string) bool { return t == title }))
	}
	if n := in(form.Get("title")); n != 1 {
		p.Errorf("the entry that was taken is there %d times", n)
	}
	if n := in(vain.Get("title")); n != 0 {
		p.Errorf("the entry that was refused is there %d times", n)
	}
	if list := admin.ask(http.MethodGet, "/web/admin?q="+run, nil); list.status != http.StatusOK || strings.Contains(list.body, admin.form.Get("title")) || strings.Count(list.body, ">"+patient.form.Get("title")+"</a>") != 1 {
		p.Errorf("the administration does not have the one entry that was saved: %v: %d: %s", list.err, list.status, excerpt(list.body))
	}
	p.lab.Must("fault", "heal", "--all")
	p.members()
}

// webGoesAndComesBack stops one instance of web after the other with SIGTERM and starts
// it again, while the blog is read and written.
func webGoesAndComesBack(p *proof) {
	ctx, stop := context.WithCancel(p.Context())
	defer stop()
	clients, _ := errgroup.WithContext(ctx)
	var reads, empty, writes atomic.Int64
	for range 4 {
		transport := &http.Transport{}
		client := &http.Client{Timeout: 10 * time.Second, Transport: transport}
		clients.Go(func() error {
			defer transport.CloseIdleConnections()
			for ctx.Err() == nil {
				response, err := client.Get(p.lab.URL(9999, "/web/blog/main"))
				if err := ended(response, err, http.StatusOK); err != nil {
					return fmt.Errorf("a read: %w", err)
				}
				reads.Add(1)
				// Nobody may repeat a form, and one without an entry is no visitor's entry.
				response, err = client.PostForm(p.lab.URL(9999, "/web/entries"), url.Values{})
				if err := ended(response, err, http.StatusBadRequest); err != nil {
					return fmt.Errorf("an empty form: %w", err)
				}
				empty.Add(1)
			}
			return nil
		})
	}
	clients.Go(func() error {
		for ctx.Err() == nil && writes.Load() < 16 { // one visitor may leave 30 at once
			if got := p.write(formOf("Written meanwhile")); got.err != nil || got.status != http.StatusSeeOther {
				return fmt.Errorf("a write: %w, %d: %s", got.err, got.status, excerpt(got.body))
			}
			writes.Add(1)
			pause(ctx, 250*time.Millisecond)
		}
		return nil
	})
	for range 3 {
		for node, other := range map[string]string{"web-1": "web-web-2", "web-2": "web-web-1"} {
			began := monotonic()
			p.lab.Must("fault", "term", node+"/web")
			labtest.Eventually(p, recovery, node+"/web has ended", func() error {
				for _, process := range p.node(node).Processes {
					if process.Name == "web" && process.State == "running" {
						return errors.New("it runs")
					}
				}
				return nil
			})
			p.Logf("%s/web ended %s after SIGTERM", node, (monotonic() - began).Round(time.Millisecond))
			if err := p.inRotation(other); err != nil {
				p.Error(err)
			}
			p.lab.Must("fault", "restart", node+"/web")
			labtest.Eventually(p, recovery, node+" is back", func() error { return p.inRotation("web-web-1", "web-web-2") })
		}
	}
	stop()
	if err := clients.Wait(); err != nil {
		p.Error(err)
	}
	p.Logf("%d reads, %d empty forms and %d entries meanwhile", reads.Load(), empty.Load(), writes.Load())
}

// ended holds an answer to its status, and reads it to its end.
func ended(response *http.Response, err error, status int) error {
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != status {
		err = fmt.Errorf("%s: %s", response.Status, excerpt(string(body)))
	}
	return err
}
