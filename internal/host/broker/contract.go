package broker

// What handlers may call. All of it may be called from any goroutine.
//
//	Node() kafka.NodeID
//	Image() *metadata.Image                       // immutable snapshot of the cluster
//	Settings() *config.Static                     // core/config: this node's static broker settings, for effective configs
//	Controller() kafka.NodeID                     // the active controller, NoNode while unknown
//	Partition(id kafka.TopicID, p int32) *partition.Partition // nil when this node holds no replica of it
//	Control(now, req controller.Request, timeout time.Duration, reply func(controller.Response, kafka.ErrorCode))
//	    decides req on the active controller, wherever that is. The reply comes when the records are committed and
//	    every live node has applied them (created means usable). Code is not None when no decision was reached:
//	    REQUEST_TIMED_OUT, NOT_CONTROLLER, ...; the response is nil then.
//	NewProducerID(now, reply func(kafka.ProducerID, kafka.ErrorCode))
//	At(t time.Time, fn func(now time.Time)) *deadline.Entry
//	Groups() *coordinator.Groups
//	MayServe(now) bool                            // false while this node must take itself for fenced (lease over)
//	Disk() (dir string, total, usable int64)
//	Rand(n) etc. is not offered: ids come from the controller.
