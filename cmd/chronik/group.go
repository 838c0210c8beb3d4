package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

func newGroup() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "group",
		Short: "List, describe and delete consumer groups, and reset their offsets",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	t := &topicCommand{cluster: addCluster(cmd)}
	cmd.PersistentFlags().StringVarP(&t.output, "output", "o", "text", "text or json")
	cmd.AddCommand(newGroupList(t), newGroupDescribe(t), newGroupReset(t), newGroupDelete(t))
	return cmd
}

const groupsThere = "`chronik group list` shows what there is"

// namesGroups wants the name of a group at least.
var namesGroups = someArguments("group", groupsThere)

// groupStates are those that a group may be in, of all types.
var groupStates = []string{"Empty", "Stable", "PreparingRebalance", "CompletingRebalance", "Assigning", "Reconciling", "Dead"}

// groupTypes are the types that groups are listed by, one question each: the
// answer does not say.
var groupTypes = []string{"classic", "consumer"}

func newGroupList(t *topicCommand) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List groups", Args: noArguments}
	states := cmd.Flags().StringSlice("state", nil, "only groups in one of these states: "+strings.Join(groupStates, ", "))
	run := t.with(func(ctx context.Context, cmd *cobra.Command, admin *kadm.Client, _ []string) error {
		type row struct {
			Group       string `json:"group"`
			Type        string `json:"type"`
			State       string `json:"state"`
			Protocol    string `json:"protocol_type"`
			Coordinator int32  `json:"coordinator"`
		}
		rows := []row{}
		for _, kind := range groupTypes {
			listed, err := admin.ListGroupsByType(ctx, []string{kind}, *states...)
			if err != nil {
				return explain("list groups", err, "")
			}
			for _, g := range listed {
				rows = append(rows, row{g.Group, kind, g.State, g.ProtocolType, g.Coordinator})
			}
		}
		slices.SortFunc(rows, func(a, b row) int { return strings.Compare(a.Group, b.Group) })
		if t.output == "json" {
			return writeJSON(cmd.OutOrStdout(), rows)
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "GROUP\tTYPE\tSTATE\tCOORDINATOR")
		for _, r := range rows {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\n", r.Group, r.Type, r.State, r.Coordinator)
		}
		return w.Flush()
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for i, state := range *states {
			at := slices.IndexFunc(groupStates, func(s string) bool { return strings.EqualFold(s, strings.TrimSpace(state)) })
			if at < 0 {
				return usage("flag --state: got %q, takes %s", state, strings.Join(groupStates, ", "))
			}
			(*states)[i] = groupStates[at]
		}
		return run(cmd, args)
	}
	return cmd
}

// groupDescription is what describe shows of a group.
type groupDescription struct {
	Group       string           `json:"group"`
	Type        string           `json:"type"`
	State       string           `json:"state"`
	Coordinator int32            `json:"coordinator"`
	Assignor    string           `json:"assignor"`
	Epoch       int32            `json:"epoch,omitempty"` // of a consumer group
	Lag         int64            `json:"lag"`             // in records, of all partitions
	Members     []describedOf    `json:"members"`
	Partitions  []groupPartition `json:"partitions"`
}

// describedOf is one member of a described group.
type describedOf struct {
	Member   string             `json:"member"`
	Instance string             `json:"instance,omitempty"`
	Client   string             `json:"client"`
	Host     string             `json:"host"`
	Protocol string             `json:"protocol"` // classic or consumer
	Epoch    int32              `json:"epoch,omitempty"`
	Assigned map[string][]int32 `json:"assigned"`
	Target   map[string][]int32 `json:"target,omitempty"` // where it is not what is assigned
}

// groupPartition is one partition that a group reads or has an offset for.
type groupPartition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed int64  `json:"committed"` // -1: nothing
	Start     int64  `json:"start_offset"`
	End       int64  `json:"end_offset"`
	Lag       int64  `json:"lag"` // -1: not known
	Member    string `json:"member,omitempty"`
	Error     string `json:"error,omitempty"`
}

func newGroupDescribe(t *topicCommand) *cobra.Command {
	cmd := &cobra.Command{Use: "describe NAME...", Short: "Show groups: members, offsets, lag", Args: namesGroups}
	cmd.RunE = t.with(func(ctx context.Context, cmd *cobra.Command, admin *kadm.Client, args []string) error {
		described := []groupDescription{}
		var wrong []error
		for _, name := range args {
			d, err := describeGroup(ctx, admin, name)
			if err != nil {
				wrong = append(wrong, err)
				continue
			}
			described = append(described, d)
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

func describeGroup(ctx context.Context, admin *kadm.Client, name string) (groupDescription, error) {
	what := "describe group " + name
	d, err := describeMembers(ctx, admin, name)
	if err != nil {
		return d, err
	}
	committed, err := admin.FetchOffsets(ctx, name)
	if err != nil {
		return d, explainGroup(what, err)
	}
	owner := map[string]map[int32]string{}
	topics := map[string]bool{}
	committed.Each(func(o kadm.OffsetResponse) { topics[o.Topic] = true })
	for _, m := range d.Members {
		for topic, partitions := range m.Assigned {
			topics[topic] = true
			if owner[topic] == nil {
				owner[topic] = map[int32]string{}
			}
			for _, p := range partitions {
				owner[topic][p] = m.Member
			}
		}
	}
	if names := slices.Sorted(maps.Keys(topics)); len(names) > 0 {
		// What has no leader is told of in its row.
		starts, _ := admin.ListStartOffsets(ctx, names...)
		ends, _ := admin.ListEndOffsets(ctx, names...)
		for _, topic := range names {
			d.addPartitions(topic, owner[topic], committed, starts, ends)
		}
	}
	return d, nil
}

// describeMembers finds the group under either protocol.
func describeMembers(ctx context.Context, admin *kadm.Client, name string) (groupDescription, error) {
	d := groupDescription{Group: name, Members: []describedOf{}, Partitions: []groupPartition{}}
	what := "describe group " + name
	consumers, err := admin.DescribeConsumerGroups(ctx, name)
	if err == nil {
		err = consumers[name].Err
	}
	if err == nil {
		d.fillConsumer(consumers[name])
		return d, nil
	}
	if !errors.Is(err, kerr.GroupIDNotFound) && !errors.Is(err, kerr.UnsupportedVersion) {
		return d, explainGroup(what, err)
	}
	classics, err := admin.DescribeGroups(ctx, name)
	if err != nil {
		return d, explainGroup(what, err)
	}
	g := classics[name]
	if g.Err == nil && g.State == "Dead" {
		g.Err = kerr.GroupIDNotFound
	}
	if g.Err != nil {
		return d, explainGroup(what, g.Err)
	}
	d.fillClassic(g)
	return d, nil
}

func (d *groupDescription) fillConsumer(g kadm.DescribedConsumerGroup) {
	d.Type, d.State, d.Coordinator, d.Assignor, d.Epoch = "consumer", g.State, g.Coordinator.NodeID, g.AssignorName, g.Epoch
	for _, m := range g.Members {
		row := describedOf{Member: m.MemberID, Client: m.ClientID, Host: m.ClientHost, Epoch: m.MemberEpoch, Protocol: "consumer", Assigned: listed(m.Assignment)}
		if m.MemberType == 0 {
			row.Protocol = "classic"
		}
		if m.InstanceID != nil {
			row.Instance = *m.InstanceID
		}
		if target := listed(m.TargetAssignment); !maps.EqualFunc(target, row.Assigned, slices.Equal) {
			row.Target = target
		}
		d.Members = append(d.Members, row)
	}
}

func (d *groupDescription) fillClassic(g kadm.DescribedGroup) {
	d.Type, d.State, d.Coordinator, d.Assignor = "classic", g.State, g.Coordinator.NodeID, g.Protocol
	for _, m := range g.Members {
		row := describedOf{Member: m.MemberID, Client: m.ClientID, Host: m.ClientHost, Protocol: "classic", Assigned: map[string][]int32{}}
		if m.InstanceID != nil {
			row.Instance = *m.InstanceID
		}
		if a, ok := m.Assigned.AsConsumer(); ok {
			for _, t := range a.Topics {
				row.Assigned[t.Topic] = slices.Sorted(slices.Values(t.Partitions))
			}
		}
		d.Members = append(d.Members, row)
	}
}

// listed are the partitions of a set by topic, in order.
func listed(set kadm.TopicsSet) map[string][]int32 {
	out := map[string][]int32{}
	for topic, partitions := range set {
		out[topic] = slices.Sorted(maps.Keys(partitions))
	}
	return out
}

func (d *groupDescription) addPartitions(topic string, owner map[int32]string, committed kadm.OffsetResponses, starts, ends kadm.ListedOffsets) {
	numbers := map[int32]bool{}
	for p := range owner {
		numbers[p] = true
	}
	for p := range committed[topic] {
		numbers[p] = true
	}
	for _, p := range slices.Sorted(maps.Keys(numbers)) {
		row := groupPartition{Topic: topic, Partition: p, Committed: -1, Start: -1, End: -1, Lag: -1, Member: owner[p]}
		c, ok := committed.Lookup(topic, p)
		start, okStart := starts.Lookup(topic, p)
		end, okEnd := ends.Lookup(topic, p)
		for _, err := range []error{c.Err, start.Err, end.Err} {
			if err != nil && row.Error == "" {
				row.Error = err.Error()
			}
		}
		if !okEnd && row.Error == "" {
			row.Error = kerr.UnknownTopicOrPartition.Message
		}
		if ok && c.Err == nil {
			row.Committed = c.At
		}
		if okStart && start.Err == nil {
			row.Start = start.Offset
		}
		if okEnd && end.Err == nil {
			row.End = end.Offset
		}
		if row.End >= 0 && row.Committed >= 0 {
			row.Lag = max(row.End-row.Committed, 0)
			d.Lag += row.Lag
		}
		d.Partitions = append(d.Partitions, row)
	}
}

func (d *groupDescription) print(out io.Writer) error {
	fmt.Fprintf(out, "group %s: %s, %s, coordinator %d", d.Group, d.Type, d.State, d.Coordinator)
	if d.Assignor != "" {
		fmt.Fprintf(out, ", assignor %s", d.Assignor)
	}
	if d.Epoch > 0 {
		fmt.Fprintf(out, ", epoch %d", d.Epoch)
	}
	fmt.Fprintf(out, ", lag %d\n", d.Lag)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	if len(d.Members) > 0 {
		fmt.Fprintln(w, "MEMBER\tINSTANCE\tCLIENT\tHOST\tPROTOCOL\tPARTITIONS\tTO COME")
		for _, m := range d.Members {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Member, dash(m.Instance), dash(m.Client), m.Host, m.Protocol, partitionsText(m.Assigned), partitionsText(m.Target))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(d.Partitions) == 0 {
		return nil
	}
	fmt.Fprintln(w, "TOPIC\tPARTITION\tCOMMITTED\tEND\tLAG\tMEMBER\tERROR")
	for _, p := range d.Partitions {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\n", p.Topic, p.Partition, offsetText(p.Committed), offsetText(p.End), offsetText(p.Lag), dash(p.Member), p.Error)
	}
	return w.Flush()
}

func offsetText(n int64) string {
	if n < 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func dash(s string) string { return cmp.Or(s, "-") }

// partitionsText is "orders 0,1,4; events 2".
func partitionsText(m map[string][]int32) string {
	var parts []string
	for _, topic := range slices.Sorted(maps.Keys(m)) {
		if len(m[topic]) == 0 {
			continue
		}
		numbers := make([]string, len(m[topic]))
		for i, p := range m[topic] {
			numbers[i] = fmt.Sprint(p)
		}
		parts = append(parts, topic+" "+strings.Join(numbers, ","))
	}
	return dash(strings.Join(parts, "; "))
}

func newGroupDelete(t *topicCommand) *cobra.Command {
	cmd := &cobra.Command{Use: "delete NAME...", Short: "Delete groups without members, and their offsets", Args: namesGroups}
	cmd.RunE = t.with(func(ctx context.Context, cmd *cobra.Command, admin *kadm.Client, args []string) error {
		did := &doneList{command: cmd, output: t.output}
		for _, name := range args {
			if _, err := admin.DeleteGroup(ctx, name); err != nil {
				did.wrong(explainGroup("delete group "+name, err))
				continue
			}
			did.add("deleted "+name, map[string]any{"group": name, "deleted": true})
		}
		return did.end()
	})
	return cmd
}

// explainGroup is explain for what concerns a group.
func explainGroup(what string, err error) error {
	switch {
	case errors.Is(err, kerr.GroupIDNotFound):
		return &told{what + ": there is no such group; `chronik group list` shows what there is", err}
	case errors.Is(err, kerr.NonEmptyGroup), errors.Is(err, kerr.UnknownMemberID):
		return &told{what + ": the group has members; stop its consumers first, `chronik group describe` shows who they are", err}
	}
	return explain(what, err, "")
}
