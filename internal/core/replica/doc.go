// Package replica is the replication of one partition: roles, in-sync set,
// high watermark and producer state, as a value that is stepped.
package replica
