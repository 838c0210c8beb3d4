package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"chronik/internal/edge/config"
)

const (
	devNodes     = 3
	devNodesMax  = 9
	devReadyWait = time.Minute
	devStopWait  = 5 * time.Second
)

func newDev(environ []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a cluster for development on this machine, with its data in ./chronik-data/dev",
		Long: `Run a cluster for development on this machine: three nodes, each a process of its
own, that listen on the loopback address. It says where they can be reached as
soon as all are ready, and stops them at Ctrl-C. Their data are in
./chronik-data/dev; delete the directory to begin anew.

A node that ends is reported, the others go on: kill -9 one and see. It takes the
settings of ` + "`chronik start`" + ` and hands them to every node; the ports given are
those of the first node, the others get the ones that follow.`,
		Args: noArguments,
	}
	nodes := cmd.Flags().Int("nodes", devNodes, "how many nodes to run")
	s := addSettings(cmd, environ)
	cmd.RunE = trying(func(cmd *cobra.Command, args []string) error {
		c, err := s.load()
		if err != nil {
			return err
		}
		if *nodes < 1 || *nodes > devNodesMax {
			return usage("flag --nodes: got %d, takes a number from 1 to %d", *nodes, devNodesMax)
		}
		for _, name := range []string{"node-id", "peers", "join"} {
			if _, given := s.given[name]; given {
				return usage("flag --%s: dev gives each node its own; `chronik start` takes it", name)
			}
		}
		if c.Source("data-dir") == config.FromDefault {
			name := "dev"
			if *nodes != devNodes {
				name = fmt.Sprintf("dev-%d", *nodes)
			}
			c.DataDir = filepath.Join(c.DataDir, name)
		}
		cluster, err := newLocalCluster(*nodes, c.DataDir, c.Kafka, c.Peer, c.HTTP, s.forEach(c, *nodes), cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		return runDev(cmd.Context(), cmd.OutOrStdout(), cluster)
	})
	return cmd
}

// forEach is the settings that every node of a development cluster gets.
func (s *settings) forEach(c config.Config, nodes int) []string {
	own := []string{"kafka", "peer", "http", "data-dir", "advertise-kafka"}
	var args []string
	if s.file != "" {
		args = append(args, "--config", s.file)
	}
	for _, name := range slices.Sorted(maps.Keys(s.given)) {
		if !slices.Contains(own, name) {
			args = append(args, "--"+name+"="+s.given[name])
		}
	}
	byDefault := map[string]string{"log-level": "warn"}
	if nodes >= 3 {
		byDefault["default.replication.factor"], byDefault["min.insync.replicas"] = "3", "2"
	}
	for _, name := range slices.Sorted(maps.Keys(byDefault)) {
		if c.Source(name) == config.FromDefault {
			args = append(args, "--"+strings.ReplaceAll(name, ".", "-")+"="+byDefault[name])
		}
	}
	return args
}

func runDev(ctx context.Context, out io.Writer, c *localCluster) error {
	runtime.LockOSThread() // the nodes end with the thread that has started them
	defer c.stopAll(devStopWait)
	starting, cancel := context.WithTimeout(ctx, devReadyWait)
	defer cancel()
	if err := c.startAll(starting); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("%w; is another cluster running here? its ports can be changed with --kafka, --peer and --http", err)
	}
	fmt.Fprintf(out, "bootstrap  %s\n", c.bootstrap())
	for _, n := range c.nodes {
		fmt.Fprintf(out, "node %d     pid %d  kafka %s  data %s", n.id, n.pid(), n.kafka, n.dir)
		if n.http != "" {
			fmt.Fprintf(out, "  metrics http://%s/metrics", n.http)
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintln(out, "Ctrl-C stops all.")
	ends := make(chan *localNode)
	for _, n := range c.nodes {
		gone := n.gone()
		go func() {
			<-gone
			select {
			case ends <- n:
			case <-ctx.Done():
			}
		}()
	}
	for left := len(c.nodes); left > 0; left-- {
		select {
		case <-ctx.Done():
			return nil
		case n := <-ends:
			_, err := n.ended()
			fmt.Fprintf(out, "node %d ended: %v\n  to start it again, in another terminal, where it then has to be stopped as well: chronik %s\n", n.id, cmpError(err), strings.Join(quoted(c.arguments(n)), " "))
		}
	}
	return failed("all nodes have ended")
}

// quoted makes arguments fit for a shell.
func quoted(args []string) []string {
	out := slices.Clone(args)
	for i, a := range out {
		if a == "" || strings.ContainsAny(a, " '\"$") {
			out[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return out
}
