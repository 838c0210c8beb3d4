package quorum

import (
	"fmt"
	"log/slog"

	"go.etcd.io/raft/v3/tracker"
)

type raftProgress = tracker.Progress

// raftLogger passes on what Raft says: its Info is our Debug, since the broker
// logs elections itself.
type raftLogger struct{ log *slog.Logger }

func (l raftLogger) Debug(v ...any) { l.log.Debug("raft", "text", fmt.Sprint(v...)) }
func (l raftLogger) Debugf(format string, v ...any) {
	l.log.Debug("raft", "text", fmt.Sprintf(format, v...))
}
func (l raftLogger) Info(v ...any) { l.log.Debug("raft", "text", fmt.Sprint(v...)) }
func (l raftLogger) Infof(format string, v ...any) {
	l.log.Debug("raft", "text", fmt.Sprintf(format, v...))
}
func (l raftLogger) Warning(v ...any) { l.log.Warn("raft warned", "text", fmt.Sprint(v...)) }
func (l raftLogger) Warningf(format string, v ...any) {
	l.log.Warn("raft warned", "text", fmt.Sprintf(format, v...))
}
func (l raftLogger) Error(v ...any) { l.log.Error("raft erred", "text", fmt.Sprint(v...)) }
func (l raftLogger) Errorf(format string, v ...any) {
	l.log.Error("raft erred", "text", fmt.Sprintf(format, v...))
}
func (l raftLogger) Fatal(v ...any)                 { panic(fmt.Sprint(v...)) }
func (l raftLogger) Fatalf(format string, v ...any) { panic(fmt.Sprintf(format, v...)) }
func (l raftLogger) Panic(v ...any)                 { panic(fmt.Sprint(v...)) }
func (l raftLogger) Panicf(format string, v ...any) { panic(fmt.Sprintf(format, v...)) }
