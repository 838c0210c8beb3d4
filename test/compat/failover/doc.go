// Package failover has unmodified clients produce to and consume from three
// nodes which are killed, stopped and continued under them, and looks at what
// became of every record.
//
// It needs the programs of ../clients/flow with what they run on; ../run sets
// it up:
//
//	CHRONIK_BINARY  the chronik to run
//	FLOW_GO         clients/flow/golang, built
//	FLOW_PYTHON     a Python with the clients; none: no Python clients
//	FLOW_NODE       a NODE_PATH with kafkajs; none: no kafkajs
//	FLOW_KAFKA      the script kafka; none: no Java
package failover
