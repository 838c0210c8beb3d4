package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"chronik/internal/edge/server"
)

func newClusterEvents(t *topicCommand) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Print the history of leaders, in-sync sets and nodes, with the causes",
		Long: `Print the history of leaders, in-sync sets and nodes, with the causes, from the
cluster's metadata. Any node's HTTP port gives it (setting http); a node shows what
it has learnt of the cluster so far.`,
		Args: noArguments,
	}
	address := cmd.Flags().String("http", "127.0.0.1:9644", "HOST:PORT of a node's HTTP port")
	limit := cmd.Flags().IntP("limit", "n", 100, "how many events, the last ones")
	topic := cmd.Flags().String("topic", "", "only events of this topic")
	cmd.RunE = trying(func(cmd *cobra.Command, args []string) error {
		if err := oneOf("output", t.output, "text", "json"); err != nil {
			return err
		}
		if *limit < 1 {
			return usage("flag --limit: got %d, takes a number from 1 on", *limit)
		}
		ask := *limit
		if *topic != "" {
			ask = math.MaxInt32 // the last ones of the topic may lie far back
		}
		events, err := readEvents(cmd.Context(), *address, ask, t.cluster.timeout)
		if err != nil {
			return err
		}
		if *topic != "" {
			events = slices.DeleteFunc(events, func(e server.Event) bool { return e.Topic != *topic })
			events = events[max(0, len(events)-*limit):]
		}
		if t.output == "json" {
			return writeJSON(cmd.OutOrStdout(), events)
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "TIME\tEVENT\tOF\tDETAIL\tCAUSE")
		for _, e := range events {
			of := "cluster"
			switch {
			case e.Partition != nil:
				of = fmt.Sprintf("%s-%d", e.Topic, *e.Partition)
			case e.Topic != "":
				of = e.Topic
			case e.Node != nil:
				of = fmt.Sprintf("node %d", *e.Node)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", e.Time.Format("2006-01-02T15:04:05.000Z07:00"), e.Event, of, e.Detail, e.Cause)
		}
		return w.Flush()
	})
	return cmd
}

func readEvents(ctx context.Context, address string, limit int, timeout time.Duration) ([]server.Event, error) {
	if !isAddress(address) {
		return nil, usage("flag --http: got %q, takes HOST:PORT", address)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/cluster/events?limit=%d", address, limit), nil)
	if err != nil {
		return nil, usage("flag --http: got %q, takes HOST:PORT", address)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, explainHTTP("read events", address, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read events: %s answers %s; is it a chronik node?", address, response.Status)
	}
	var events []server.Event
	if err := json.NewDecoder(response.Body).Decode(&events); err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return events, nil
}
