// Package server binds a node's parts together and runs them.
package server

import (
	"context"
	"errors"
	"log/slog"

	"chronik/internal/edge/config"
)

// Run runs the node until ctx ends.
func Run(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	return errors.New("run node: not built yet")
}
