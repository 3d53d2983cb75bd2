package main

import (
	"strconv"

	"sluice/consul"
	"sluice/mongo-agent/role"
)

func serviceOf(s role.State) string {
	if s == role.Primary {
		return primaryService
	}
	return secondaryService
}

func portOf(s role.State) int {
	if s == role.Primary {
		return primaryPort
	}
	return secondaryPort
}

// instance returns the registration's ID of a service of this node.
func (a *agent) instance(service string) string { return service + "-" + a.Node }

// meta tells dialers which election the role comes from: of two primaries the
// one with the higher term is right.
func (a *agent) meta(term int64) map[string]string {
	return map[string]string{
		"term":   strconv.FormatInt(term, 10),
		"member": a.own().Address,
		"set":    a.Set,
	}
}

// publishRepl registers the way to the member, and to its agent. Without relays
// the agent is all there is.
func (a *agent) publishRepl() {
	port := replPort
	if a.Flat {
		port = controlPort
	}
	a.publish(replService, port, map[string]string{
		"member": a.own().Address, "set": a.Set, metaControl: strconv.Itoa(controlPort),
	})
}

// publish registers an instance as healthy; the registrar repeats that until the
// process ends.
func (a *agent) publish(service string, port int, meta map[string]string) {
	id := a.instance(service)
	a.network.Registrar.Set(consul.Registration{
		ID: id, Name: service, Address: a.Address.String(), Port: port, Meta: meta, Native: true,
		Check: consul.Check{TTL: registrationTTL},
	})
	a.network.Registrar.Pass(id, "mongod is "+service)
}
