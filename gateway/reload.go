package main

import (
	"strings"
	"time"

	"sluice/gateway/auth"
	"sluice/gateway/errorpages"
	"sluice/gateway/listen"
	"sluice/gateway/proxy"
	"sluice/gateway/tlsfiles"
)

// reloaded puts a change of a listener's files into the timeline.
func (g *gateway) reloaded(listener string, which listen.Files, change tlsfiles.Change) {
	g.proxy.Record(proxy.Event{
		At: time.Now(), Kind: string(which), Subject: "listener " + listener, Text: reloadText(change), Effect: change.Took,
	})
}

// pagesChanged puts a change of the folder of error pages into the timeline.
func (g *gateway) pagesChanged(change errorpages.Change) {
	g.proxy.Record(proxy.Event{
		At: time.Now(), Kind: "errorpage", Subject: g.cfg.ErrorPages, Text: pagesText(change), Effect: change.Took,
	})
}

// passwordsChanged puts a change of a password file into the timeline.
func (g *gateway) passwordsChanged(change auth.Change) {
	text := change.String()
	if change.Problem != nil {
		text = refusedText(change.Problem)
	}
	g.proxy.Record(proxy.Event{At: time.Now(), Kind: "password", Subject: "scheme " + change.Scheme, Text: text, Effect: change.Took})
}

func reloadText(change tlsfiles.Change) string {
	if change.Problem != nil {
		return refusedText(change.Problem)
	}
	text := joined(named{"+ ", change.Added}, named{"- ", change.Removed})
	if text == "" {
		return "read again: they have the same names and serial numbers"
	}
	return text
}

func pagesText(change errorpages.Change) string {
	if change.Problem != nil {
		return refusedText(change.Problem)
	}
	text := joined(named{"+ ", change.Added}, named{"- ", change.Removed}, named{"changed: ", change.Altered})
	if text == "" {
		return "read again: the folder holds what is in use"
	}
	return text
}

func refusedText(problem error) string { return "refused, those before stay: " + problem.Error() }

// named is a list of names with what is to be said of them.
type named struct {
	what  string
	names []string
}

func joined(lists ...named) string {
	var parts []string
	for _, list := range lists {
		if len(list.names) > 0 {
			parts = append(parts, list.what+strings.Join(list.names, ", "))
		}
	}
	return strings.Join(parts, "; ")
}
