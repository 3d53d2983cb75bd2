package site_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"sluice/internal/browsertest"
	"sluice/web/blog"
	"sluice/web/site"
)

// TestAProblemLeavesAPageThatIsLiveOnceItIsOver opens a page while the primary is denied,
// and sends a form in vain from it: what became of the form stays.
func TestAProblemLeavesAPageThatIsLiveOnceItIsOver(t *testing.T) {
	primary, way := &memory{hello: blog.Hello{Primary: "a:1", Me: "a:1"}}, &upstream{}
	pages, err := site.New(site.Config{
		Base: "/web", Node: "web-1", Instance: "web-web-1", Credentials: nobody{},
		Primary: site.Database{Store: primary, Upstream: way}, Secondary: site.Database{Store: &memory{hello: blog.Hello{Me: "b:1"}}, Upstream: &upstream{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- pages.Run(ctx) }()
	server := httptest.NewServer(http.Handler(pages))
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		server.Close()
	})
	toggle := func(err error) {
		primary.fail(err)
		way.fail(err)
	}
	tab := browsertest.Start(t, 2*time.Minute)
	toggle(denied("web", "mongo-primary"))
	tab.Open(server.URL + "/web")
	tab.Shows("The database is closed to us", "Live: what changes shows here at once.", "not connected")
	toggle(nil)
	tab.Shows("web -> mongo-primary works again after")
	tab.Until("the page says no more that it was refused", `!document.querySelector('.problem') && document.title === 'Blog'`)

	toggle(denied("web", "mongo-primary"))
	tab.Shows("web -> mongo-primary is denied")
	tab.Type("#title", "Typed in vain")
	tab.Type("#body", "text")
	tab.Press("main form button")
	tab.Shows("Nothing was stored; what you typed is below.", "Live: what changes shows here at once.")
	toggle(nil)
	tab.Until("the way works again, and the form's problem stays", `document.querySelector('#live [data-answers~=mongo-primary]') && document.querySelector('.problem').textContent.includes('Nothing was stored')`)
}
