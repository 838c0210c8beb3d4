package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/edge/config"
)

const topicsThere = "`chronik topic list` shows what there is"

func newTopic() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "topic",
		Short: "Create, list, describe, alter and delete topics",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	t := &topicCommand{cluster: addCluster(cmd)}
	cmd.PersistentFlags().StringVarP(&t.output, "output", "o", "text", "text or json")
	cmd.AddCommand(t.newCreate(), t.newList(), t.newDescribe(), t.newAlter(), t.newDelete())
	return cmd
}

// topicCommand is what the commands on topics share.
type topicCommand struct {
	cluster *cluster
	output  string
	client  *kgo.Client // while a command runs
}

// with runs f with an admin client.
func (t *topicCommand) with(f func(ctx context.Context, cmd *cobra.Command, admin *kadm.Client, args []string) error) func(*cobra.Command, []string) error {
	return trying(func(cmd *cobra.Command, args []string) error {
		if err := oneOf("output", t.output, "text", "json"); err != nil {
			return err
		}
		client, err := t.cluster.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer client.Close()
		t.client = client
		ctx, cancel := context.WithTimeout(cmd.Context(), t.cluster.timeout)
		defer cancel()
		admin := kadm.NewClient(client)
		admin.SetTimeoutMillis(int32(t.cluster.timeout.Milliseconds()))
		return f(ctx, cmd, admin, args)
	})
}

func (t *topicCommand) newCreate() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "create NAME...",
		Short:   "Create topics",
		Example: "  chronik topic create orders --partitions 6 --replicas 3 -c min.insync.replicas=2",
		Args:    someArguments("topic", "takes the names of those to create"),
	}
	partitions := cmd.Flags().Int32P("partitions", "p", -1, "partitions; -1: the broker's num.partitions")
	replicas := cmd.Flags().Int16P("replicas", "r", -1, "replicas of each partition; -1: the broker's default.replication.factor")
	given := cmd.Flags().StringArrayP("config", "c", nil, "NAME=VALUE of a topic's config; may be repeated")
	ifMissing := cmd.Flags().Bool("if-missing", false, "do nothing for topics that exist")
	cmd.RunE = t.with(func(ctx context.Context, cmd *cobra.Command, admin *kadm.Client, args []string) error {
		configs, err := topicConfigs(*given)
		if err != nil {
			return err
		}
		did := &doneList{command: cmd, output: t.output}
		for _, name := range args {
			r, err := admin.CreateTopic(ctx, *partitions, *replicas, configs, name)
			switch {
			case *ifMissing && errors.Is(err, kerr.TopicAlreadyExists):
				did.add("exists already: "+name, map[string]any{"topic": name, "created": false})
			case err != nil:
				did.wrong(explain("create topic "+name, err, r.ErrMessage))
			default:
				did.add("created "+name, map[string]any{"topic": name, "created": true, "id": kafka.TopicID(r.ID).String(), "partitions": r.NumPartitions, "replicas": r.ReplicationFactor})
			}
		}
		return did.end()
	})
	return cmd
}

// doneList says what a command did to each of several things: in text line by
// line, in JSON as one list at the end.
type doneList struct {
	command *cobra.Command
	output  string
	done    []any
	errs    []error
}

func (d *doneList) add(text string, v any) {
	d.done = append(d.done, v)
	if d.output == "text" {
		fmt.Fprintln(d.command.OutOrStdout(), text)
	}
}

func (d *doneList) wrong(err error) { d.errs = append(d.errs, err) }

func (d *doneList) end() error {
	if d.output == "json" {
		d.wrong(writeJSON(d.command.OutOrStdout(), append([]any{}, d.done...)))
	}
	return errors.Join(d.errs...)
}

func topicConfigs(given []string) (map[string]*string, error) {
	list, err := pairs("config", given)
	configs := map[string]*string{}
	for _, p := range list {
		configs[p[0]] = &p[1]
	}
	return configs, err
}

func (t *topicCommand) newList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List topics", Args: noArguments}
	internal := cmd.Flags().Bool("internal", false, "also those that the cluster keeps for itself")
	cmd.RunE = t.with(func(ctx context.Context, cmd *cobra.Command, admin *kadm.Client, args []string) error {
		list := admin.ListTopics
		if *internal {
			list = admin.ListTopicsWithInternal
		}
		topics, err := list(ctx)
		if err != nil {
			return explain("list topics", err, "")
		}
		type row struct {
			Topic      string `json:"topic"`
			ID         string `json:"id"`
			Partitions int    `json:"partitions"`
			Replicas   int    `json:"replicas"`
		}
		rows := []row{}
		for _, d := range topics.Sorted() {
			rows = append(rows, row{d.Topic, kafka.TopicID(d.ID).String(), len(d.Partitions), d.Partitions.NumReplicas()})
		}
		if t.output == "json" {
			return writeJSON(cmd.OutOrStdout(), rows)
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "TOPIC\tPARTITIONS\tREPLICAS")
		for _, r := range rows {
			fmt.Fprintf(w, "%s\t%d\t%d\n", r.Topic, r.Partitions, r.Replicas)
		}
		return w.Flush()
	})
	return cmd
}

// topicDescription is what describe shows of a topic.
type topicDescription struct {
	Topic      string                 `json:"topic"`
	ID         string                 `json:"id"`
	Internal   bool                   `json:"internal"`
	Partitions []partitionDescription `json:"partitions"`
	Configs    []configDescription    `json:"configs"`
}

type partitionDescription struct {
	Partition   int32   `json:"partition"`
	Leader      int32   `json:"leader"`
	LeaderEpoch int32   `json:"leader_epoch"`
	Replicas    []int32 `json:"replicas"`
	InSync      []int32 `json:"in_sync"`
	Start       int64   `json:"start_offset"`
	End         int64   `json:"end_offset"`
	Lag         []int64 `json:"lag"` // of each replica, in their order, as it knows itself; -1: no answer
	Why         string  `json:"why,omitempty"`
	Error       string  `json:"error,omitempty"`
}

type configDescription struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

func (t *topicCommand) newDescribe() *cobra.Command {
	cmd := &cobra.Command{Use: "describe NAME...", Short: "Show topics: partitions, leaders, offsets, configs", Args: someArguments("topic", topicsThere)}
	all := cmd.Flags().Bool("all", false, "show configs that have their default as well")
	cmd.RunE = t.with(func(ctx context.Context, cmd *cobra.Command, admin *kadm.Client, args []string) error {
		described := []topicDescription{}
		var wrong []error
		for _, name := range args {
			d, err := describe(ctx, &administrator{admin, t.client}, name, *all)
			if wrong = append(wrong, err); d.Partitions != nil {
				described = append(described, d)
			}
		}
		if t.output == "json" {
			return errors.Join(append(wrong, writeJSON(cmd.OutOrStdout(), described))...)
		}
		for i, d := range described {
			if i > 0 {
				fmt.Fprintln(cmd.OutOrStdout())
			}
			wrong = append(wrong, d.print(cmd.OutOrStdout()))
		}
		return errors.Join(wrong...)
	})
	return cmd
}

// describePatience is how long the parts of a description that a topic can be
// shown without may take: nodes that are down do not answer.
const describePatience = 5 * time.Second

// describe has the partitions even when there is an error, as long as some
// broker knows of them.
func describe(ctx context.Context, admin *administrator, name string, all bool) (topicDescription, error) {
	what := "describe topic " + name
	d := topicDescription{Topic: name, Configs: []configDescription{}}
	h, err := readHealth(ctx, admin, name)
	if err != nil {
		return d, err
	}
	if err := h.topics.Error(); err != nil && !errors.Is(err, kerr.LeaderNotAvailable) {
		return d, explain(what, err, "")
	}
	detail := h.topics[name]
	d.ID, d.Internal = kafka.TopicID(detail.ID).String(), detail.IsInternal
	// A partition without a leader has no offsets to show; its row says why.
	attempt, cancel := context.WithTimeout(ctx, describePatience)
	defer cancel()
	starts, _ := admin.ListStartOffsets(attempt, name)
	ends, _ := admin.ListEndOffsets(attempt, name)
	for _, p := range detail.Partitions.Sorted() {
		row := partitionDescription{Partition: p.Partition, Leader: p.Leader, LeaderEpoch: p.LeaderEpoch, Replicas: p.Replicas, InSync: p.ISR, Start: -1, End: -1}
		start, okStart := starts.Lookup(name, p.Partition)
		end, okEnd := ends.Lookup(name, p.Partition)
		for _, err := range []error{p.Err, start.Err, end.Err} {
			switch {
			case err == nil || row.Error != "":
			case errors.Is(err, kerr.NotLeaderForPartition):
				row.Error = fmt.Sprintf("node %d, which led it last, does not know whether it still does; %s", p.Leader, asksStatus)
			default:
				row.Error = err.Error()
			}
		}
		if !okEnd && row.Error == "" && p.Leader >= 0 {
			row.Error = fmt.Sprintf("node %d, which leads it, does not answer in time; %s", p.Leader, asksStatus)
		}
		if okStart && start.Err == nil {
			row.Start = start.Offset
		}
		if okEnd && end.Err == nil {
			row.End = end.Offset
		}
		for _, r := range p.Replicas {
			row.Lag = append(row.Lag, h.lag(r, name, p.Partition))
		}
		row.Why = strings.Join(h.why(name, p), "; ")
		d.Partitions = append(d.Partitions, row)
	}
	attempt, cancel = context.WithTimeout(ctx, describePatience)
	defer cancel()
	configs, err := admin.DescribeTopicConfigs(attempt, name)
	if err != nil {
		return d, explain("read the configs of topic "+name, err, "")
	}
	for _, c := range configs {
		if c.Err != nil {
			return d, explain("read the configs of topic "+name, c.Err, c.ErrMessage)
		}
		for _, entry := range c.Configs {
			if all || entry.Source == kmsg.ConfigSourceDynamicTopicConfig {
				d.Configs = append(d.Configs, configDescription{entry.Key, entry.MaybeValue(), entry.Source.String()})
			}
		}
	}
	slices.SortFunc(d.Configs, func(a, b configDescription) int { return strings.Compare(a.Name, b.Name) })
	return d, nil
}

// trouble is what is wrong, in words; that there is no leader says why nobody
// answers.
func (p *partitionDescription) trouble() string {
	if p.Leader < 0 || p.Why == "" || p.Error == "" {
		return cmp.Or(p.Why, p.Error)
	}
	return p.Why + "; " + p.Error
}

func (d *topicDescription) print(to io.Writer) error {
	fmt.Fprintf(to, "topic %s  id %s\n", d.Topic, d.ID)
	w := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "PARTITION\tLEADER\tEPOCH\tREPLICAS\tIN SYNC\tLAG\tSTART\tEND\t")
	for _, p := range d.Partitions {
		fmt.Fprintf(w, "%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Partition, p.Leader, p.LeaderEpoch, list(p.Replicas), list(p.InSync), lags(p.Lag), known(p.Start), known(p.End), p.trouble())
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, c := range d.Configs {
		fmt.Fprintf(w, "%s\t%s\t%s\n", c.Name, c.Value, c.Source)
	}
	return w.Flush()
}

func list(ids []int32) string {
	parts := make([]string, len(ids))
	for i, id := range ids {
		parts[i] = fmt.Sprint(id)
	}
	return strings.Join(parts, ",")
}

func lags(lags []int64) string {
	parts := make([]string, len(lags))
	for i, lag := range lags {
		parts[i] = known(lag)
	}
	return strings.Join(parts, ",")
}

func (t *topicCommand) newAlter() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "alter NAME...",
		Short:   "Change configs of topics, or give them more partitions",
		Example: "  chronik topic alter orders -c retention.ms=3600000 -d cleanup.policy --partitions 12",
		Args:    someArguments("topic", topicsThere),
	}
	set := cmd.Flags().StringArrayP("config", "c", nil, "NAME=VALUE of a config to set; may be repeated")
	unset := cmd.Flags().StringArrayP("delete-config", "d", nil, "NAME of a config to give back its default; may be repeated")
	partitions := cmd.Flags().IntP("partitions", "p", 0, "partitions that the topic is to have in all; more than it has")
	cmd.RunE = t.with(func(ctx context.Context, cmd *cobra.Command, admin *kadm.Client, args []string) error {
		list, err := pairs("config", *set)
		if err != nil {
			return err
		}
		var changes []kadm.AlterConfig
		for _, p := range list {
			changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: p[0], Value: &p[1]})
		}
		for _, name := range *unset {
			changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: name})
		}
		if len(changes) == 0 && *partitions == 0 {
			return usage("nothing to change: give --config, --delete-config or --partitions")
		}
		if err := knownConfigs(ctx, admin, args[0], *unset); err != nil {
			return err
		}
		did := &doneList{command: cmd, output: t.output}
		bad := map[string]bool{}
		note := func(topic, what string, err error, message string) {
			if err != nil {
				bad[topic] = true
				did.wrong(explain(what+topic, err, message))
			}
		}
		if len(changes) > 0 {
			responses, err := admin.AlterTopicConfigs(ctx, changes, args...)
			if err != nil {
				return explain("alter topics", err, "")
			}
			for _, r := range responses {
				note(r.Name, "alter topic ", r.Err, r.ErrMessage)
			}
		}
		if *partitions != 0 {
			responses, err := admin.UpdatePartitions(ctx, *partitions, args...)
			if err != nil {
				return explain("add partitions", err, "")
			}
			for _, r := range responses.Sorted() {
				note(r.Topic, "add partitions to topic ", r.Err, r.ErrMessage)
			}
		}
		for _, name := range args {
			if !bad[name] {
				did.add("altered "+name, map[string]any{"topic": name})
			}
		}
		return did.end()
	})
	return cmd
}

// knownConfigs refuses names that are none of a config: to delete one does
// nothing, so that the broker takes any name.
func knownConfigs(ctx context.Context, admin *kadm.Client, topic string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	described, err := admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return explain("read the configs of topic "+topic, err, "")
	}
	for _, r := range described {
		if r.Err != nil {
			return explain("read the configs of topic "+topic, r.Err, r.ErrMessage)
		}
		var all []string
		for _, c := range r.Configs {
			all = append(all, c.Key)
		}
		for _, name := range names {
			if slices.Contains(all, name) {
				continue
			}
			hint := "`chronik topic describe --all` shows those that there are"
			if meant := config.Nearest(name, all); meant != "" {
				hint = "did you mean " + meant + "?"
			}
			return fmt.Errorf("there is no config %q; %s", name, hint)
		}
	}
	return nil
}

func (t *topicCommand) newDelete() *cobra.Command {
	cmd := &cobra.Command{Use: "delete NAME...", Short: "Delete topics and all their records", Args: someArguments("topic", topicsThere)}
	internal := cmd.Flags().Bool("internal", false, "also those that the cluster keeps for itself; without __consumer_offsets every group begins anew")
	cmd.RunE = t.with(func(ctx context.Context, cmd *cobra.Command, admin *kadm.Client, args []string) error {
		for _, name := range args {
			if name == "__consumer_offsets" && !*internal {
				return errors.New("topic __consumer_offsets holds the offsets of all groups, which would be lost with it: nothing was deleted; --internal deletes it all the same")
			}
		}
		did := &doneList{command: cmd, output: t.output}
		responses, err := admin.DeleteTopics(ctx, args...)
		if err != nil {
			return explain("delete topics", err, "")
		}
		for _, r := range responses.Sorted() {
			if r.Err != nil {
				did.wrong(explain("delete topic "+r.Topic, r.Err, r.ErrMessage))
				continue
			}
			did.add("deleted "+r.Topic, map[string]any{"topic": r.Topic, "deleted": true})
		}
		return did.end()
	})
	return cmd
}
