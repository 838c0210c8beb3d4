package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// resetTo says where reset-offsets goes; exactly one of them is given.
type resetTo struct {
	earliest, latest bool
	datetime         string
	shift            int64
	offset           int64
}

func newGroupReset(t *topicCommand) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reset-offsets GROUP",
		Short: "Move where a group without members goes on reading",
		Long: "Move where a group without members goes on reading. Offsets stay within what the partitions hold.\n" +
			"Without --topic it is every topic that the group has offsets for.",
		Example: "  chronik group reset-offsets billing --to-datetime 2026-01-31T08:00:00Z --dry-run\n" +
			"  chronik group reset-offsets billing --topic orders:0,1 --shift-by -100",
		Args: oneArgument("group", groupsThere),
	}
	to := &resetTo{}
	topics := cmd.Flags().StringArray("topic", nil, "TOPIC, or TOPIC:PARTITION,PARTITION; may be repeated")
	cmd.Flags().BoolVar(&to.earliest, "to-earliest", false, "to the first record there is")
	cmd.Flags().BoolVar(&to.latest, "to-latest", false, "to the end, so that only what comes is read")
	cmd.Flags().StringVar(&to.datetime, "to-datetime", "", "to the first record from then on: 2026-01-31T08:00:00Z, 2026-01-31T08:00:00.000 (UTC), or milliseconds since 1970")
	cmd.Flags().Int64Var(&to.shift, "shift-by", 0, "so many records forward, or back if negative")
	cmd.Flags().Int64Var(&to.offset, "to-offset", 0, "to this offset")
	cmd.Flags().Bool("dry-run", false, "show what would be done, and do nothing")
	strategies := []string{"to-earliest", "to-latest", "to-datetime", "shift-by", "to-offset"}
	run := t.with(func(ctx context.Context, cmd *cobra.Command, admin *kadm.Client, args []string) error {
		plan, err := to.plan(ctx, cmd, admin, args[0], *topics)
		if err != nil {
			return err
		}
		dry, _ := cmd.Flags().GetBool("dry-run")
		if !dry {
			if err := plan.commit(ctx, admin); err != nil {
				return err
			}
		}
		return plan.print(cmd, t.output)
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var given []string
		for _, s := range strategies {
			if cmd.Flags().Changed(s) {
				given = append(given, "--"+s)
			}
		}
		switch len(given) {
		case 0:
			return usage("where to is missing: takes one of --%s", strings.Join(strategies, ", --"))
		case 1:
			return run(cmd, args)
		}
		return usage("got %s, takes one of them: a group goes on from one place", strings.Join(given, " and "))
	}
	return cmd
}

// resetPlan is what reset-offsets does.
type resetPlan struct {
	Group   string     `json:"group"`
	DryRun  bool       `json:"dry_run"`
	Offsets []resetRow `json:"offsets"`
}

type resetRow struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Old       int64  `json:"old_offset"` // -1: nothing
	New       int64  `json:"new_offset"`
	Start     int64  `json:"start_offset"`
	End       int64  `json:"end_offset"`
}

func (r *resetTo) plan(ctx context.Context, cmd *cobra.Command, admin *kadm.Client, name string, given []string) (*resetPlan, error) {
	what := "reset offsets of group " + name
	at, err := r.time(cmd)
	if err != nil {
		return nil, err
	}
	wanted, err := topicPartitions(given)
	if err != nil {
		return nil, err
	}
	if err := mayReset(ctx, admin, name, len(given) > 0); err != nil {
		return nil, err
	}
	committed, err := admin.FetchOffsets(ctx, name)
	if err != nil {
		return nil, explainGroup(what, err)
	}
	if len(given) == 0 {
		committed.Each(func(o kadm.OffsetResponse) { wanted[o.Topic] = append(wanted[o.Topic], o.Partition) })
		if len(wanted) == 0 {
			return nil, fmt.Errorf("%s: it has no offsets; say with --topic for which topics to make some", what)
		}
	}
	names := slices.Sorted(maps.Keys(wanted))
	starts, err := admin.ListStartOffsets(ctx, names...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, explain(what, err, "")
	}
	ends, err := admin.ListEndOffsets(ctx, names...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, explain(what, err, "")
	}
	found := kadm.ListedOffsets{}
	if r.datetime != "" {
		if found, err = admin.ListOffsetsAfterMilli(ctx, at.UnixMilli(), names...); err != nil {
			return nil, explain(what, err, "")
		}
	}
	dry, _ := cmd.Flags().GetBool("dry-run")
	p := &resetPlan{Group: name, DryRun: dry, Offsets: []resetRow{}}
	for _, topic := range names {
		partitions := wanted[topic]
		if len(partitions) == 0 {
			partitions = slices.Collect(maps.Keys(ends[topic]))
		}
		slices.Sort(partitions)
		for _, number := range slices.Compact(partitions) {
			end, ok := ends.Lookup(topic, number)
			if !ok {
				return nil, fmt.Errorf("%s: topic %s has no partition %d; `chronik topic describe %s` shows which it has", what, topic, number, topic)
			}
			start, _ := starts.Lookup(topic, number)
			row := resetRow{Topic: topic, Partition: number, Old: -1, Start: start.Offset, End: end.Offset}
			if c, ok := committed.Lookup(topic, number); ok && c.Err == nil {
				row.Old = c.At
			}
			after, ok := found.Lookup(topic, number)
			if err := r.choose(&row, after, ok); err != nil {
				return nil, fmt.Errorf("%s: %w", what, err)
			}
			p.Offsets = append(p.Offsets, row)
		}
	}
	return p, nil
}

// choose sets the new offset, within what the partition holds.
func (r *resetTo) choose(row *resetRow, after kadm.ListedOffset, found bool) error {
	switch {
	case r.earliest:
		row.New = row.Start
	case r.latest:
		row.New = row.End
	case r.datetime != "":
		row.New = row.End
		if found && after.Err == nil && after.Offset >= 0 {
			row.New = after.Offset
		}
	case r.shift != 0:
		if row.Old < 0 {
			return fmt.Errorf("partition %d of %s has no offset to shift", row.Partition, row.Topic)
		}
		if row.New = row.Old + r.shift; r.shift > 0 && row.New < row.Old { // beyond all offsets
			row.New = row.End
		}
	default:
		row.New = r.offset
	}
	row.New = min(max(row.New, row.Start), row.End)
	return nil
}

// time reads --to-datetime, and checks the numbers.
func (r *resetTo) time(cmd *cobra.Command) (time.Time, error) {
	switch {
	case cmd.Flags().Changed("shift-by") && r.shift == 0:
		return time.Time{}, usage("flag --shift-by: got 0, takes a number of records other than 0")
	case r.offset < 0:
		return time.Time{}, usage("flag --to-offset: got %d, takes 0 or more", r.offset)
	case !cmd.Flags().Changed("to-datetime"):
		return time.Time{}, nil
	}
	if ms, err := strconv.ParseInt(r.datetime, 10, 64); err == nil {
		return time.UnixMilli(ms), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02"} {
		if at, err := time.Parse(layout, r.datetime); err == nil {
			return at, nil
		}
	}
	return time.Time{}, usage("flag --to-datetime: got %q, takes 2026-01-31T08:00:00Z, 2026-01-31T08:00:00.000 (UTC), or milliseconds since 1970", r.datetime)
}

// topicPartitions reads TOPIC or TOPIC:0,1; no numbers stand for all partitions.
func topicPartitions(given []string) (map[string][]int32, error) {
	out := map[string][]int32{}
	for _, g := range given {
		topic, numbers, some := strings.Cut(g, ":")
		if topic == "" {
			return nil, usage("flag --topic: got %q, takes TOPIC or TOPIC:PARTITION,PARTITION", g)
		}
		out[topic] = append(out[topic], []int32{}...)
		if !some {
			continue
		}
		for _, n := range strings.Split(numbers, ",") {
			p, err := strconv.ParseInt(n, 10, 32)
			if err != nil || p < 0 {
				return nil, usage("flag --topic: got %q, takes TOPIC or TOPIC:PARTITION,PARTITION", g)
			}
			out[topic] = append(out[topic], int32(p))
		}
	}
	return out, nil
}

// mayReset says why the group's offsets cannot be moved, if so. A group that
// does not exist may be made.
func mayReset(ctx context.Context, admin *kadm.Client, name string, mayMake bool) error {
	d, err := describeMembers(ctx, admin, name)
	switch {
	case mayMake && errors.Is(err, kerr.GroupIDNotFound):
		return nil
	case err != nil:
		return err
	case len(d.Members) > 0 || d.State != "Empty":
		return explainGroup("reset offsets of group "+name, kerr.NonEmptyGroup)
	}
	return nil
}

func (p *resetPlan) commit(ctx context.Context, admin *kadm.Client) error {
	var list kadm.Offsets
	for _, r := range p.Offsets {
		list.Add(kadm.Offset{Topic: r.Topic, Partition: r.Partition, At: r.New, LeaderEpoch: -1})
	}
	answers, err := admin.CommitOffsets(ctx, p.Group, list)
	if err != nil {
		return explainGroup("reset offsets of group "+p.Group, err)
	}
	var wrong []error
	for _, a := range answers.Sorted() {
		if a.Err != nil {
			wrong = append(wrong, explainGroup(fmt.Sprintf("reset the offset of partition %d of %s", a.Partition, a.Topic), a.Err))
		}
	}
	return errors.Join(wrong...)
}

func (p *resetPlan) print(cmd *cobra.Command, output string) error {
	if output == "json" {
		return writeJSON(cmd.OutOrStdout(), p)
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "TOPIC\tPARTITION\tOLD\tNEW\tEND")
	for _, r := range p.Offsets {
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\n", r.Topic, r.Partition, offsetText(r.Old), r.New, r.End)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if p.DryRun {
		fmt.Fprintln(cmd.ErrOrStderr(), "nothing was changed: leave --dry-run out to do it")
	}
	return nil
}
