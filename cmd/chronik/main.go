// Command chronik runs a node of a Kafka-compatible cluster, and is a client
// of any such cluster.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"chronik/internal/edge/config"
)

// Exit codes.
const (
	exitFailed = 1 // it was tried and did not work
	exitUsage  = 2 // it was asked for in a way that cannot be tried
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// run is main without the process around it.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot(environ)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	var failed *failure
	if errors.As(err, &failed) {
		text := failed.Error()
		if ctx.Err() != nil {
			text = strings.ReplaceAll(text, context.Canceled.Error(), "interrupted")
		}
		for line := range strings.Lines(text) { // each of several errors
			fmt.Fprintf(stderr, "chronik: %s\n", strings.TrimSuffix(line, "\n"))
		}
		return exitFailed
	}
	var wrong *config.Error
	if errors.As(err, &wrong) {
		for _, problem := range wrong.Problems {
			fmt.Fprintf(stderr, "chronik: %s\n", problem)
		}
		return exitUsage
	}
	fmt.Fprintf(stderr, "chronik: %v\nTry `%s --help`.\n", err, cmd.CommandPath())
	return exitUsage
}

func newRoot(environ []string) *cobra.Command {
	root := &cobra.Command{
		Use:           "chronik",
		Short:         "A Kafka-compatible streaming cluster in one binary",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			return cmd.Help()
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(newHelp(root))
	root.AddCommand(newStart(environ), newDev(environ), newConfig(environ), newTopic(), newClusterCommand(), newProduce(), newConsume(),
		newBench(), newGroup(), newSimulate(), newWAL(), newVersion())
	return root
}

// failure is an error of something that was tried. Every other error that a
// command returns is one of usage.
type failure struct{ error }

func (f *failure) Unwrap() error { return f.error }

func failed(format string, args ...any) error { return &failure{fmt.Errorf(format, args...)} }

// trying marks what f returns as failure, unless it is one of usage.
func trying(f func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := f(cmd, args)
		var usage *usageError
		var wrong *config.Error
		if err == nil || errors.As(err, &usage) || errors.As(err, &wrong) {
			return err
		}
		return &failure{err}
	}
}

type usageError struct{ message string }

func (u *usageError) Error() string { return u.message }

func usage(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// oneOf checks the value of a flag.
func oneOf(flag, got string, takes ...string) error {
	for _, t := range takes {
		if got == t {
			return nil
		}
	}
	return usage("flag --%s: got %q, takes one of %s", flag, got, strings.Join(takes, ", "))
}

// pairs reads NAME=VALUE arguments of a flag.
func pairs(flag string, given []string) ([][2]string, error) {
	var out [][2]string
	for _, g := range given {
		name, value, found := strings.Cut(g, "=")
		if !found || name == "" {
			return nil, usage("flag --%s: got %q, takes NAME=VALUE", flag, g)
		}
		out = append(out, [2]string{name, value})
	}
	return out, nil
}
