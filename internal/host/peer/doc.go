// Package peer is the bytes of messages between replicas on different nodes.
package peer
