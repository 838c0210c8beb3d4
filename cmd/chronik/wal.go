package main

import (
	"os"

	"github.com/spf13/cobra"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/storage/wal"
)

func newWAL() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "wal",
		Short: "Look into the files of logs",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	dump := &cobra.Command{
		Use:     "dump DIR",
		Short:   "Print what the logs in and below a directory hold, without changing them",
		Example: "  chronik wal dump chronik-data/wal/partitions/orders-0",
		Args:    oneArgument("directory", "give that of a log, such as chronik-data/wal/partitions/orders-0, or one above"),
	}
	var options wal.DumpOptions
	var from int64
	dump.RunE = trying(func(cmd *cobra.Command, args []string) error {
		switch {
		case from < 0:
			return usage("flag --from: got %d, takes an offset from 0 on", from)
		case options.Max < 0:
			return usage("flag --max: got %d, takes 0 or more", options.Max)
		}
		info, err := os.Stat(args[0])
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return usage("%s is not a directory; give that of a log, such as chronik-data/wal/partitions/orders-0", args[0])
		}
		options.From = kafka.Offset(from)
		return wal.Dump(cmd.OutOrStdout(), vfs.Disk{}, args[0], options)
	})
	flags := dump.Flags()
	flags.BoolVar(&options.Batches, "batches", false, "print each batch, not only where something is wrong")
	flags.BoolVar(&options.Index, "index", false, "print each index entry")
	flags.Int64Var(&from, "from", 0, "the first offset whose batch is printed")
	flags.IntVarP(&options.Max, "max", "n", 0, "batches to print of each log; 0: all")
	cmd.AddCommand(dump)
	return cmd
}
