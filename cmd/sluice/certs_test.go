package main

import (
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/certs"
	"sluice/mesh"
)

func TestTheAgentsCertificatesAreJudgedAndTheirKeysNotShown(t *testing.T) {
	dir, now := t.TempDir()+"/tls", time.Now()
	authority, err := certs.NewAuthority("agents", now, 30*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := certs.NewAuthority("agents", now, 30*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := authority.Write(dir); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]*certs.Authority{"web-1": authority, "web-2": stranger} {
		pair, err := from.IssueClient(certs.Subject{Node: name, Datacenter: "dc1", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}, now, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if err := pair.Write(dir, name); err != nil {
			t.Fatal(err)
		}
		// Nobody may need the key to judge the certificate.
		if err := os.Remove(certs.KeyFile(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := agentCertificates(dir, now)
	if err != nil || len(rows) != 2 {
		t.Fatalf("%d rows, %v; want those of web-1 and web-2", len(rows), err)
	}
	if rows[0].Node != "web-1" || rows[0].Chain != "ok" || !rows[0].usable || rows[0].complaint() != "ok" || rows[0].Serial == "" {
		t.Errorf("signed by the authority: %+v", rows[0])
	}
	if rows[1].Node != "web-2" || rows[1].Chain != string(certs.ChainBroken) || rows[1].usable {
		t.Errorf("signed by a stranger: %+v", rows[1])
	}
	late, err := agentCertificates(dir, now.Add(2*time.Hour))
	if err != nil || late[0].Chain != string(certs.Expired) || late[0].usable {
		t.Errorf("after its end: %+v, %v", late, err)
	}
	document, err := json.Marshal(rows)
	if err != nil || strings.Contains(string(document), "PRIVATE") || strings.Contains(string(document), "columns") {
		t.Errorf("%s, %v", document, err)
	}
}

func TestARotationIsOverWhenNoLeafHangsOnAnOldRootOrOnNone(t *testing.T) {
	leaf := func(root, chain string) certificateRow {
		return certificateRow{IdentityReport: mesh.IdentityReport{Chain: chain, Issuers: []mesh.IssuerReport{{Key: "intermediate"}, {Key: root}}}}
	}
	for name, c := range map[string]struct {
		rows []certificateRow
		want int
	}{
		"all renewed":        {[]certificateRow{leaf("new", "ok"), leaf("new", "ok")}, 0},
		"one on the old":     {[]certificateRow{leaf("new", "ok"), leaf("old", "ok")}, 1},
		"one is not trusted": {[]certificateRow{leaf("new", "broken"), leaf("new", "ok")}, 1},
		"both":               {[]certificateRow{leaf("old", "broken"), leaf("old", "ok")}, 2},
	} {
		if got := unrenewed(c.rows, map[string]bool{"old": true}); got != c.want {
			t.Errorf("%s: %d are left, want %d", name, got, c.want)
		}
	}
}
