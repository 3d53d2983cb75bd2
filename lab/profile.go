package lab

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"sluice/lab/control"
)

// The profiles of a replica set: how soon it takes silence for death, and whether
// the agents help at an election.
const (
	// ProfileFast has short times, and agents that help.
	ProfileFast = "fast"
	// ProfileStock has MongoDB's own defaults, and agents that leave it to mongod.
	ProfileStock = "stock"
)

// chooseProfile settles the profile of a lab. A set gets its times when it is
// made, so a kept set keeps its profile, and another one is refused.
func chooseProfile(layout Layout, wanted string) (string, error) {
	switch wanted {
	case "", ProfileFast, ProfileStock:
	default:
		return "", fail(control.ExitUsage, "", "--profile %s: want %s or %s", wanted, ProfileFast, ProfileStock)
	}
	content, err := os.ReadFile(layout.ProfileFile())
	kept := strings.TrimSpace(string(content))
	switch {
	case errors.Is(err, os.ErrNotExist):
		if wanted == "" {
			return ProfileFast, nil
		}
		return wanted, nil
	case err != nil:
		return "", fmt.Errorf("read the profile of the kept state: %w", err)
	case wanted == "" || wanted == kept:
		return kept, nil
	}
	return "", fail(control.ExitUsage, "sluice down --purge    (deletes the data; or leave --profile out)",
		"--profile %s: the replica set in %s was made with profile %s, and keeps the times that it was made with", wanted, layout.Root(), kept)
}

// keepProfile writes the profile down for the next `up` of the same state.
func keepProfile(layout Layout, profile string) error {
	return writeSecret(layout.ProfileFile(), []byte(profile+"\n"))
}
