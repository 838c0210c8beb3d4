package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"chronik/internal/edge/config"
	"chronik/internal/edge/server"
)

func newDev(environ []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a node for development, with its data in ./chronik-data/dev",
		Long: `Run a node for development. It listens on the loopback address, keeps its data in
./chronik-data/dev (delete the directory to begin anew), says when it is ready, and
stops at Ctrl-C. It takes the settings of ` + "`chronik start`.",
		Args: cobra.NoArgs,
	}
	s := addSettings(cmd, environ)
	cmd.RunE = trying(func(cmd *cobra.Command, args []string) error {
		c, err := s.load()
		if err != nil {
			return err
		}
		if c.Source("data-dir") == config.FromDefault {
			c.DataDir = filepath.Join(c.DataDir, "dev")
		}
		if c.Source("log-level") == config.FromDefault {
			c.LogLevel = "warn"
		}
		ctx, cancel := context.WithCancel(cmd.Context())
		defer cancel()
		go announce(ctx, cmd.OutOrStdout(), c)
		return server.Run(ctx, c, newLogger(cmd.ErrOrStderr(), c))
	})
	return cmd
}

// announce says where the node can be reached as soon as it can be.
func announce(ctx context.Context, out io.Writer, c config.Config) {
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", c.AdvertiseKafka)
		if err == nil {
			conn.Close()
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
	directory, err := filepath.Abs(c.DataDir)
	if err != nil {
		directory = c.DataDir
	}
	fmt.Fprintf(out, "bootstrap  %s\npid        %d\ndata       %s\n", c.AdvertiseKafka, os.Getpid(), directory)
	if c.HTTP != "" {
		fmt.Fprintf(out, "metrics    http://%s/metrics\n", c.HTTP)
	}
	fmt.Fprintln(out, "Ctrl-C stops it.")
}
