package site

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/web/settings"
)

const (
	requestIDHeader = "X-Request-Id"
	// retryAfter is what a page under maintenance asks for, in seconds.
	retryAfter = 30
	// nothingLost is for whoever has typed nothing.
	nothingLost = "Nothing is lost. "
)

// errMaintenance and errHost are refusals by configuration.
var (
	errMaintenance = errors.New("under maintenance")
	errHost        = errors.New("this name is not served here")
)

// current returns the settings in force.
func (s *Site) current() settings.Snapshot {
	if s.cfg.Settings == nil {
		return settings.Snapshot{Settings: settings.Defaults()}
	}
	return s.cfg.Settings.Current()
}

// configured lets a request pass as the configuration says. The administration
// stays open under maintenance, because it shows the configuration.
func (s *Site) configured(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := s.unserved(c.Request()); err != nil {
			return err
		}
		return next(c)
	}
}

// unserved returns why the configuration lets nobody have what a request asks for now,
// or nil.
func (s *Site) unserved(r *http.Request) error {
	now, app := s.current(), s.appOf(r.URL.Path)
	switch {
	case !now.Allows(r.Host):
		return errHost
	case !now.Serves(app), app == settings.Feed && !now.Serves(settings.Blog):
		return echo.ErrNotFound
	case now.Maintenance && app != settings.Admin:
		return errMaintenance
	default:
		return nil
	}
}

// parts are those of web that are served, which a page may lead to.
type parts struct{ Topology, Blog, Admin, Feed bool }

func (s *Site) parts() parts {
	now, paper := s.current(), s.press != nil
	return parts{
		Topology: now.Serves(settings.Topology), Blog: paper && now.Serves(settings.Blog), Admin: paper && now.Serves(settings.Admin),
		Feed: paper && now.Serves(settings.Feed) && now.Serves(settings.Blog),
	}
}

// way is where to go on from a page that is not there, in words; "" is nowhere.
func (p parts) way(base string) string {
	switch {
	case p.Blog:
		return "The blog is at " + base + "/blog."
	case p.Topology:
		return "The topology page is at " + base + "."
	case p.Admin:
		return "The administration is at " + base + "/admin."
	default:
		return ""
	}
}

// appOf returns the part of web that a path belongs to.
func (s *Site) appOf(path string) string {
	rest := strings.TrimPrefix(path, s.cfg.Base)
	switch {
	case s.ofPress(path) && strings.HasPrefix(rest, "/admin"):
		return settings.Admin
	case s.ofPress(path) && strings.HasSuffix(rest, "/feed.atom"):
		return settings.Feed
	case s.ofPress(path):
		return settings.Blog
	default:
		return settings.Topology
	}
}

// configurationProblem is the problem of a refusal by configuration, or by a fixed limit,
// or nil.
func configurationProblem(err error) *Problem {
	switch {
	case errors.Is(err, errMaintenance):
		return &Problem{
			Status: http.StatusServiceUnavailable, Kind: "maintenance", Title: "Under maintenance", Again: retryAfter,
			Reason: "This is being worked on and will be back soon.", Hint: nothingLost + "Try again in half a minute.",
		}
	case errors.Is(err, errStreams):
		return &Problem{
			Status: http.StatusServiceUnavailable, Kind: "streams", Title: "Too many pages are live", Again: retryAfter,
			Reason: "This process keeps no further page up to date.", Hint: "The page itself can be loaded as often as you like.",
		}
	case errors.Is(err, errHost):
		return &Problem{
			Status: http.StatusMisdirectedRequest, Kind: "host", Title: "Not served under this name",
			Reason: "The name in the address is not one that this site answers to.", Hint: "An administrator can allow it: web/allowed_hosts.",
		}
	default:
		return nil
	}
}

// detail adds the request's ID and the inner reason to a problem while debugging is
// switched on.
func (s *Site) detail(c echo.Context, p *Problem, err error) {
	if p == nil || !s.current().Debug {
		return
	}
	p.RequestID = c.Response().Header().Get(requestIDHeader)
	if err != nil {
		p.Detail = err.Error()
	}
}

// configuration is what the page of the configuration shows.
type configuration struct {
	settings.Snapshot
	// Asked says that Consul has answered; Confirmed is when it last did, Away why it
	// does not now, and AwaySince since when.
	Asked                bool
	Confirmed, AwaySince time.Time
	Away                 string
}

// showConfiguration answers with the settings in force.
func (s *Site) showConfiguration(c echo.Context) error {
	page := s.paper(c, "Configuration")
	page.Configuration = &configuration{Snapshot: s.current()}
	if s.cfg.Settings != nil {
		written := s.cfg.Settings.Source()
		page.Configuration.Asked, page.Configuration.Confirmed = written.Known, written.Confirmed
		if written.Err != nil {
			page.Configuration.Away, page.Configuration.AwaySince = written.Err.Error(), written.FailingSince
		}
	}
	return s.print(c, http.StatusOK, "configuration", page)
}
