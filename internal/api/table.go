package api

// table lists what is served, in the order of the keys. ApiVersions is
// computed from it: what does not stand here is not advertised.
var table []Handler

func init() {
	table = []Handler{
		produce,
		fetch,
		listOffsets,
		metadataHandler,
		offsetCommit,
		offsetFetch,
		findCoordinator,
		joinGroup,
		heartbeat,
		leaveGroup,
		syncGroup,
		describeGroups,
		listGroups,
		apiVersions,
		createTopics,
		deleteTopics,
		deleteRecords,
		initProducerID,
		offsetForLeaderEpoch,
		describeConfigs,
		alterConfigs,
		describeLogDirs,
		createPartitions,
		deleteGroups,
		electLeaders,
		incrementalAlterConfigs,
		alterPartitionReassignments,
		listPartitionReassignments,
		offsetDelete,
		describeQuorum,
		describeCluster,
		describeProducers,
		unregisterBroker,
		consumerGroupHeartbeat,
		consumerGroupDescribe,
		listConfigResources,
		describeTopicPartitions,
	}
	for i := range table {
		byKey[table[i].Key] = &table[i]
	}
}

const keyMax = 127

var byKey [keyMax + 1]*Handler

// lookup returns the handler of an API key, or nil.
func lookup(key int16) *Handler {
	if key < 0 || key > keyMax {
		return nil
	}
	return byKey[key]
}

// Handlers lists what is served, in the order of the keys.
func Handlers() []Handler { return table }
