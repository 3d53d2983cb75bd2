// Package command is what the gateway's program does besides being a gateway:
// explain what it would do, look for faults in tags, and read Fabio's files. Its
// commands ask a running gateway at its operations endpoint, or nobody.
//
// Results go to the one stream, so that a program can read them, everything else
// to the other.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"sluice/internal/service"
)

const (
	// DefaultAdmin is where a gateway has its operations endpoint if nothing else was
	// asked for.
	DefaultAdmin = "http://127.0.0.1:9998"
	// timeout bounds a question to a gateway, and mostBytes its answer.
	timeout   = 10 * time.Second
	mostBytes = 16 << 20
)

// errNo means that the answer is no: a fault was found, or the request would not
// be served. What was asked for has been printed.
var errNo = errors.New("")

// Streams are where a command writes.
type Streams struct{ Out, Err io.Writer }

// verb is one command.
type verb struct {
	name, form, text, examples string
	run                        func(ctx context.Context, s Streams, o options, args []string) error
	// gateways says that the flags are those of the gateway itself.
	gateways bool
}

// options are the flags that all commands have.
type options struct {
	admin, output, method, client, prefix string
	allowPlain                            bool
}

func verbs() []verb {
	return []verb{
		{
			"check", "check [flags of the gateway]",
			"Read flags, environment and file as the gateway would, and every file that they name:\ncertificates, passwords, tokens and error pages. Nothing is started.",
			"  gateway check -config /etc/gateway/gateway.conf\n",
			check, true,
		},
		{
			"explain", "explain [flags] URL | REQUEST-ID",
			"Tell which host, path and route take a request, who may use it, and which\ninstances could get it; or what became of a recent request, try by try.",
			"  gateway explain http://shop.example/cart\n  gateway explain -client 192.0.2.7 /admin\n  gateway explain tcp://:5432\n  gateway explain 4FZ2K7QWMBN3XHYAAAAAAAAAAC\n",
			explain, false,
		},
		{
			"lint", "lint [flags] [TAG ...]",
			"Look for faults: in the tags and override commands that are given, in those that\ncome line by line from the standard input (-), or in all that a running gateway sees.",
			"  gateway lint\n  gateway lint 'urlprefix-/shop strip=/shop'\n  consul kv get fabio/config | gateway lint -\n",
			lint, false,
		},
		{
			"import-fabio", "import-fabio [flags] FILE",
			"Read a fabio.properties (or - for the standard input), print the flags that mean the\nsame, and name every property that has none, with the reason.",
			"  gateway import-fabio /etc/fabio/fabio.properties\n",
			importFabio, false,
		},
	}
}

// Meant reports whether a first argument is no flag, and so meant as a command.
func Meant(word string) bool { return word != "" && word[0] != '-' }

// Names are those of all commands.
func Names() []string {
	var names []string
	for _, v := range verbs() {
		names = append(names, v.name)
	}
	return names
}

// Run carries out the command that args name. Its error is nil for yes, a
// service.UsageError for what was asked for wrongly, and else says what failed, or
// nothing where the output has said it already.
func Run(ctx context.Context, s Streams, args []string) error {
	for _, v := range verbs() {
		if v.name == args[0] {
			return v.start(ctx, s, args[1:])
		}
	}
	names := Names()
	all := strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
	for _, name := range names {
		if strings.HasPrefix(name, args[0]) || sameLetters(name, args[0]) {
			return service.UsageError{Err: fmt.Errorf("there is no command %q; do you mean %s? The commands are %s", args[0], name, all)}
		}
	}
	return service.UsageError{Err: fmt.Errorf("there is no command %q; the commands are %s, and without one it is the gateway, which takes flags alone", args[0], all)}
}

// sameLetters reports whether two words differ by the order of their letters, as
// those do that are typed too fast.
func sameLetters(a, b string) bool {
	return slices.Equal(slices.Sorted(slices.Values([]byte(a))), slices.Sorted(slices.Values([]byte(strings.ToLower(b)))))
}

func (v verb) start(ctx context.Context, s Streams, args []string) error {
	var o options
	if v.gateways {
		return v.run(ctx, s, o, args)
	}
	fs := flag.NewFlagSet("gateway "+v.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.output, "o", "text", "`form` of the output: text or json")
	if v.name != "import-fabio" {
		fs.StringVar(&o.admin, "admin", DefaultAdmin, "`URL` of the gateway's operations endpoint")
	}
	if v.name == "explain" {
		fs.StringVar(&o.method, "method", http.MethodGet, "`method` of the request")
		fs.StringVar(&o.client, "client", "", "`address` of the client; 127.0.0.1 if it is not given")
	}
	if v.name == "lint" {
		fs.BoolVar(&o.allowPlain, "allow-plain", false, "judge as a gateway with -allow-plain does")
		fs.StringVar(&o.prefix, "prefix", "", "`prefix` of the tags that are routes; urlprefix- if it is not given")
	}
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fs.SetOutput(s.Out)
		fmt.Fprintf(s.Out, "Usage: gateway %s\n\n%s\n\nFlags:\n", v.form, v.text)
		fs.PrintDefaults()
		fmt.Fprintf(s.Out, "\nExamples:\n%s\nIt ends with 0 for yes, 1 for no or a failure, 2 for wrong usage.\n", v.examples)
		return nil
	case err != nil:
		return service.UsageError{Err: fmt.Errorf("%s: %w", v.name, err), Command: v.name}
	case o.output != "text" && o.output != "json":
		return service.UsageError{Err: fmt.Errorf("%s: -o %q: want text or json", v.name, o.output), Command: v.name}
	}
	err := v.run(ctx, s, o, fs.Args())
	var usage service.UsageError
	if errors.As(err, &usage) {
		return service.UsageError{Err: usage.Err, Command: v.name}
	}
	return err
}

// ask gets JSON from a gateway.
func ask(ctx context.Context, o options, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	address := strings.TrimSuffix(o.admin, "/") + path
	if !strings.Contains(o.admin, "://") {
		address = "http://" + address
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return service.UsageError{Err: fmt.Errorf("-admin %q: %w", o.admin, err)}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		var long *url.Error // it repeats the address, with the question
		if errors.As(err, &long) {
			err = long.Err
		}
		return fmt.Errorf("ask the gateway at %s: %w (is it running there? -admin names another place)", o.admin, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, mostBytes))
	if err != nil {
		return fmt.Errorf("ask the gateway at %s: %w", o.admin, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", strings.TrimSpace(string(body)))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("what answers at %s is no gateway: %w", o.admin, err)
	}
	return nil
}

func printJSON(s Streams, value any) error {
	encoder := json.NewEncoder(s.Out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
