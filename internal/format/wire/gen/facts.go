package main

// removed are the keys that Kafka took out in 4.0.
var removed = map[int]bool{4: true, 5: true, 6: true, 7: true}

// tagSince has the first version that knows a tag, where that is not the
// first flexible one. The protocol's older versions refuse such a tag.
var tagSince = map[string]int{
	"FetchRequest.ReplicaState":                                 15,
	"FetchRequest.Topics.Partitions.ReplicaDirectoryID":         17,
	"FetchRequest.Topics.Partitions.HighWatermark":              18,
	"FetchSnapshotRequest.Topics.Partitions.ReplicaDirectoryID": 1,
	"BrokerHeartbeatRequest.OfflineLogDirs":                     1,
	"BrokerHeartbeatRequest.CordonedLogDirs":                    2,
}

// nullSince has the first version in which a field may be null, where the
// protocol differs from what the type in kmsg says.
var nullSince = map[string]int{}
