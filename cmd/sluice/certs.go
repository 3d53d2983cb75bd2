package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sluice/certs"
	"sluice/mesh"
)

// certificateRow is one certificate in use, in the JSON form.
type certificateRow struct {
	Node    string `json:"node"`
	Process string `json:"process"`
	mesh.IdentityReport
}

func newCerts(a *app) *cobra.Command {
	command := group(&cobra.Command{
		Use: "certs", Short: "Certificates in use, and a new root",
		Example: "  sluice certs show\n  sluice certs rotate",
	})
	var agentsOnly bool
	show := &cobra.Command{
		Use: "show", Short: "Every certificate in use; exit code 1 when one is not in order", Args: cobra.NoArgs,
		Long: `Show the leaves that the services present to each other, and below them the
certificates by which Consul's agents know each other, which hang on another root.
The JSON form has one list: the leaves, or the agents' with --agents.`,
		Example: "  sluice certs show\n  sluice certs show -o json | jq '.[] | select(.chain != \"ok\")'\n  sluice certs show --agents",
		RunE:    func(command *cobra.Command, _ []string) error { return a.showCertificates(command, agentsOnly) },
	}
	show.Flags().BoolVar(&agentsOnly, "agents", false, "those of Consul's agents alone")
	command.AddCommand(show, &cobra.Command{
		Use: "rotate", Short: "Make a new root and wait until every leaf is signed by it", Args: cobra.NoArgs,
		Example: "  sluice certs rotate\n  sluice certs rotate --timeout 2m",
		Long: `Make a new root and wait until every process presents a leaf that it signed. The
old root is trusted until its leaves have gone, so no connection is refused. The
agents spread the new leaves over 30 seconds, to spare their servers.`,
		RunE: func(command *cobra.Command, _ []string) error { return a.rotate(command) },
	})
	return command
}

func (a *app) certificates(command *cobra.Command) ([]certificateRow, error) {
	client, err := a.client()
	if err != nil {
		return nil, err
	}
	status, err := client.Status(command.Context())
	if err != nil {
		return nil, err
	}
	rows := []certificateRow{}
	for _, node := range status.Nodes {
		for _, process := range node.Processes {
			if process.Mesh == nil {
				continue
			}
			for _, id := range process.Mesh.Identities {
				rows = append(rows, certificateRow{Node: node.Name, Process: process.Name, IdentityReport: id})
			}
		}
	}
	return rows, nil
}

// agentRow is the certificate by which one Consul agent knows another, in the JSON
// form.
type agentRow struct {
	Node      string    `json:"node"`
	Process   string    `json:"process"`
	Subject   string    `json:"subject"`
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	// Chain is "ok", or what is the matter; Words say it in a sentence.
	Chain string `json:"chain"`
	Words string `json:"words"`

	columns []string
	usable  bool
}

// agentCertificates judges what lies in the agents' folder. Of the keys there it
// reads nothing.
func agentCertificates(dir string, now time.Time) ([]agentRow, error) {
	authority, err := readCertificates(certs.CertificateFile(dir, certs.AuthorityName))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	for _, root := range authority {
		roots.AddCert(root)
	}
	paths, err := filepath.Glob(certs.CertificateFile(dir, "*"))
	if err != nil {
		return nil, err
	}
	rows := []agentRow{}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".pem")
		if name == certs.AuthorityName || certs.KeyFile(dir, strings.TrimSuffix(name, "-key")) == path {
			continue
		}
		chain, err := readCertificates(path)
		if err != nil {
			return nil, err
		}
		row, verdict := certs.Describe(chain[0], now), certs.Judge(chain, roots, now)
		rows = append(rows, agentRow{
			Node: name, Process: "consul agent", Subject: row.Name, Serial: row.Serial,
			NotBefore: row.NotBefore, NotAfter: row.NotAfter, Chain: string(verdict.State), Words: verdict.Words,
			columns: row.Columns(), usable: verdict.Usable(),
		})
	}
	return rows, nil
}

// complaint is "ok", or what is the matter.
func (r agentRow) complaint() string {
	if r.Chain == string(certs.OK) {
		return r.Chain
	}
	return r.Chain + ": " + r.Words
}

func readCertificates(path string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	chain, err := certs.ParsePEM(text)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s: %w", path, err)
	}
	return chain, nil
}

func (a *app) showCertificates(command *cobra.Command, agentsOnly bool) error {
	rows, err := a.certificates(command)
	if err != nil {
		return err
	}
	if a.json() && !agentsOnly {
		return a.listCertificates(rows, nil)
	}
	client, err := a.client()
	if err != nil {
		return err
	}
	agents, err := agentCertificates(client.AgentCertificates(), time.Now())
	if err != nil {
		return err
	}
	if agentsOnly {
		rows = nil
	}
	return a.listCertificates(rows, agents)
}

// listCertificates shows the lists, of which one may be empty, and ends with the
// verdict on them.
func (a *app) listCertificates(rows []certificateRow, agents []agentRow) error {
	var err error
	switch {
	case a.json() && agents != nil:
		err = a.print(agents)
	case a.json():
		err = a.print(rows)
	default:
		err = a.printCertificates(rows, agents)
	}
	if err != nil {
		return err
	}
	for _, row := range agents {
		if !row.usable {
			return no()
		}
	}
	for _, row := range rows {
		if row.Chain != "ok" {
			return no()
		}
	}
	return nil
}

func (a *app) printCertificates(rows []certificateRow, agents []agentRow) error {
	table := tabwriter.NewWriter(a.std.out, 0, 0, 2, ' ', 0)
	if len(rows) > 0 {
		fmt.Fprintln(table, "NODE\tPROCESS\tSPIFFE ID\tSERIAL\tNOT AFTER\tREMAINING\tCHAIN\tSIGNED BY")
	}
	generations := generations(rows)
	for _, row := range rows {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", row.Node, row.Process, row.ID, shortSerial(row.Serial),
			row.NotAfter.Local().Format(time.DateTime), time.Until(row.NotAfter).Round(time.Minute), row.Chain, row.signers(generations))
	}
	if len(rows) > 0 && len(agents) > 0 {
		fmt.Fprintln(table)
	}
	if len(agents) > 0 {
		fmt.Fprintln(table, "NODE\tPROCESS\tSUBJECT\tSERIAL\tNOT AFTER\tREMAINING\tCHAIN")
	}
	for _, row := range agents {
		row.columns[1] = shortSerial(row.columns[1])
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", row.Node, row.Process, strings.Join(row.columns, "\t"), row.complaint())
	}
	return table.Flush()
}

// generations numbers the roots that rows hang on, by how long they last: a new root
// lasts longer than the one before it.
func generations(rows []certificateRow) map[string]int {
	ends := map[string]time.Time{}
	for _, row := range rows {
		if len(row.Issuers) > 0 {
			ends[row.Root()] = row.Issuers[len(row.Issuers)-1].NotAfter
		}
	}
	keys := slices.SortedFunc(maps.Keys(ends), func(a, b string) int { return ends[a].Compare(ends[b]) })
	numbers := map[string]int{}
	for i, key := range keys {
		numbers[key] = i + 1
	}
	return numbers
}

// signers are the issuers of a row by the first digits of their keys: "2f1c <- root 91ab
// (1 of 1)".
func (r certificateRow) signers(generations map[string]int) string {
	if len(r.Issuers) == 0 {
		return "nobody"
	}
	var text strings.Builder
	for i, issuer := range r.Issuers {
		if i == len(r.Issuers)-1 {
			fmt.Fprintf(&text, "root %.4s (%d of %d)", issuer.Key, generations[issuer.Key], len(generations))
			continue
		}
		fmt.Fprintf(&text, "intermediate %.4s <- ", issuer.Key)
	}
	return text.String()
}

// unrenewed counts the leaves that hang on one of the old roots, or on none that is
// trusted.
func unrenewed(rows []certificateRow, old map[string]bool) int {
	left := 0
	for _, row := range rows {
		if old[row.Root()] || row.Chain != "ok" {
			left++
		}
	}
	return left
}

func (a *app) rotate(command *cobra.Command) error {
	ctx, cancel := a.bounded(command.Context(), time.Minute)
	defer cancel()
	before, err := a.certificates(command)
	if err != nil {
		return err
	}
	s, err := a.session(ctx, "")
	if err != nil {
		return err
	}
	if err := s.consul.RotateRoot(ctx); err != nil {
		return err
	}
	old := map[string]bool{}
	for _, row := range before {
		old[row.Root()] = true
	}
	began := time.Now()
	a.say("a new root is active; waiting for new leaves, which the agents spread over 30 s")
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		rows, err := a.certificates(command)
		if err != nil {
			return err
		}
		left := unrenewed(rows, old)
		if left == 0 && len(rows) >= len(before) {
			break
		}
		select {
		case <-ctx.Done():
			return &codeError{exitInconclusive, errors.Join(fmt.Errorf("%d leaves still hang on the old root", left), ctx.Err())}
		case <-ticker.C:
		}
	}
	a.say("every node runs on it, after %.1f s", time.Since(began).Seconds())
	rows, err := a.certificates(command)
	if err != nil {
		return err
	}
	// The agents' own certificates hang on another root, and stay.
	return a.listCertificates(rows, nil)
}
