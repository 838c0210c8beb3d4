package wal

// Abandon closes the log as it is, without making durable what is not: for a
// log whose files are about to be deleted.
func (l *Log) Abandon() {
	l.changing.Lock()
	defer l.changing.Unlock()
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if !l.isClosed() {
		l.closeFiles()
	}
}
