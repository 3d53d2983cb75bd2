package identity

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
)

const (
	domain = "11111111-2222-3333-4444-555555555555.consul"
	web    = "spiffe://" + domain + "/ns/default/dc/dc1/svc/web"
)

func TestAnIdentityReadsBackAsItWasWritten(t *testing.T) {
	made, err := New(domain, "dc1", "web")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := Parse(web)
	if err != nil {
		t.Fatal(err)
	}
	if made != parsed || made.String() != web {
		t.Errorf("made %v, parsed %v", made, parsed)
	}
	if made.TrustDomain() != domain || made.Datacenter() != "dc1" || made.Service() != "web" || made.IsZero() {
		t.Errorf("parts are %q, %q, %q", made.TrustDomain(), made.Datacenter(), made.Service())
	}
	text, err := json.Marshal(map[string]ID{"id": made, "none": {}})
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]ID
	if err := json.Unmarshal(text, &back); err != nil || back["id"] != made || !back["none"].IsZero() {
		t.Errorf("%s reads back as %v, %v", text, back, err)
	}
}

func TestIdentitiesDifferInEachPart(t *testing.T) {
	base := must(t, web)
	for _, other := range []string{
		"spiffe://other.consul/ns/default/dc/dc1/svc/web",
		"spiffe://" + domain + "/ns/default/dc/dc2/svc/web",
		"spiffe://" + domain + "/ns/default/dc/dc1/svc/api",
		"spiffe://" + domain + "/ns/default/dc/dc1/svc/Web",
	} {
		if must(t, other) == base {
			t.Errorf("%s counts as %s", other, web)
		}
	}
}

func TestWhatConsulWouldNotIssueIsRefused(t *testing.T) {
	cases := []struct {
		name, uri  string
		notService bool // well-formed, but of another kind
	}{
		{"nothing", "", false},
		{"other scheme", strings.Replace(web, "spiffe", "https", 1), false},
		{"no trust domain", "spiffe:///ns/default/dc/dc1/svc/web", false},
		{"a port", strings.Replace(web, ".consul", ".consul:8443", 1), false},
		{"a user", strings.Replace(web, "://", "://root@", 1), false},
		{"a query", web + "?a=b", false},
		{"a fragment", web + "#a", false},
		{"an escape", strings.Replace(web, "svc/web", "svc/w%65b", 1), false},
		{"an escaped slash", strings.Replace(web, "svc/web", "svc/web%2Fx", 1), false},
		{"a slash at the end", web + "/", false},
		{"two slashes", strings.Replace(web, "/svc/", "//svc/", 1), false},
		{"a dot segment", strings.Replace(web, "svc/web", "svc/..", 1), false},
		{"an empty service", strings.Replace(web, "svc/web", "svc/", 1), false},
		{"a space", strings.Replace(web, "svc/web", "svc/w b", 1), false},
		{"a null byte", strings.Replace(web, "svc/web", "svc/web\x00", 1), false},
		{"a letter like another", strings.Replace(web, "svc/web", "svc/wеb", 1), false}, // a Cyrillic е
		{"capitals in the trust domain", strings.Replace(web, domain, "Other.consul", 1), false},
		{"an agent", "spiffe://" + domain + "/agent/client/dc/dc1/id/web-1", true},
		{"a server", "spiffe://" + domain + "/agent/server/dc/dc1", true},
		{"a mesh gateway", "spiffe://" + domain + "/gateway/mesh/dc/dc1", true},
		{"a signing identity", "spiffe://" + domain, true},
		{"a partition", "spiffe://" + domain + "/ap/billing/ns/default/dc/dc1/svc/web", true},
		{"another namespace", strings.Replace(web, "default", "billing", 1), true},
		{"parts in another order", "spiffe://" + domain + "/dc/dc1/ns/default/svc/web", true},
		{"a part too many", web + "/x", true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			id, err := Parse(c.uri)
			if err == nil || !id.IsZero() {
				t.Fatalf("%q was taken as %v", c.uri, id)
			}
			if errors.Is(err, ErrNotService) != c.notService {
				t.Errorf("%q: %v; not a service: want %v", c.uri, err, c.notService)
			}
		})
	}
}

func TestAnIdentityOfEmptyOrOddPartsCannotBeMade(t *testing.T) {
	for _, c := range [][3]string{
		{"", "dc1", "web"},
		{domain, "", "web"},
		{domain, "dc1", ""},
		{domain, "dc1", "web/x"},
		{domain, "..", "web"},
		{"a b", "dc1", "web"},
		{domain, "dc1", "*"},
	} {
		if id, err := New(c[0], c[1], c[2]); err == nil {
			t.Errorf("%q became %v", c, id)
		}
	}
}

func TestACertificateMustNameExactlyOneIdentity(t *testing.T) {
	uri := func(text string) *url.URL {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	if id, err := FromCertificate(&x509.Certificate{URIs: []*url.URL{uri(web)}}); err != nil || id != must(t, web) {
		t.Errorf("got %v, %v", id, err)
	}
	for name, certificate := range map[string]*x509.Certificate{
		"no certificate": nil,
		"no URI":         {DNSNames: []string{"web"}},
		"two URIs":       {URIs: []*url.URL{uri(web), uri(web)}},
		"a nil URI":      {URIs: []*url.URL{nil}},
		"a web address":  {URIs: []*url.URL{uri("https://example.com/ns/default/dc/dc1/svc/web")}},
		// RawPath keeps the escape that Path has lost.
		"an escape": {URIs: []*url.URL{uri(strings.Replace(web, "svc/web", "svc/w%65b", 1))}},
	} {
		if id, err := FromCertificate(certificate); err == nil {
			t.Errorf("%s: got %v", name, id)
		}
	}
}

// FuzzParse holds: nothing panics, and what parses is written as it was read.
func FuzzParse(f *testing.F) {
	f.Add(web)
	f.Add("spiffe://a/ns/default/dc/./svc/web")
	f.Add("SPIFFE://a/ns/default/dc/b/svc/c")
	f.Fuzz(func(t *testing.T, uri string) {
		id, err := Parse(uri)
		if err != nil {
			if !id.IsZero() {
				t.Fatalf("%q: an error and an identity, %v", uri, id)
			}
			return
		}
		if id.String() != uri {
			t.Fatalf("%q is written as %q", uri, id)
		}
		again, err := New(id.TrustDomain(), id.Datacenter(), id.Service())
		if err != nil || again != id {
			t.Fatalf("%q made again is %v, %v", uri, again, err)
		}
	})
}

func must(t *testing.T, uri string) ID {
	t.Helper()
	id, err := Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
