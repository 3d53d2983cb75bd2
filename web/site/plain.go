package site

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
)

// plain writes the view for a terminal: what a person at the end of a curl
// wants to know, and no markup.
func (v View) plain(body *bytes.Buffer) {
	fmt.Fprintf(body, "%s, served by %s in %s\n\n", printable(v.Title), v.Node, v.Datacenter)
	if p := v.Problem; p != nil {
		fmt.Fprintf(body, "%d %s\n%s\n", p.Status, p.Title, printable(p.Reason))
		if p.Hint != "" {
			fmt.Fprintln(body, printable(p.Hint))
		}
		if p.Command != "" {
			fmt.Fprintf(body, "  %s\n", printable(p.Command))
		}
		if p.RequestID != "" {
			fmt.Fprintf(body, "Request %s%s\n", p.RequestID, printable(after(": ", p.Detail)))
		}
		fmt.Fprintln(body)
	}
	for _, n := range v.Notices {
		fmt.Fprintf(body, "! %s", printable(n.Title))
		if !n.Since.IsZero() {
			fmt.Fprintf(body, ", since %s", clock(n.Since))
		}
		fmt.Fprintf(body, "\n  %s %s\n", printable(n.Text), n.Command)
	}
	if v.Bare {
		return
	}
	for _, row := range v.rows() {
		fmt.Fprintf(body, "%-23s %s\n", row[0]+":", printable(row[1]))
	}
	fmt.Fprintln(body)
	for _, edge := range v.Edges {
		detail := "no verified peer"
		if edge.Peer != nil {
			detail = edge.Peer.ID
		}
		if edge.Reason != "" {
			detail = edge.Reason
		}
		fmt.Fprintf(body, "%-23s %-7s %s\n", edge.Source+" -> "+edge.Destination, edge.State, printable(detail))
	}
	if v.EntriesFrom != "" && (v.Problem == nil || len(v.Entries) > 0) {
		member := ""
		if v.EntriesMember != "" {
			member = " (" + printable(v.EntriesMember) + ")"
		}
		fmt.Fprintf(body, "\nNewest entries, read from %s%s:\n", v.EntriesFrom, member)
		for _, entry := range v.Entries {
			fmt.Fprintf(body, "  %s  %s\n", stamp(entry.Created), printable(entry.Title))
		}
		if len(v.Entries) == 0 {
			fmt.Fprintln(body, "  none yet")
		}
	}
}

// rows are the page's table of the database, with ourselves on top.
func (v View) rows() [][2]string {
	rows := [][2]string{
		{"Instance that answered", v.Instance + " on " + v.Node},
		{"Mongo hosts", or(strings.Join(v.Hosts, " "), "unknown")},
		{"Primary address", or(v.Primary, "unknown")},
		{"Connected address", or(v.Me, "not connected")},
	}
	isPrimary, isSecondary := "unknown", "unknown"
	if v.Me != "" {
		isPrimary, isSecondary = yesno(v.IsPrimary), yesno(v.IsSecondary)
	}
	secondary := or(v.Secondary.Error, "not tried")
	if v.Secondary.OK {
		secondary = "works " + v.Secondary.Me
	}
	rows = append(rows, [][2]string{
		{"Is primary", isPrimary}, {"Is secondary", isSecondary}, {"Read from a secondary", secondary},
	}...)
	if v.Identity != nil {
		rows = append(rows, [2]string{"Identity", v.Identity.ID}, [2]string{"Certificate expires", stamp(v.Identity.NotAfter) + " " + until(v.Identity.NotAfter, v.Now)})
	}
	return rows
}

// after puts text after what leads to it, unless there is none.
func after(lead, text string) string {
	if text == "" {
		return ""
	}
	return lead + text
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// printable replaces what could command a terminal. Entries come from a
// database that others may write to.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}
