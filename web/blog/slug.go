package blog

import (
	"strings"
)

// MaxSlug is the greatest length of a slug, in bytes.
const MaxSlug = 80

// ValidSlug reports whether slug is lower-case ASCII letters and digits in words
// that single hyphens join.
func ValidSlug(slug string) bool {
	if slug == "" || len(slug) > MaxSlug || strings.HasPrefix(slug, "-") || strings.HasSuffix(slug, "-") || strings.Contains(slug, "--") {
		return false
	}
	return strings.Trim(slug, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// Slug makes a slug of a headline; "" if nothing of it can be in one.
func Slug(headline string) string {
	fold := strings.NewReplacer("ä", "ae", "ö", "oe", "ü", "ue", "ß", "ss", "é", "e", "è", "e", "ê", "e", "á", "a", "à", "a", "â", "a",
		"ç", "c", "ñ", "n", "ó", "o", "ô", "o", "ø", "o", "å", "a", "æ", "ae", "í", "i", "ú", "u", "'", "", "’", "")
	words := strings.FieldsFunc(fold.Replace(strings.ToLower(headline)), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	slug := ""
	for _, word := range words {
		if longer := strings.TrimPrefix(slug+"-"+word, "-"); len(longer) <= MaxSlug {
			slug = longer
			continue
		}
		break
	}
	return slug
}
