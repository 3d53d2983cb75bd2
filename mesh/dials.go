package mesh

// DialCounts count the dials to one service since the Dialer was made. They never
// decrease, but for Forget.
type DialCounts struct {
	// Dialled connections: established and confirmed.
	Dialled uint64 `json:"dialled"`
	// Denied dials, by our own policy or by the destination.
	Denied uint64 `json:"denied"`
	// Failed attempts to reach one instance.
	Failed uint64 `json:"failed"`
}

// Dials returns the counts of one service.
func (d *Dialer) Dials(service string) DialCounts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dials[service]
}

// Forget drops the counts of a service that is there no more. A dial that is still
// under way, or a new one, begins them anew.
func (d *Dialer) Forget(service string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.dials, service)
}

// count adds one dial, to the service and to the Table.
func (d *Dialer) count(service string, result dialResult) {
	all := &d.cfg.Table.count
	d.mu.Lock()
	defer d.mu.Unlock()
	one := d.dials[service]
	switch result {
	case dialOK:
		all.dialled.Add(1)
		one.Dialled++
	case dialDenied:
		all.dialDenied.Add(1)
		one.Denied++
	case dialFailed:
		all.dialFailed.Add(1)
		one.Failed++
	}
	d.dials[service] = one
}

type dialResult int

const (
	dialOK dialResult = iota
	dialDenied
	dialFailed
)
