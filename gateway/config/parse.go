package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"sluice/internal/service"
)

const (
	// program is the name in the usage text.
	program = "gateway"
	// envPrefix begins the environment variable of each flag.
	envPrefix = "SLUICE_GATEWAY_"
	// configName is the flag that names the file. It is none of the settings: it can
	// be neither in a file nor asked for twice.
	configName = "config"
	// separator is between the values that one environment variable has for a flag
	// that may be given several times.
	separator = "|"
)

// Kind is which of the sources a value comes from.
type Kind string

// The sources, the one that wins first.
const (
	FromFlag        Kind = "flag"
	FromEnvironment Kind = "env"
	FromFile        Kind = "file"
	FromDefault     Kind = "default"
)

// Origin is where a value comes from. The zero Origin is the default.
type Origin struct {
	Kind Kind
	// Name is the word that was used: the flag's name, one of its aliases, or an
	// environment variable.
	Name string
	// File and Line are of a value in a file.
	File string
	Line int
}

// String returns "flag", "env NAME", "FILE:LINE" or "default".
func (o Origin) String() string {
	switch o.Kind {
	case FromFile:
		return fmt.Sprintf("%s:%d", o.File, o.Line)
	case FromEnvironment:
		return "env " + o.Name
	case FromFlag:
		return "flag"
	}
	return "default"
}

// in begins a line about a value: the file and its line, or the flag, or the
// variable.
func (o Origin) in() string {
	switch o.Kind {
	case FromFile:
		return fmt.Sprintf("%s:%d: %s", o.File, o.Line, o.Name)
	case FromEnvironment:
		return o.Name
	}
	return "-" + o.Name
}

// behind follows a value that a line is not about: where it is, if a flag does not say
// that.
func (o Origin) behind() string {
	switch o.Kind {
	case FromFile:
		return fmt.Sprintf(" (%s:%d)", o.File, o.Line)
	case FromEnvironment:
		return " (" + o.Name + ")"
	}
	return ""
}

// origin returns where value i of a setting comes from.
func (c *Config) origin(name string, i int) Origin {
	if all := c.origins[name]; i < len(all) {
		return all[i]
	}
	return Origin{Name: name}
}

// in begins a line about a setting with one value.
func (c *Config) in(name string) string { return c.origin(name, 0).in() }

// also names a setting and its value within a line about another one.
func (c *Config) also(name, value string) string { return c.origin(name, 0).also(name, value) }

func (o Origin) also(name, value string) string { return "-" + name + " " + value + o.behind() }

// given is a value before it is read.
type given struct {
	text   string
	origin Origin
}

// Input is what Parse reads from.
type Input struct {
	// Args are the arguments without the program's name.
	Args []string
	// Getenv returns an environment variable, "" if there is none; nil knows none.
	Getenv func(string) string
	// Stdout gets the usage text for -h and the version for -version.
	Stdout io.Writer
	// ReadFile reads the file of -config; nil is that of package os.
	ReadFile func(name string) ([]byte, error)
}

// Parse reads flags, environment and file. It returns flag.ErrHelp and
// service.ErrVersion as service.ParseFlags does, after it has printed what was
// asked for. Whatever is wrong is one service.UsageError, with a line for each
// fault. Of the files that are named it reads only that of -config.
func Parse(input Input) (Config, error) {
	if input.Getenv == nil {
		input.Getenv = func(string) string { return "" }
	}
	if input.ReadFile == nil {
		input.ReadFile = os.ReadFile
	}
	if input.Stdout == nil {
		input.Stdout = io.Discard
	}
	all := settings()
	flags, err := readFlags(all, input)
	if err != nil {
		return Config{}, err
	}
	environment := readEnvironment(all, input.Getenv)
	file, problems := readFile(all, flags, environment, input.ReadFile)
	c := fallback()
	c.origins = map[string][]Origin{}
	for _, s := range all {
		for _, source := range []map[string][]given{flags, environment, file} {
			if values := source[s.name]; len(values) > 0 {
				problems = append(problems, s.apply(&c, values)...)
				break
			}
		}
	}
	if len(problems) == 0 {
		problems = c.finish()
	}
	if len(problems) > 0 {
		return Config{}, service.UsageError{Err: errors.Join(problems...)}
	}
	return c, nil
}

// apply sets the values of one source.
func (s setting) apply(c *Config, values []given) (problems []error) {
	if !s.repeat {
		values = values[len(values)-1:] // a later flag takes the place of an earlier one
	}
	for _, value := range values {
		c.origins[s.name] = append(c.origins[s.name], value.origin)
		err := checkText(value.text)
		switch {
		case err != nil:
		case s.repeat && strings.Contains(value.text, separator):
			err = fmt.Errorf("it holds a %q, which stands between two values in the environment", separator)
		default:
			err = s.set(c, value.text)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s %q: %w", value.origin.in(), value.text, err))
		}
	}
	return problems
}

// recorder is a flag whose values are read later, when all sources are known.
type recorder struct {
	into   map[string][]given
	name   string // of the setting
	word   string // what was written
	toggle bool
}

func (r *recorder) String() string { return "" }

func (r *recorder) IsBoolFlag() bool { return r.toggle }

func (r *recorder) Set(text string) error {
	r.into[r.name] = append(r.into[r.name], given{text: text, origin: Origin{Kind: FromFlag, Name: r.word}})
	return nil
}

func readFlags(all []setting, input Input) (map[string][]given, error) {
	flags := map[string][]given{}
	fs := flag.NewFlagSet(program, flag.ContinueOnError)
	names := []string{"version"}
	bind := func(word string, s setting) {
		names = append(names, word)
		fs.Var(&recorder{into: flags, name: s.name, word: word, toggle: s.value == ""}, word, "")
	}
	bind(configName, setting{name: configName, value: "FILE"})
	for _, s := range all {
		bind(s.name, s)
		if s.alias != "" {
			bind(s.alias, s)
		}
	}
	var printed bytes.Buffer
	err := service.ParseFlags(fs, input.Args, &printed)
	switch {
	case errors.Is(err, flag.ErrHelp):
		_, _ = io.WriteString(input.Stdout, Usage())
	case errors.Is(err, service.ErrVersion):
		_, _ = input.Stdout.Write(printed.Bytes())
	case err != nil:
		if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok {
			err = service.UsageError{Err: fmt.Errorf("there is no flag -%s%s", name, suggestion(name, names, "-"))}
		}
	}
	return flags, err
}

// Variable returns the environment variable that says the same as a flag.
func Variable(name string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

func readEnvironment(all []setting, getenv func(string) string) map[string][]given {
	found := map[string][]given{}
	look := func(s setting, word string) {
		variable := Variable(word)
		text := getenv(variable)
		if text == "" || len(found[s.name]) > 0 {
			return
		}
		texts := []string{text}
		if s.repeat {
			texts = strings.Split(text, separator)
		}
		for _, text := range texts {
			if s.repeat {
				text = strings.TrimSpace(text)
			}
			found[s.name] = append(found[s.name], given{text: text, origin: Origin{Kind: FromEnvironment, Name: variable}})
		}
	}
	for _, s := range append([]setting{{name: configName}}, all...) {
		look(s, s.name)
		if s.alias != "" {
			look(s, s.alias)
		}
	}
	return found
}

// readFile reads the file that flags, or the environment, name.
func readFile(all []setting, flags, environment map[string][]given, read func(string) ([]byte, error)) (map[string][]given, []error) {
	named := flags[configName]
	if len(named) == 0 {
		named = environment[configName]
	}
	if len(named) == 0 {
		return nil, nil
	}
	last := named[len(named)-1]
	if last.text == "" {
		return nil, []error{fmt.Errorf("%s is empty; want the path of a file", last.origin.in())}
	}
	data, err := read(last.text)
	if err != nil {
		return nil, []error{fmt.Errorf("%s %q: %w", last.origin.in(), last.text, err)}
	}
	return parseFile(all, last.text, data)
}
