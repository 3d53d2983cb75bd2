package mesh

// leadership is which instance of a service leads, as far as it is known. It is
// a value without I/O: what happens to connections is for others to do.
type leadership struct {
	// epoch is the highest that was ever known, and holder the address of whom it
	// is known of.
	epoch  int64
	holder string
	leader *leader
}

// leader is the instance in use. A new one is made for each election, so that
// pointers tell them apart.
type leader struct {
	instance Instance
	// epoch is 0 if it is not known.
	epoch int64
	// spare is the connection that found it, for whoever comes first.
	spare *Conn
	// gone is closed when it is not the leader any more.
	gone chan struct{}
}

// stale reports whether an epoch is known to be over.
func (l *leadership) stale(epoch int64) bool { return epoch > 0 && epoch < l.epoch }

// learn takes the news that address leads in epoch. It reports whether the epoch
// is higher than any before: then the leader is dropped, unless it is the one
// that the news is about.
func (l *leadership) learn(address string, epoch int64) bool {
	if epoch <= l.epoch {
		return false
	}
	l.epoch, l.holder = epoch, address
	switch {
	case l.leader == nil:
	case l.leader.instance.Address == address:
		l.leader.epoch = epoch
	default:
		l.drop()
	}
	return true
}

// unproven reports whether the leader has to give way to address, which says of
// itself that it leads in epoch: that is the highest, and the leader was chosen
// for nothing but its open door. Hearsay must not be asked about here: a catalog
// names the old one for a while.
func (l *leadership) unproven(address string, epoch int64) bool {
	return epoch > 0 && epoch == l.epoch && l.leader != nil && l.leader.epoch == 0 && l.leader.instance.Address != address
}

// elect makes instance the leader; false means that its epoch is over. What an
// instance was registered with does not count against its own newer word.
func (l *leadership) elect(instance Instance, epoch int64, spare *Conn) bool {
	if instance.Address == l.holder {
		epoch = max(epoch, l.epoch)
	}
	if l.stale(epoch) {
		return false
	}
	l.drop()
	if epoch > l.epoch {
		l.epoch, l.holder = epoch, instance.Address
	}
	l.leader = &leader{instance: instance, epoch: epoch, spare: spare, gone: make(chan struct{})}
	return true
}

// drop leaves nobody leading and returns the spare connection that nobody took.
func (l *leadership) drop() {
	if l.leader == nil {
		return
	}
	close(l.leader.gone)
	if spare := l.leader.spare; spare != nil {
		spare.abort("nobody needed it")
	}
	l.leader = nil
}

// place is where a connection leads.
type place struct {
	address string
	// epoch is 0 if it is not known.
	epoch int64
}

// overtaken reports whether a connection to p is over once address leads in the
// highest known epoch.
func (l *leadership) overtaken(p place, address string) bool {
	return l.stale(p.epoch) || p.address != address && p.epoch < l.epoch
}

// eligible returns the instances to try: those of the catalog, without those
// whose epoch is over, and then the guesses about the other places.
func (l *leadership) eligible(catalog, guesses []Instance, epoch func(Instance) int64) []Instance {
	named := make(map[string]bool, len(catalog))
	out := make([]Instance, 0, len(catalog)+len(guesses))
	for _, instance := range catalog {
		// One whose epoch is over may lead again in a later one, and the catalog be
		// late to tell: then it is a guess like any other.
		if !l.stale(epoch(instance)) || instance.Address == l.holder {
			named[instance.Address] = true
			out = append(out, instance)
		}
	}
	for _, instance := range guesses {
		if !named[instance.Address] && len(out) < maxCandidates {
			named[instance.Address] = true
			out = append(out, instance)
		}
	}
	return out
}
