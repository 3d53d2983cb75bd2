package intentions

// Entry is everything that is written about one destination: a
// service-intentions config entry in Consul, or one file.
type Entry struct {
	// Destination is the service that the rules protect, or Wildcard.
	Destination string `json:"destination"`
	// Rules are the intentions, one per source. Each rule's Destination is the
	// entry's.
	Rules []Rule `json:"rules"`
	// Version is Consul's ModifyIndex of the entry; 0 means that it is not in
	// Consul. A compare-and-set write names it.
	Version uint64 `json:"version,omitempty"`
	// Position is where the entry's destination is named, if it is from a file.
	Position Position `json:"position,omitzero"`
}

// Flatten returns the rules of all entries, as NewSet takes them.
func Flatten(entries []Entry) []Rule {
	var rules []Rule
	for _, entry := range entries {
		rules = append(rules, entry.Rules...)
	}
	return rules
}
