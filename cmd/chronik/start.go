package main

import (
	"github.com/spf13/cobra"

	"chronik/internal/edge/server"
)

func newStart(environ []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Run a node until SIGINT or SIGTERM",
		Long: `Run a node until SIGINT or SIGTERM. Alone it is a cluster of one:

  chronik start

Three nodes that found a cluster get the same list of peers:

  chronik start --node-id 1 --peer 10.0.0.1:9192 --kafka 10.0.0.1:9092 \
    --peers 1@10.0.0.1:9192,2@10.0.0.2:9192,3@10.0.0.3:9192

Every setting can also be an environment variable (CHRONIK_NODE_ID=1) or stand
in the file given by --config; a flag is stronger than the environment, the
environment stronger than the file. docs/settings.md describes them all.`,
		Args: noArguments,
	}
	s := addSettings(cmd, environ)
	cmd.RunE = trying(func(cmd *cobra.Command, args []string) error {
		c, err := s.load()
		if err != nil {
			return err
		}
		return server.Run(cmd.Context(), c, newLogger(cmd.ErrOrStderr(), c))
	})
	return cmd
}
