package main

import (
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"chronik/internal/edge/config"
)

// settings are the flags of commands that run a node: one per row of the table.
type settings struct {
	environ []string
	file    string
	given   map[string]string
}

func addSettings(cmd *cobra.Command, environ []string) *settings {
	s := &settings{environ: environ, given: map[string]string{}}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&s.file, "config", "", "TOML file with settings (environment CHRONIK_CONFIG)")
	for _, setting := range config.Settings() {
		value := &settingFlag{into: s.given, name: setting.Flag(), kind: setting.Type(), shown: setting.Default}
		f := flags.VarPF(value, setting.Flag(), "", strings.ReplaceAll(setting.Help, "`", ""))
		if setting.IsBoolean() {
			f.NoOptDefVal = "true"
		}
	}
	return s
}

func (s *settings) load() (config.Config, error) {
	return config.Load(config.Sources{Flags: s.given, Environ: s.environ, File: s.file})
}

// settingFlag keeps the text of a flag for config.Load, which checks it.
type settingFlag struct {
	into       map[string]string
	name, kind string
	shown      string
}

func (f *settingFlag) String() string { return f.shown }
func (f *settingFlag) Type() string   { return f.kind }

func (f *settingFlag) Set(text string) error {
	if before, given := f.into[f.name]; given && f.kind == "list" {
		text = before + "," + text
	}
	f.into[f.name] = text
	return nil
}

func newLogger(w io.Writer, c config.Config) *slog.Logger {
	var level slog.Level
	level.UnmarshalText([]byte(c.LogLevel)) //nolint:errcheck // one of the table's words
	options := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
