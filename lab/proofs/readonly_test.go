package proofs_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"sluice/internal/labtest"
)

// readOnlyInWords kills all members but one secondary: the pages say that nothing can
// be written, because too few are left to elect a primary, and the blog is read.
func readOnlyInWords(p *proof) {
	primary, secondaries := p.members()
	left := secondaries[0]
	p.lab.Must("fault", "kill", secondaries[1].Name+"/mongod")
	p.lab.Must("fault", "kill", primary.Name+"/mongod")
	began := monotonic()
	const words = "read-only: no majority, 1 of 3"
	labtest.Eventually(p, 40*time.Second, "the page says why nothing can be written", func() error {
		status, body, err := p.lab.Page("application/json")
		if err == nil && (status != http.StatusServiceUnavailable || !strings.Contains(body, `"title":"`+words+`"`)) {
			err = fmt.Errorf("status %d: %s", status, excerpt(body))
		}
		return err
	})
	p.Logf("%q on the page after %s, %s is left", words, (monotonic() - began).Round(time.Millisecond), left.Name)
	asked := monotonic()
	response, err := http.Get(p.lab.URL(9999, "/web/blog/main"))
	if err != nil {
		p.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	if err != nil {
		p.Fatal(err)
	}
	for _, want := range []string{words, "Reads go on from ", "(mongo-secondary)</strong>"} {
		if response.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			p.Errorf("the blog: status %d, want 200 and %q: %s", response.StatusCode, want, excerpt(string(body)))
		}
	}
	p.Logf("the blog is read in %s meanwhile", (monotonic() - asked).Round(time.Millisecond))
	p.lab.Must("fault", "heal", "--all")
	labtest.Eventually(p, 60*time.Second, "the page says nothing of it any more", func() error {
		status, body, err := p.lab.Page("application/json")
		if err == nil && (status != http.StatusOK || strings.Contains(body, `"notices"`)) {
			err = fmt.Errorf("status %d: %s", status, excerpt(body))
		}
		return err
	})
	p.members()
}
