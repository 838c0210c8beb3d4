package partition

// Partition is one node's replica of one partition. Any goroutine may use it.
type Partition struct{}
