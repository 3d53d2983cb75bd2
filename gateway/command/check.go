package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"sluice/gateway/auth"
	"sluice/gateway/config"
	"sluice/gateway/errorpages"
	"sluice/gateway/tlsfiles"
	"sluice/internal/secret"
)

// check reads the settings as the gateway would, and every file that they name, and
// starts nothing.
func check(_ context.Context, s Streams, _ options, args []string) error {
	cfg, err := config.Parse(config.Input{Args: args, Getenv: os.Getenv, Stdout: s.Out})
	if errors.Is(err, flag.ErrHelp) {
		return nil // it was printed
	}
	if err != nil {
		return err
	}
	if problems := filesOf(cfg); len(problems) > 0 {
		return errors.Join(problems...)
	}
	fmt.Fprintln(s.Out, "The settings, and the files that they name, are good. Addresses and Consul were not tried.")
	for _, row := range cfg.Render() {
		if row.Source != "default" {
			fmt.Fprintf(s.Out, "  %s = %s (%s)\n", row.Name, row.Value, row.Source)
		}
	}
	return nil
}

// filesOf returns what is wrong with the files that the settings name.
func filesOf(cfg config.Config) (problems []error) {
	add := func(what string, err error) {
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", what, err))
		}
	}
	for _, token := range []struct{ flag, file string }{{"-token-file", cfg.TokenFile}, {"-admin-token-file", cfg.AdminTokenFile}} {
		if token.file != "" {
			_, err := secret.Read(token.file)
			add(token.flag, err)
		}
	}
	if len(cfg.Auth) > 0 {
		_, err := auth.Open(auth.Config{Schemes: cfg.Auth})
		add("-auth", err)
	}
	if cfg.ErrorPages != "" {
		_, err := errorpages.Open(errorpages.Config{Dir: cfg.ErrorPages})
		add("-error-pages", err)
	}
	if cfg.AccessLog != config.NoAccessLog && cfg.AccessLog != config.Stdout {
		_, err := os.Stat(filepath.Dir(cfg.AccessLog))
		add("-access-log", err)
	}
	for _, l := range cfg.Listeners {
		if !l.Proto.TLS() {
			continue
		}
		_, err := tlsfiles.Open(tlsfiles.Config{Dir: l.CertDir, Files: l.Certs, Strict: l.StrictMatch})
		add("-listen "+l.Address.String(), err)
		if l.ClientCA != "" {
			_, err := tlsfiles.OpenRoots(tlsfiles.RootsConfig{File: l.ClientCA})
			add("-listen "+l.Address.String()+": clientca", err)
		}
	}
	return problems
}
