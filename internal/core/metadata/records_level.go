package metadata

// FeatureRecords is the feature whose level says which records the log may hold.
// It is raised when all brokers read more, and never lowered: from then on a node
// with earlier software can have no part in the cluster.
const FeatureRecords = "chronik.records"

// RecordsLevel is the level of records that this software reads. It rises with
// each new type, which an earlier one cannot read, and each new field, which it
// skips, and leaves out of its snapshots. Who writes them asks for the level first.
const RecordsLevel int16 = 1

// RecordsLevel is the level of records that the log may hold, all of which each
// node reads.
func (m *Image) RecordsLevel() int16 { return m.features[FeatureRecords] }
