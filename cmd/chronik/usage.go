package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"chronik/internal/edge/config"
)

// noArguments refuses whatever stands behind a command that takes nothing, and
// where a sub-command is wanted the name of one that there is not.
func noArguments(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case cmd.HasAvailableSubCommands():
		return noCommand(cmd, args[0])
	}
	return usage("got %q, takes nothing but flags", args[0])
}

// noCommand says that a command has no such sub-command, and which it has.
func noCommand(cmd *cobra.Command, name string) error {
	var all []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			all = append(all, c.Name())
		}
	}
	hint := "it has " + strings.Join(all, ", ")
	if meant := config.Nearest(name, all); meant != "" {
		hint = "did you mean " + meant + "?"
	}
	return usage("%s has no command %q; %s", cmd.CommandPath(), name, hint)
}

// oneArgument wants exactly one; what it is, and where to find it.
func oneArgument(what, hint string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 0 || args[0] == "":
			return usage("which %s is missing; %s", what, hint)
		case len(args) > 1:
			return usage("got %d arguments, takes one %s; %s", len(args), what, hint)
		}
		return nil
	}
}

// someArguments wants at least one, and none empty.
func someArguments(what, hint string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usage("which %s is missing; %s", what, hint)
		}
		for _, a := range args {
			if a == "" {
				return usage("got an empty name of a %s; %s", what, hint)
			}
		}
		return nil
	}
}

// ofKafka are flags of Kafka's tools that hands still type, and ours.
var ofKafka = map[string]string{
	"bootstrap-server":   "bootstrap",
	"broker-list":        "bootstrap",
	"replication-factor": "replicas",
	"if-not-exists":      "if-missing",
	"add-config":         "config",
	"compression-codec":  "compression",
}

// flagError says in our words what is wrong with the flags given.
func flagError(cmd *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	var missing *pflag.ValueRequiredError
	var unknown *pflag.NotExistError
	switch {
	case errors.As(err, &invalid):
		return usage("flag --%s: got %q, takes %s", invalid.GetFlag().Name, invalid.GetValue(), takes(invalid.GetFlag()))
	case errors.As(err, &missing):
		return usage("flag --%s: its value is missing, takes %s", missing.GetFlag().Name, takes(missing.GetFlag()))
	case errors.As(err, &unknown):
		name := "--" + unknown.GetSpecifiedName()
		if short := unknown.GetSpecifiedShortnames(); short != "" {
			name = "-" + unknown.GetSpecifiedName()
		}
		var all []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { all = append(all, "--"+f.Name) })
		meant := "--" + ofKafka[unknown.GetSpecifiedName()]
		if !slices.Contains(all, meant) {
			meant = config.Nearest(name, all)
		}
		if meant != "" {
			return usage("there is no flag %s; did you mean %s?", name, meant)
		}
		return usage("there is no flag %s", name)
	}
	return usage("%v", err)
}

// takes says what the value of a flag may be.
func takes(f *pflag.Flag) string {
	switch kind := f.Value.Type(); kind {
	case "duration":
		return "a time with its unit, such as 500ms, 30s or 5m"
	case "int16":
		return "a whole number from -32768 to 32767"
	case "int32", "int":
		return "a whole number"
	case "int64":
		return "a whole number of at most 64 bits"
	case "uint64":
		return "a whole number from 0 on"
	case "float64":
		return "a number"
	case "bool":
		return "true or false"
	case "int32Slice":
		return "whole numbers with commas between them"
	case "stringArray", "stringSlice":
		return "a text"
	default:
		return fmt.Sprintf("a %s", kind)
	}
}

// newHelp is cobra's help command, but one that knows what is no command.
func newHelp(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Print how a command is used",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil {
				return usage("%v", err)
			}
			if len(rest) > 0 {
				if cmd.HasAvailableSubCommands() {
					return noCommand(cmd, rest[0])
				}
				return usage("%s has no command %q", cmd.CommandPath(), rest[0])
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}
