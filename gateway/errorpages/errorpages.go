// Package errorpages lets whoever runs the gateway give its error pages a form of
// their own: html/template files in a folder.
//
// A folder is taken as a whole or not at all. Each of its pages is made once from
// every kind of content before it is used, so that a slip is found by the one who
// made it and not by a client. One that fails nevertheless makes way for the
// gateway's own page. The content is text, which the templates escape.
package errorpages

import (
	"context"
	"crypto/sha256"
	"fmt"
	"html/template"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/files"
)

// DefaultInterval is how often the folder is looked at.
const DefaultInterval = 2 * time.Second

// Page is what a template is given: what the gateway's own page would tell the same
// client.
type Page struct {
	Status        int
	Title, Reason string
	// Facts and Command are empty unless the gateway explains its errors to clients.
	Facts         []Fact
	Hint, Command string
	// RequestID finds the request in the gateway's log.
	RequestID string
}

// Fact is one line of details.
type Fact struct{ Name, Value string }

// Config is what Pages are made of.
type Config struct {
	// Dir holds 400.html to 599.html for one status each, error.html for all others,
	// and _NAME.html for what several of them share. Names that begin with a dot are
	// passed over.
	Dir string
	// Interval is how often Run looks at the folder; 0 is DefaultInterval.
	Interval time.Duration
	// Changed is called after each change of the folder, and each new problem with it; may
	// be nil. It is called by one goroutine at a time, in the order of the changes, and not
	// for Open. It must not call Reload.
	Changed func(Change)
	// Logger gets a line per change and per problem; nil is silent.
	Logger *slog.Logger
}

// Pages are the pages in a folder that may change. A folder that is missing or has a
// fault changes nothing. It is safe for concurrent use.
type Pages struct {
	cfg    Config
	live   atomic.Pointer[theme]
	failed atomic.Uint64

	// reloading is held from a look at the folder until it is told what came of it.
	reloading sync.Mutex

	mu      sync.Mutex
	looked  [sha256.Size]byte // the sum of what was last looked at
	problem error
}

// State is what has come of a folder at one moment.
type State struct {
	Dir string `json:"dir"`
	// Pages are the names of the files that are in use, in order.
	Pages []string `json:"pages"`
	// Problem says why what the folder holds now is not used; "" if it is.
	Problem string `json:"problem,omitempty"`
	// Failed counts pages that could not be made, so that clients got the gateway's own.
	Failed uint64 `json:"failed"`
}

// Open reads the folder, and fails if it cannot be used.
func Open(cfg Config) (*Pages, error) {
	if cfg.Interval <= 0 {
		cfg.Interval = DefaultInterval
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Pages{cfg: cfg}
	if err := p.Reload(); err != nil {
		return nil, err
	}
	return p, nil
}

// Run looks at the folder until ctx ends.
func (p *Pages) Run(ctx context.Context) error {
	// The error has been logged, and is kept for State.
	return files.Follow(ctx, p.cfg.Interval, func() { _ = p.Reload() })
}

// Reload looks at the folder once. If it has changed, its pages are used from now
// on, or the error says why not and those before stay.
func (p *Pages) Reload() error {
	p.reloading.Lock()
	defer p.reloading.Unlock()
	change, err := p.reload()
	if change != nil && p.cfg.Changed != nil {
		p.cfg.Changed(*change)
	}
	return err
}

// reload returns what there is to tell of a change after the first look.
func (p *Pages) reload() (*Change, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	began := time.Now()
	sources, err := read(p.cfg.Dir)
	sum := sumOf(sources, err)
	if sum == p.looked {
		return nil, p.problem
	}
	p.looked, p.problem = sum, nil
	before := p.live.Load()
	var next *theme
	if err == nil {
		next, err = themeOf(sources)
	}
	if err != nil {
		p.problem = fmt.Errorf("error pages in %s: %w", p.cfg.Dir, err)
		if before == nil {
			return nil, p.problem
		}
		p.cfg.Logger.Error("error pages refused; those before stay", "dir", p.cfg.Dir, "err", err)
		return &Change{Problem: err, Took: time.Since(began)}, p.problem
	}
	p.live.Store(next)
	p.cfg.Logger.Info("error pages loaded", "dir", p.cfg.Dir, "pages", next.names)
	if before == nil {
		return nil, nil
	}
	return changeOf(before.sources, next.sources, time.Since(began)), nil
}

// State returns what the folder has come to.
func (p *Pages) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := State{Dir: p.cfg.Dir, Pages: p.live.Load().names, Failed: p.failed.Load()}
	if p.problem != nil {
		s.Problem = p.problem.Error()
	}
	return s
}

// Render makes the page of a status. false means that there is none, or that it
// failed, and that the gateway's own is to be shown.
func (p *Pages) Render(content Page) ([]byte, bool) {
	t := p.live.Load().of(content.Status)
	if t == nil {
		return nil, false
	}
	body, err := execute(t, content)
	if err != nil {
		p.failed.Add(1)
		p.cfg.Logger.Error("an error page cannot be made; the gateway's own is shown", "page", t.Name(), "status", content.Status, "request", content.RequestID, "err", err)
		return nil, false
	}
	return body, true
}

// execute makes a page in memory: half of one would be seen otherwise.
func execute(t *template.Template, content Page) ([]byte, error) {
	var body output
	if err := t.Execute(&body, content); err != nil {
		return nil, err
	}
	return body.Bytes(), nil
}
