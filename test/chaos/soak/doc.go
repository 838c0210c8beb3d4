// Package soak harms a cluster of real processes for minutes on end, with a mix
// of faults drawn from a seed, while unmodified clients work with it, and checks
// what the clients were promised: `make chaos`.
//
// About a quarter of the time there is peace. Nodes live in network namespaces
// and on file systems of their own where that is permitted; otherwise the
// faults that need them are left out, and the run says so.
package soak
