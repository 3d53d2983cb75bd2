package main

import (
	"strings"
	"time"

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

func reloadText(change tlsfiles.Change) string {
	if change.Problem != nil {
		return "refused, those before stay: " + change.Problem.Error()
	}
	var parts []string
	if len(change.Added) > 0 {
		parts = append(parts, "+ "+strings.Join(change.Added, ", "))
	}
	if len(change.Removed) > 0 {
		parts = append(parts, "- "+strings.Join(change.Removed, ", "))
	}
	if len(parts) == 0 {
		return "read again: they have the same names and serial numbers"
	}
	return strings.Join(parts, "; ")
}
