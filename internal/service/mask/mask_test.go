package mask_test

import (
	"testing"

	"sluice/internal/service/mask"
)

func TestValuesOfSecretParametersAreLeftOutOfPathsAndURLs(t *testing.T) {
	for target, want := range map[string]string{
		"/a":                                   "/a",
		"/a?token=SECRET&x=1":                  "/a?token=***&x=1",
		"/a;TOKEN=SECRET/b;x=1":                "/a;TOKEN=***/b;x=1",
		"/a;token=SECRET%2FSECRET/b":           "/a;token=***/b",
		"/a%3BTo%6ben%3DSECRET/b":              "/a%3BTo%6ben%3D***/b",
		"/a?user%5Btoken%5D=SECRET;SECRET":     "/a?user%5Btoken%5D=***",
		"/a;tokens=1;token/=x":                 "/a;tokens=1;token/=x",
		"http://ann:SECRET@h/a;sig=SECRET?x=1": "http://***@h/a;sig=***?x=1",
	} {
		if got := mask.New(nil).Target(target); got != want {
			t.Errorf("%s is shown as %s, want %s", target, got, want)
		}
	}
	for _, m := range []struct {
		mask mask.Mask
		want string
	}{{mask.New([]string{"Pin"}), "/a;pin=***?token=T"}, {mask.New([]string{}), "/a;pin=P?token=T"}, {mask.Mask{}, "/a;pin=P?token=T"}} {
		if got := m.mask.Target("/a;pin=P?token=T"); got != m.want {
			t.Errorf("with names of its own: %s, want %s", got, m.want)
		}
	}
}

// TestAnAttributeOfASpanSaysRedactedAsTheConventionDoes has each of the convention's
// own parameters.
func TestAnAttributeOfASpanSaysRedactedAsTheConventionDoes(t *testing.T) {
	for url, want := range map[string]string{
		"https://ann:SECRET@www.example.com/":                   "https://REDACTED:REDACTED@www.example.com/",
		"https://www.example.com/path?color=blue&sig=SECRET":    "https://www.example.com/path?color=blue&sig=REDACTED",
		"https://h/?AWSAccessKeyId=SECRET&Signature=SECRET&a=b": "https://h/?AWSAccessKeyId=REDACTED&Signature=REDACTED&a=b",
		"https://h/?X-Goog-Signature=SECRET":                    "https://h/?X-Goog-Signature=REDACTED",
		"https://h:8000/a;token=SECRET/b":                       "https://h:8000/a;token=REDACTED/b",
		"https://h:8000/a":                                      "https://h:8000/a",
	} {
		if got := mask.New(nil).Attribute().Target(url); got != want {
			t.Errorf("%s is shown as %s, want %s", url, got, want)
		}
	}
}
