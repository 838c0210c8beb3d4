package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"chronik/internal/host/broker"
)

func newClusterScrub(t *topicCommand) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "scrub",
		Short: "Show which logs were verified and compared, and what was damaged; verify now",
		Long: `Nodes verify their logs in the background and compare them with those of the other
replicas; what is damaged is repaired from another replica. This shows for each
replica how far it was verified and what was found. Any node's HTTP port gives it
(setting http). The exit code is 1 while something is damaged, or a node does not answer.`,
		Args: noArguments,
	}
	address := cmd.Flags().String("http", "127.0.0.1:9644", "HOST:PORT of a node's HTTP port")
	topic := cmd.Flags().String("topic", "", "only this topic")
	now := cmd.Flags().Bool("now", false, "begin to verify on all nodes, at the rate that their setting allows")
	wait := cmd.Flags().Bool("wait", false, "wait until all nodes have verified everything and repaired what they can")
	cmd.RunE = trying(func(cmd *cobra.Command, _ []string) error {
		if err := oneOf("output", t.output, "text", "json"); err != nil {
			return err
		}
		s := &scrubs{address: *address, topic: *topic, timeout: t.cluster.timeout}
		states, err := s.read(cmd.Context(), *now)
		if err != nil {
			return err
		}
		if *now {
			if off := offNodes(states); len(off) > 0 {
				return fmt.Errorf("the scrubber is off on node %s: set scrub-bytes-per-second", strings.Join(off, ", "))
			}
		}
		if *wait {
			if states, err = s.await(cmd.Context(), states); err != nil {
				return err
			}
		}
		if t.output == "json" {
			err = writeJSON(cmd.OutOrStdout(), states)
		} else {
			err = printScrubs(cmd.OutOrStdout(), states)
		}
		if err != nil {
			return err
		}
		return scrubVerdict(states)
	})
	return cmd
}

// scrubs asks a node for the state of all scrubbers.
type scrubs struct {
	address, topic string
	timeout        time.Duration
}

func (s *scrubs) read(ctx context.Context, start bool) ([]broker.ScrubState, error) {
	if !isAddress(s.address) {
		return nil, usage("flag --http: got %q, takes HOST:PORT", s.address)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	method := http.MethodGet
	if start {
		method = http.MethodPost
	}
	request, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://%s/cluster/scrub?topic=%s", s.address, url.QueryEscape(s.topic)), nil)
	if err != nil {
		return nil, usage("flag --http: got %q, takes HOST:PORT", s.address)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, explainHTTP("read the scrubbers' state", s.address, err)
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, fmt.Errorf("there is no topic %q", s.topic)
	default:
		return nil, fmt.Errorf("read the scrubbers' state: %s answers %s; is it a chronik node?", s.address, response.Status)
	}
	var states []broker.ScrubState
	if err := json.NewDecoder(response.Body).Decode(&states); err != nil {
		return nil, fmt.Errorf("read the scrubbers' state: %w", err)
	}
	return states, nil
}

const scrubPoll = 200 * time.Millisecond

// await asks until nothing that was begun is under way, and no repair that can
// go on.
func (s *scrubs) await(ctx context.Context, begun []broker.ScrubState) ([]broker.ScrubState, error) {
	for {
		states, err := s.read(ctx, false)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(states, func(n broker.ScrubState) bool { return busy(n, begun) }) {
			return states, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(scrubPoll):
		}
	}
}

// busy says whether a node has something to do: the pass that was begun, or
// any if none was, or a repair that is not stuck.
func busy(n broker.ScrubState, begun []broker.ScrubState) bool {
	if slices.ContainsFunc(n.Replicas, func(r broker.ScrubbedState) bool { return r.Bad != "" && r.Stuck == "" }) {
		return true
	}
	i := slices.IndexFunc(begun, func(b broker.ScrubState) bool { return b.Node == n.Node && b.Started > 0 })
	if i < 0 {
		return len(n.Pending) > 0
	}
	return slices.Contains(n.Pending, begun[i].Started)
}

func offNodes(states []broker.ScrubState) (off []string) {
	for _, n := range states {
		if n.Off {
			off = append(off, fmt.Sprint(n.Node))
		}
	}
	return off
}

func scrubVerdict(states []broker.ScrubState) error {
	bad, silent := 0, 0
	for _, n := range states {
		if n.Error != "" {
			silent++
		}
		for _, r := range n.Replicas {
			if r.Bad != "" {
				bad++
			}
		}
	}
	switch {
	case bad > 0:
		return fmt.Errorf("%d replicas are damaged and not repaired yet", bad)
	case silent > 0:
		return fmt.Errorf("%d nodes do not answer", silent)
	}
	return nil
}

func printScrubs(to io.Writer, states []broker.ScrubState) error {
	type row struct {
		node int32
		broker.ScrubbedState
	}
	var rows []row
	for _, n := range states {
		fmt.Fprintln(to, describeScrub(n))
		for _, r := range n.Replicas {
			rows = append(rows, row{int32(n.Node), r})
		}
	}
	slices.SortStableFunc(rows, func(x, y row) int {
		if c := strings.Compare(x.Topic, y.Topic); c != 0 {
			return c
		}
		return int(x.Partition - y.Partition)
	})
	w := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "PARTITION\tNODE\tROLE\tLOG\tVERIFIED TO\tVERIFIED\tCOMPARED\tDAMAGED\tDIFFERED\tREPAIRED\tLAST REPAIR")
	for _, r := range rows {
		fmt.Fprintf(w, "%s-%d\t%d\t%s\t%d to %d\t%d\t%s\t%s\t%d\t%d\t%d\t%s\n", r.Topic, r.Partition, r.node, r.Role, r.LogStart, r.LogEnd,
			r.VerifiedTo, moment(r.VerifiedAt), moment(r.ComparedAt), r.Damages, r.Mismatches, r.Repaired, moment(r.RepairedAt))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, r := range rows {
		if r.Bad == "" {
			continue
		}
		next := "is being repaired"
		if r.Stuck != "" {
			next = "cannot be repaired now: " + r.Stuck
		}
		fmt.Fprintf(to, "%s-%d on node %d: %s; %s\n", r.Topic, r.Partition, r.node, r.Bad, next)
	}
	return nil
}

func describeScrub(n broker.ScrubState) string {
	switch {
	case n.Error != "":
		return fmt.Sprintf("node %d: %s", n.Node, n.Error)
	case n.Off:
		return fmt.Sprintf("node %d: does not verify in the background (scrub-bytes-per-second is 0)", n.Node)
	}
	of := func(p *broker.ScrubPass) string {
		if p.Topic != "" {
			return " topic " + p.Topic
		}
		return ""
	}
	what := "waits for its next pass"
	if p := n.Running; p != nil {
		what = fmt.Sprintf("verifies%s, since %s, %d of %d logs done", of(p), moment(p.Since), p.Done, p.Logs)
	} else if p := n.Last; p != nil {
		what = fmt.Sprintf("has verified%s, until %s, %d logs", of(p), moment(p.Until), p.Logs)
	}
	return fmt.Sprintf("node %d: %s; since its start: %d MiB read, %d segments damaged, %d ranges differed, %d repaired, %d logs copied anew",
		n.Node, what, n.Counts.Bytes>>20, n.Counts.Damages, n.Counts.Mismatches, n.Counts.Repairs, n.Counts.StartedOver)
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02T15:04:05")
}
