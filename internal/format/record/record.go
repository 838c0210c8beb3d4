// Package record reads, verifies, stamps, builds and rewrites record batches.
package record
