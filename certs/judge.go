package certs

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"sluice/identity"
)

// State is what Judge says about a certificate, in words that a person reads.
type State string

// The states, from good to bad. All but OK and ExpiresSoon mean that a peer must
// refuse the certificate.
const (
	OK          State = "ok"
	ExpiresSoon State = "expires soon"
	NotYetValid State = "not yet valid"
	Expired     State = "expired"
	ChainBroken State = "chain broken"
)

// soon is the part of its life below which a certificate expires soon: one in
// this many. Consul renews a leaf when 60 to 90 % of its life have gone by, so a
// leaf with less than 10 % left was not renewed when it should have been.
const soon = 10

// Verdict is the judgement on a certificate at one moment.
type Verdict struct {
	State State `json:"state"`
	// Words say why, in one line.
	Words string `json:"words"`
}

// Usable reports whether a peer may accept the certificate.
func (v Verdict) Usable() bool { return v.State == OK || v.State == ExpiresSoon }

// Judge says whether chain holds at the moment now: chain[0] is the certificate,
// the others are intermediates in any order, roots are what it must end in.
// Judge looks at validity in time and at the chain, not at names.
func Judge(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) Verdict {
	if len(chain) == 0 || chain[0] == nil {
		return Verdict{ChainBroken, "there is no certificate"}
	}
	leaf := chain[0]
	switch {
	case now.Before(leaf.NotBefore):
		return Verdict{NotYetValid, fmt.Sprintf("valid from %s, in %s; is a clock wrong?", stamp(leaf.NotBefore), span(leaf.NotBefore.Sub(now)))}
	case now.After(leaf.NotAfter):
		return Verdict{Expired, fmt.Sprintf("expired at %s, %s ago", stamp(leaf.NotAfter), span(now.Sub(leaf.NotAfter)))}
	}
	if err := verify(chain, roots, now); err != nil {
		return Verdict{ChainBroken, err.Error()}
	}
	remaining, life := leaf.NotAfter.Sub(now), leaf.NotAfter.Sub(leaf.NotBefore)
	if remaining < life/soon {
		return Verdict{ExpiresSoon, fmt.Sprintf("expires at %s, in %s: less than %d %% of its life is left", stamp(leaf.NotAfter), span(remaining), 100/soon)}
	}
	return Verdict{OK, fmt.Sprintf("valid until %s, for %s", stamp(leaf.NotAfter), span(remaining))}
}

func verify(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) error {
	// A nil pool would mean the system's roots to crypto/x509.
	if roots == nil {
		return errors.New("there are no roots to verify against")
	}
	intermediates := x509.NewCertPool()
	for _, certificate := range chain[1:] {
		if certificate != nil {
			intermediates.AddCert(certificate)
		}
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unknown):
		return fmt.Errorf("signed by %q, which leads to no root that is trusted", chain[0].Issuer.CommonName)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return fmt.Errorf("%q, which it hangs on, is valid from %s to %s", invalid.Cert.Subject.CommonName,
			stamp(invalid.Cert.NotBefore), stamp(invalid.Cert.NotAfter))
	default:
		return err
	}
}

// Row is what a table says about one certificate.
type Row struct {
	// Name is the SPIFFE ID, else the common name.
	Name string `json:"name"`
	// ID is the service's identity; zero if the certificate names no service.
	ID identity.ID `json:"id,omitzero"`
	// Serial is the serial number in hexadecimal, in pairs with colons, as Consul
	// writes it.
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	// Remaining is the time left until NotAfter; negative if it has passed. In
	// JSON it counts nanoseconds.
	Remaining time.Duration `json:"remaining"`
}

// Describe returns the table row of a certificate at the moment now.
func Describe(certificate *x509.Certificate, now time.Time) Row {
	row := Row{
		Name:      certificate.Subject.CommonName,
		Serial:    Serial(certificate),
		NotBefore: certificate.NotBefore,
		NotAfter:  certificate.NotAfter,
		Remaining: certificate.NotAfter.Sub(now),
	}
	if id, err := identity.FromCertificate(certificate); err == nil {
		row.ID, row.Name = id, id.String()
	} else if len(certificate.URIs) > 0 {
		row.Name = certificate.URIs[0].String()
	}
	return row
}

// Columns returns the row for a table: name, serial, not after, remaining.
func (r Row) Columns() []string {
	remaining := span(r.Remaining)
	if r.Remaining < 0 {
		remaining = "expired " + span(-r.Remaining) + " ago"
	}
	return []string{r.Name, r.Serial, stamp(r.NotAfter), remaining}
}

// Serial returns a certificate's serial number as Consul writes it:
// "0a:1b:2c".
func Serial(certificate *x509.Certificate) string {
	if certificate.SerialNumber == nil {
		return ""
	}
	raw := certificate.SerialNumber.Bytes()
	pairs := make([]string, len(raw))
	for i := range raw {
		pairs[i] = hex.EncodeToString(raw[i : i+1])
	}
	return strings.Join(pairs, ":")
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// span writes a duration as a person says it: two units at most.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 2*day:
		return fmt.Sprintf("%dd %dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh %dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm %ds", d/time.Minute, d%time.Minute/time.Second)
	default:
		return fmt.Sprintf("%ds", d/time.Second)
	}
}
