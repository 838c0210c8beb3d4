package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"chronik/internal/edge/config"
)

func newConfig(environ []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the settings in effect and where they come from",
		Long: `Print the settings that chronik start would run with, given the same flags, environment
and file, and where each comes from. Nothing is started.`,
		Args: noArguments,
	}
	output := cmd.Flags().StringP("output", "o", "text", "text or json")
	s := addSettings(cmd, environ)
	cmd.RunE = trying(func(cmd *cobra.Command, args []string) error {
		if err := oneOf("output", *output, "text", "json"); err != nil {
			return err
		}
		c, err := s.load()
		if err != nil {
			return err
		}
		if *output == "json" {
			type row struct {
				Value  string        `json:"value"`
				Source config.Source `json:"source"`
			}
			all := map[string]row{}
			for _, setting := range config.Settings() {
				all[setting.Name] = row{c.Value(setting.Name), c.Source(setting.Name)}
			}
			return writeJSON(cmd.OutOrStdout(), all)
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
		for _, setting := range config.Settings() {
			fmt.Fprintf(w, "%s\t%s\t%s\n", setting.Name, c.Value(setting.Name), c.Source(setting.Name))
		}
		return w.Flush()
	})
	return cmd
}

func writeJSON(w interface{ Write([]byte) (int, error) }, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
