// Package partition binds the replication core of one partition to its log,
// and parks requests until their offset.
package partition
