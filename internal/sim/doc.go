// Package sim runs a whole cluster from one seed, in one goroutine and in
// virtual time, under faults, and checks what it promises.
//
// Real are the API, the hosts, the cores and the logs of every node; replaced
// is what package edge does: sockets, timers, goroutines, disks. A world is a
// queue of events in the order of their virtual time. All chance comes from the
// seed, so that a seed gives the same run each time; the hash over all events
// proves it.
//
// A run has three parts: load with faults, drawn as a swarm (each seed leaves
// some kinds out); healing, after which everything must come to rest within a
// budget of time; and a last reading of everything. Each promise has its
// checker, in a file check_*.go of its own.
package sim
