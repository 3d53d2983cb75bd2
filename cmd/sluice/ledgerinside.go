package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/consul"
	"sluice/datacenters"
	"sluice/internal/secret"
	"sluice/lab"
	"sluice/lab/control"
	"sluice/lab/engine"
	"sluice/ledger"
	"sluice/ledger/client"
)

// webPrimaryPort is web's upstream listener for mongo-primary.
const webPrimaryPort = "5501"

// ledgerPlace is what a client inside a node needs to know of it.
type ledgerPlace struct {
	loopback, passwordFile string
	datacenter, tokenFile  string
	// members are the addresses of the replica set's members, as the set knows them.
	members    []string
	replicaSet string
}

// findPlace looks a node up in the running lab.
func findPlace(ctx context.Context, running *lab.Client, state, name string) (ledgerPlace, error) {
	layout, err := lab.NewLayout(state)
	if err != nil {
		return ledgerPlace{}, err
	}
	status, err := running.Status(ctx)
	if err != nil {
		return ledgerPlace{}, err
	}
	for _, node := range status.Nodes {
		if node.Name != name {
			continue
		}
		place := ledgerPlace{
			loopback: "127.0.0.1", passwordFile: layout.AppPasswordFile(),
			datacenter: node.Datacenter, tokenFile: layout.TokenFile("web-on-" + name),
		}
		if status.Engine == string(engine.Loopback) {
			place.loopback = node.Address
		}
		if err := place.findMembers(running); err != nil {
			return ledgerPlace{}, err
		}
		for _, process := range node.Processes {
			if process.Name == "web" {
				return place, nil
			}
		}
		return place, &control.Error{Message: name + " runs no web, so there is no way to the replica set", Code: exitFailed, Hint: "sluice status"}
	}
	return ledgerPlace{}, &control.Error{Message: fmt.Sprintf("no node %q", name), Code: exitFailed, Hint: "sluice status"}
}

// findMembers reads the replica set from the lab's topology.
func (p *ledgerPlace) findMembers(running *lab.Client) error {
	options, err := running.Options()
	if err != nil {
		return err
	}
	topology, err := datacenters.Load(options.Topology...)
	if err != nil {
		return err
	}
	for _, dc := range topology.Datacenters {
		for _, node := range dc.Nodes {
			if node.Member.IsValid() {
				p.members, p.replicaSet = append(p.members, node.Member.String()), dc.ReplicaSet
			}
		}
	}
	return nil
}

// flags are the place as newLedgerInside takes it. They name files, never what
// is in them.
func (p ledgerPlace) flags() []string {
	return []string{
		"--loopback", p.loopback, "--password-file", p.passwordFile,
		"--datacenter", p.datacenter, "--token-file", p.tokenFile,
		"--replica-set", p.replicaSet, "--members", strings.Join(p.members, ","),
	}
}

// newLedgerInside is what the ledger's commands call inside a node.
func newLedgerInside(a *app) *cobra.Command {
	var place ledgerPlace
	var flags ledgerFlags
	command := group(&cobra.Command{
		Use: "inside", Short: "What the commands of ledger run inside a node", Hidden: true,
		Example: "  sluice ledger inside run FILE --password-file FILE --duration 10s",
	})
	persistent := command.PersistentFlags()
	persistent.StringVar(&place.loopback, "loopback", "127.0.0.1", "address of the node's loopback")
	persistent.StringVar(&place.passwordFile, "password-file", "", "file with the password of the user web")
	persistent.StringVar(&place.datacenter, "datacenter", "dc1", "the node's datacenter")
	persistent.StringVar(&place.tokenFile, "token-file", "", "file with web's Consul token")
	persistent.StringVar(&place.replicaSet, "replica-set", "", "name of the replica set")
	persistent.StringSliceVar(&place.members, "members", nil, "address of each member, as the set knows it")
	run := &cobra.Command{
		Use: "run FILE", Short: "Write a ledger", Args: cobra.ExactArgs(1),
		Example: "  sluice ledger inside run FILE --password-file FILE --duration 10s",
		RunE: func(command *cobra.Command, args []string) error {
			return a.ledgerWrite(command.Context(), args[0], flags, place)
		},
	}
	flags.bind(run)
	var via string
	read := &cobra.Command{
		Use: "read FILE", Short: "Read back what a ledger is about", Args: cobra.ExactArgs(1),
		Example: "  sluice ledger inside read FILE --password-file FILE",
		RunE: func(command *cobra.Command, args []string) error {
			return a.ledgerRead(command.Context(), args[0], via, place)
		},
	}
	read.Flags().StringVar(&via, "via", viaPort, "port or members")
	command.AddCommand(run, read)
	return command
}

func (a *app) ledgerWrite(ctx context.Context, path string, flags ledgerFlags, place ledgerPlace) error {
	if err := flags.check(); err != nil {
		return err
	}
	way, err := openWay(ctx, flags.header, place)
	if err != nil {
		return err
	}
	defer way.close()
	file, err := client.Create(path)
	if err != nil {
		return err
	}
	header := flags.header
	header.Run, header.Started = strings.ToLower(rand.Text()), time.Now()
	writer, err := ledger.NewWriter(file, header)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	progress, err := client.Run(ctx, client.Config{
		Header: header, Concurrency: flags.concurrency, Looks: flags.looks,
		Progress: func(p client.Progress) { a.say("%s", p) },
	}, way.store, writer)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	a.say("%s", progress)
	return nil
}

func (a *app) ledgerRead(ctx context.Context, path, via string, place ledgerPlace) error {
	book, err := client.Open(path)
	if err != nil {
		return err
	}
	book.Header.Via = via
	way, err := openWay(ctx, book.Header, place)
	if err != nil {
		return err
	}
	defer way.close()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return json.NewEncoder(a.std.out).Encode(way.store.ReadBack(ctx, book.Header))
}

// ledgerWay is an open way to the replica set.
type ledgerWay struct {
	store *client.Mongo
	// end ends what carries the store's connections.
	end func()
}

func (w ledgerWay) close() {
	_ = w.store.Close() // what it leaves ends with what carries it
	w.end()
}

// openWay opens the way that the header names.
func openWay(ctx context.Context, header ledger.Header, place ledgerPlace) (ledgerWay, error) {
	password, err := secret.Read(place.passwordFile)
	if err != nil {
		return ledgerWay{}, err
	}
	way := ledgerWay{end: func() {}}
	options := client.PortOptions(net.JoinHostPort(place.loopback, webPrimaryPort))
	if header.Via == viaMembers {
		var members *client.Members
		if members, way.end, err = openMembers(ctx, place); err != nil {
			return ledgerWay{}, err
		}
		options = members.Options()
	}
	way.store, err = client.OpenMongo(client.MongoConfig{
		Options: options, User: "web", Password: password,
		WriteConcern: header.WriteConcern, ReadConcern: header.ReadConcern, Timeout: header.Timeout,
	})
	if err != nil {
		way.end()
	}
	return way, err
}

// membersWithin bounds the wait for a certificate.
const membersWithin = 20 * time.Second

// openMembers opens the way over the mesh itself, and returns what ends it. It
// outlives ctx, because writes that are under way at an interrupt need it.
func openMembers(ctx context.Context, place ledgerPlace) (*client.Members, func(), error) {
	members, err := client.OpenMembers(client.MembersConfig{
		Consul: consul.Config{
			// The node's agent is named by the environment of what runs inside.
			Address: os.Getenv("CONSUL_HTTP_ADDR"), TokenFile: place.tokenFile, Datacenter: place.datacenter,
		},
		ReplicaSet: place.replicaSet, Members: place.members,
	})
	if err != nil {
		return nil, nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = members.Run(running)
	}()
	end := func() {
		stop()
		<-done
		members.Close()
	}
	bound, cancel := context.WithTimeout(ctx, membersWithin)
	defer cancel()
	if err := members.AwaitReady(bound); err != nil {
		end()
		return nil, nil, fmt.Errorf("become web on this node: %w", err)
	}
	return members, end, nil
}
