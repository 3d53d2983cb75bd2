package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sluice/web/settings"
)

func newWeb(a *app) *cobra.Command {
	command := group(&cobra.Command{
		Use: "web", Short: "The blog: its configuration while it runs",
		Example: "  sluice web config list\n  sluice web config set web/maintenance true",
	})
	command.AddCommand(newWebConfig(a))
	return command
}

func newWebConfig(a *app) *cobra.Command {
	var datacenter string
	command := group(&cobra.Command{
		Use: "config", Short: "What web takes over from Consul's key/value store without a restart",
		Long: `Keys below web/ in Consul's key/value store, which every web follows. A value is
judged before it is written, by the code by which web judges it. Each datacenter has
its own keys: --dc says which, and without it the primary one is meant.`,
		Example: `  sluice web config list
  sluice web config get web/tagline
  sluice web config set web/maintenance true
  sluice web config unset web/maintenance`,
	})
	command.PersistentFlags().StringVar(&datacenter, "dc", "", "the `datacenter` whose web is meant (default the primary one)")
	command.AddCommand(newWebConfigList(a, &datacenter), newWebConfigGet(a, &datacenter), newWebConfigSet(a, &datacenter), newWebConfigUnset(a, &datacenter))
	return command
}

func newWebConfigList(a *app, datacenter *string) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "Every key: what Consul holds, whether that is valid, the default, the meaning", Args: cobra.NoArgs,
		Example: "  sluice web config list\n  sluice web config list --dc dc2 -o json",
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, cancel := a.bounded(command.Context(), 15*time.Second)
			defer cancel()
			s, err := a.webSession(ctx, *datacenter)
			if err != nil {
				return err
			}
			defer s.consul.Close()
			held, err := s.held(ctx)
			if err != nil {
				return err
			}
			if a.json() {
				return a.print(held)
			}
			table := tabwriter.NewWriter(a.std.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "KEY\tIN CONSUL\tVALID\tDEFAULT\tMEANING")
			for _, key := range held {
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", key.Key, key.shown(), key.verdict(), orEmpty(key.Default), key.Meaning)
			}
			return table.Flush()
		},
	}
}

func newWebConfigGet(a *app, datacenter *string) *cobra.Command {
	return &cobra.Command{
		Use: "get KEY", Short: "One value: that in Consul, or the default; exit code 1 when it is not valid",
		Example: "  sluice web config get web/tagline",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: completeSettings(false),
		RunE: func(command *cobra.Command, args []string) error {
			key, err := settingNamed(command, args[0])
			if err != nil {
				return err
			}
			ctx, cancel := a.bounded(command.Context(), 15*time.Second)
			defer cancel()
			s, err := a.webSession(ctx, *datacenter)
			if err != nil {
				return err
			}
			defer s.consul.Close()
			held, err := s.heldKey(ctx, key.Name)
			if err != nil {
				return err
			}
			switch {
			case a.json():
				err = a.print(held)
			case held.Written != nil:
				_, err = fmt.Fprintln(a.std.out, printable(*held.Written))
			default:
				a.say("%s is not set; its default:", held.Key)
				_, err = fmt.Fprintln(a.std.out, held.Default)
			}
			if err == nil && held.Why != "" {
				return &codeError{exitNo, fmt.Errorf("%s is not in force: %s", held.Key, held.Why)}
			}
			return err
		},
	}
}

func newWebConfigSet(a *app, datacenter *string) *cobra.Command {
	var dryRun bool
	command := &cobra.Command{
		Use: "set KEY VALUE", Short: "Write a value, and wait until every web runs with it",
		Long:    "Judge a value, write it to Consul and wait until every web of the datacenter says that it runs with it.\nA value that web would refuse is exit code 2, and nothing is written.\n\n" + settingsHelp(),
		Example: "  sluice web config set web/maintenance true\n  sluice web config set web/tagline Moved\n  sluice web config set web/installed_apps blog,topology --dry-run\n  sluice web config set web/read_preference primary --dc dc2",
		Args:    keyAndValue, ValidArgsFunction: completeSettings(true),
		RunE: func(command *cobra.Command, args []string) error {
			key, err := settingNamed(command, args[0])
			if err != nil {
				return err
			}
			value := strings.TrimSpace(args[1])
			inForce, err := settings.Judge(key.Name, []byte(value))
			if err != nil {
				return &usageError{command.CommandPath(), refusal(key, value, err)}
			}
			return a.changeSetting(command, *datacenter, settingChange{key: key.Name, value: &value, inForce: inForce, dryRun: dryRun})
		},
	}
	command.Flags().BoolVar(&dryRun, "dry-run", false, "judge it and say what would be written")
	return command
}

// keyAndValue judges the number of arguments of set.
func keyAndValue(_ *cobra.Command, args []string) error {
	switch len(args) {
	case 0:
		return errors.New("set wants a key and a value")
	case 1:
		return fmt.Errorf("set wants a value for %s as well; for its default, unset it", clipped(args[0]))
	case 2:
		return nil
	}
	return fmt.Errorf("set wants one key and one value, not %d arguments; a value with blanks stands between quotes", len(args))
}

// refusal says why a value is refused. The reason says what is taken.
func refusal(key settings.Key, value string, reason error) error {
	if value == "" {
		return fmt.Errorf("%s: the value is empty: %w; for the default, unset the key", key.Name, reason)
	}
	return fmt.Errorf("%s: %q: %w", key.Name, clipped(value), reason)
}

// mostShown is how many characters of what was typed a message shows.
const mostShown = 60

// clipped is the beginning of a text, if it is long, for a message.
func clipped(text string) string {
	text = printable(text)
	if runes := []rune(text); len(runes) > mostShown {
		return string(runes[:mostShown]) + "…"
	}
	return text
}

func newWebConfigUnset(a *app, datacenter *string) *cobra.Command {
	var dryRun bool
	command := &cobra.Command{
		Use: "unset KEY", Short: "Back to the default, and wait until every web runs with that",
		Example: "  sluice web config unset web/maintenance",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: completeSettings(false),
		RunE: func(command *cobra.Command, args []string) error {
			key, err := settingNamed(command, args[0])
			if err != nil {
				return err
			}
			return a.changeSetting(command, *datacenter, settingChange{key: key.Name, inForce: key.Default, dryRun: dryRun})
		},
	}
	command.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be deleted")
	return command
}

// settingsHelp lists the keys with what they take.
func settingsHelp() string {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, key := range settings.Known() {
		fmt.Fprintf(table, "  %s\t%s\n", key.Name, key.Takes)
	}
	_ = table.Flush() // a strings.Builder takes everything
	return strings.TrimRight(text.String(), "\n")
}

// settingNamed finds a key, by its full name or without the prefix.
func settingNamed(command *cobra.Command, name string) (settings.Key, error) {
	var names []string
	for _, key := range settings.Known() {
		if key.Name == name || key.Name == settings.Prefix+name {
			return key, nil
		}
		names = append(names, key.Name)
	}
	return settings.Key{}, &usageError{command.CommandPath(), fmt.Errorf("no key %q; there are %s", clipped(name), strings.Join(names, ", "))}
}

// completeSettings completes a key and, with values, a value of a key that has a
// fixed set of them.
func completeSettings(values bool) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		var choices []string
		for _, key := range settings.Known() {
			switch {
			case len(args) == 0:
				choices = append(choices, key.Name+"\t"+key.Meaning)
			case len(args) == 1 && values && (key.Name == args[0] || key.Name == settings.Prefix+args[0]):
				choices = append(choices, nextWords(key, typed)...)
			}
		}
		return choices, cobra.ShellCompDirectiveNoFileComp
	}
}

// nextWords are the values that what was typed can become.
func nextWords(key settings.Key, typed string) []string {
	if !key.Many {
		return key.Words
	}
	before := typed[:strings.LastIndexByte(typed, ',')+1]
	var choices []string
	for _, word := range key.Words {
		if !slices.Contains(strings.Split(before, ","), word) {
			choices = append(choices, before+word)
		}
	}
	return choices
}
