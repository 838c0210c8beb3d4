package main

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func newClusterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Show a cluster's state and history, add and remove nodes",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	t := &topicCommand{cluster: addCluster(cmd)}
	cmd.PersistentFlags().StringVarP(&t.output, "output", "o", "text", "text or json")
	cmd.AddCommand(newClusterStatus(t), newClusterEvents(t), newClusterScrub(t), newAddNode(t), newRemoveNode(t))
	return cmd
}

// administrator is an admin client that can also ask what kadm cannot.
type administrator struct {
	*kadm.Client
	raw *kgo.Client
}

// withRaw is with, for an administrator.
func (t *topicCommand) withRaw(f func(ctx context.Context, cmd *cobra.Command, admin *administrator, args []string) error) func(*cobra.Command, []string) error {
	return t.with(func(ctx context.Context, cmd *cobra.Command, admin *kadm.Client, args []string) error {
		return f(ctx, cmd, &administrator{admin, t.client}, args)
	})
}

// kmsgRequest asks any broker.
func kmsgRequest[R kmsg.Response](ctx context.Context, admin *administrator, request kmsg.Request) (R, error) {
	var none R
	response, err := admin.raw.Request(ctx, request)
	if err != nil {
		return none, err
	}
	return response.(R), nil
}
