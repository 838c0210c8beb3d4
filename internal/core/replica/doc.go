// Package replica is the replication of one partition: roles, in-sync set,
// high watermark and producer state, as a value that is stepped.
//
// A Replica does no I/O, starts no goroutine, reads no clock and takes no
// lock. Its owner gives it input by its methods and acts on what Ready then
// lists, in the order of its fields, until Ready has nothing more:
//
//	Propose ─┐                    ┌─ Write ──→ log ──→ Written … Synced ─┐
//	Step   ──┼─→ Replica ─→ Ready ┼─ Send ───→ other nodes               ├─→ Replica
//	Tick   ──┤                    ├─ InSync ─→ controller ─→ InSyncResult┘
//	Assign ──┘                    └─ Acked, Refused ─→ who asked
//
// Between a Ready with Write and its Written (or WriteFailed) no other input
// is allowed; the same holds for Reset and Truncate with Truncated.
//
// The leader pushes. It asks each follower where its log ends (Probe), has it
// cut what the leader does not have (Truncate, by leader epoch and end offset:
// KIP-101, KIP-279) or begin anew (Reset), and then streams appends:
//
//	         Hello, lost messages
//	   ┌───────────────────────────────┐
//	   ▼                               │
//	probing ──State, log is a prefix──→ streaming
//	 │   ▲
//	 └───┘ State, log diverges: Truncate or Reset
//
// What is written and what is synced are kept apart everywhere. An offset is
// durable when it is synced, or, with Options.Relaxed, when it is written.
// The high watermark is the lowest durable offset over the maximal in-sync
// set: the granted one together with what has been asked for.
package replica
