package metadata

import (
	"encoding/binary"
	"errors"
	"fmt"

	"chronik/internal/base/kafka"
)

// ErrCorrupt is the kind of error for bytes that no version of this software wrote.
var ErrCorrupt = errors.New("metadata is corrupt")

// ErrNewer is the kind of error for records that only a newer version of this
// software understands.
var ErrNewer = errors.New("metadata was written by a newer version of chronik; upgrade this node")

// The layout is drawn in docs/formats/metadata-records.md.
const (
	batchVersion    = 1
	snapshotVersion = 1
	recordVersion   = 1 // the highest version of any record type that this software reads
)

var snapshotMagic = [4]byte{'C', 'H', 'M', 'S'}

type recordType uint8

const (
	typeCluster      recordType = 1
	typeBroker       recordType = 2
	typeRemoveBroker recordType = 3
	typeTopic        recordType = 4
	typeRemoveTopic  recordType = 5
	typePartition    recordType = 6
	typeConfig       recordType = 7
	typeProducerIDs  recordType = 8
	typeFeature      recordType = 9
	typeEvent        recordType = 10
)

func (*ClusterRecord) recordType() recordType      { return typeCluster }
func (*BrokerRecord) recordType() recordType       { return typeBroker }
func (*RemoveBrokerRecord) recordType() recordType { return typeRemoveBroker }
func (*TopicRecord) recordType() recordType        { return typeTopic }
func (*RemoveTopicRecord) recordType() recordType  { return typeRemoveTopic }
func (*PartitionRecord) recordType() recordType    { return typePartition }
func (*ConfigRecord) recordType() recordType       { return typeConfig }
func (*ProducerIDsRecord) recordType() recordType  { return typeProducerIDs }
func (*FeatureRecord) recordType() recordType      { return typeFeature }
func (*EventRecord) recordType() recordType        { return typeEvent }

// EncodeBatch appends the records to dst as one atomic batch.
func EncodeBatch(dst []byte, records []Record) []byte {
	dst = append(dst, batchVersion)
	dst = binary.AppendUvarint(dst, uint64(len(records)))
	var scratch []byte
	for _, r := range records {
		scratch = r.appendFields(scratch[:0])
		dst = append(dst, byte(r.recordType()), recordVersion)
		dst = binary.AppendUvarint(dst, uint64(len(scratch)))
		dst = append(dst, scratch...)
	}
	return dst
}

// DecodeBatch reads what EncodeBatch wrote. The records do not alias b. Errors
// are ErrCorrupt and ErrNewer.
func DecodeBatch(b []byte) ([]Record, error) {
	records, rest, err := decodeBatch(b)
	if err == nil && len(rest) != 0 {
		err = fmt.Errorf("%w: %d bytes after the last record", ErrCorrupt, len(rest))
	}
	if err != nil {
		return nil, fmt.Errorf("decode metadata batch: %w", err)
	}
	return records, nil
}

func decodeBatch(b []byte) (records []Record, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, fmt.Errorf("%w: no batch version", ErrCorrupt)
	}
	if b[0] != batchVersion {
		if b[0] > batchVersion {
			return nil, nil, fmt.Errorf("%w: batch version %d", ErrNewer, b[0])
		}
		return nil, nil, fmt.Errorf("%w: batch version %d", ErrCorrupt, b[0])
	}
	count, b, ok := cutUvarint(b[1:])
	if !ok || count > uint64(len(b))/3 {
		return nil, nil, fmt.Errorf("%w: record count does not fit", ErrCorrupt)
	}
	if count > 0 {
		records = make([]Record, 0, count)
	}
	for i := range count {
		var r Record
		if r, b, err = decodeRecord(b); err != nil {
			return nil, nil, fmt.Errorf("record %d: %w", i, err)
		}
		records = append(records, r)
	}
	return records, b, nil
}

func decodeRecord(b []byte) (Record, []byte, error) {
	if len(b) < 3 {
		return nil, nil, fmt.Errorf("%w: cut off", ErrCorrupt)
	}
	kind, version := recordType(b[0]), b[1]
	size, b, ok := cutUvarint(b[2:])
	if !ok || size > uint64(len(b)) {
		return nil, nil, fmt.Errorf("%w: length of type %d does not fit", ErrCorrupt, kind)
	}
	if version > recordVersion {
		return nil, nil, fmt.Errorf("%w: type %d version %d", ErrNewer, kind, version)
	}
	decode, ok := decoders[kind]
	if !ok {
		return nil, nil, fmt.Errorf("%w: record type %d", ErrNewer, kind)
	}
	f := fields{b: b[:size]}
	r := decode(&f)
	if f.bad {
		return nil, nil, fmt.Errorf("%w: fields of type %d", ErrCorrupt, kind)
	}
	return r, b[size:], nil
}

var decoders = map[recordType]func(*fields) Record{
	typeCluster: func(f *fields) Record {
		r := &ClusterRecord{}
		for f.next() {
			if f.number == 1 {
				r.ID = f.string()
			}
		}
		return r
	},
	typeBroker: decodeBroker,
	typeRemoveBroker: func(f *fields) Record {
		r := &RemoveBrokerRecord{}
		for f.next() {
			if f.number == 1 {
				r.Node = kafka.NodeID(f.int32())
			}
		}
		return r
	},
	typeTopic: func(f *fields) Record {
		r := &TopicRecord{}
		for f.next() {
			switch f.number {
			case 1:
				f.id((*[16]byte)(&r.ID))
			case 2:
				r.Name = f.string()
			}
		}
		return r
	},
	typeRemoveTopic: func(f *fields) Record {
		r := &RemoveTopicRecord{}
		for f.next() {
			if f.number == 1 {
				f.id((*[16]byte)(&r.ID))
			}
		}
		return r
	},
	typePartition: decodePartition,
	typeEvent:     decodeEvent,
	typeConfig: func(f *fields) Record {
		r := &ConfigRecord{}
		for f.next() {
			switch f.number {
			case 1:
				r.Resource.Type = ResourceType(f.ranged(-128, 127))
			case 2:
				r.Resource.Name = f.string()
			case 3:
				r.Key = f.string()
			case 4:
				r.Value = f.string()
			case 5:
				r.Remove = f.bool()
			}
		}
		return r
	},
	typeProducerIDs: func(f *fields) Record {
		r := &ProducerIDsRecord{}
		for f.next() {
			if f.number == 1 {
				r.Next = kafka.ProducerID(f.int())
			}
		}
		return r
	},
	typeFeature: func(f *fields) Record {
		r := &FeatureRecord{}
		for f.next() {
			switch f.number {
			case 1:
				r.Name = f.string()
			case 2:
				r.Level = int16(f.ranged(-1<<15, 1<<15-1))
			}
		}
		return r
	},
}

func decodeBroker(f *fields) Record {
	s := &Broker{}
	for f.next() {
		switch f.number {
		case 1:
			s.ID = kafka.NodeID(f.int32())
		case 2:
			s.Epoch = kafka.BrokerEpoch(f.int())
		case 3:
			f.id(&s.Incarnation)
		case 4:
			f.id(&s.Directory)
		case 5:
			s.Host = f.string()
		case 6:
			s.Port = f.int32()
		case 7:
			s.PeerAddress = f.string()
		case 8:
			s.Rack = f.string()
		case 9:
			s.Version = f.string()
		case 10:
			s.Fenced = f.bool()
		case 11:
			s.ShuttingDown = f.bool()
		case 12:
			s.MinInSync = f.int32()
		case 13:
			s.RecordsLevel = int16(f.ranged(0, 1<<15-1))
		}
	}
	return &BrokerRecord{s}
}

func decodePartition(f *fields) Record {
	s := &Partition{LastLeader: kafka.NoNode, Leader: kafka.NoNode}
	r := &PartitionRecord{State: s}
	for f.next() {
		switch f.number {
		case 1:
			f.id((*[16]byte)(&r.Topic))
		case 2:
			r.Partition = f.int32()
		case 3:
			s.Replicas = f.nodes()
		case 4:
			s.InSync = f.nodes()
		case 5:
			s.EligibleLeader = f.nodes()
		case 6:
			s.LastLeader = kafka.NodeID(f.int32())
		case 7:
			s.Adding = f.nodes()
		case 8:
			s.Removing = f.nodes()
		case 9:
			s.Leader = kafka.NodeID(f.int32())
		case 10:
			s.LeaderEpoch = kafka.LeaderEpoch(f.int32())
		case 11:
			s.PartitionEpoch = kafka.PartitionEpoch(f.int32())
		case 12:
			s.Recovering = f.bool()
		case 13:
			s.Unfit = append(s.Unfit, f.unfit())
		}
	}
	return r
}

func (r *ClusterRecord) appendFields(dst []byte) []byte { return appendString(dst, 1, r.ID) }

func (r *BrokerRecord) appendFields(dst []byte) []byte {
	s := r.State
	dst = appendInt(dst, 1, int64(s.ID))
	dst = appendInt(dst, 2, int64(s.Epoch))
	dst = appendID(dst, 3, s.Incarnation)
	dst = appendID(dst, 4, s.Directory)
	dst = appendString(dst, 5, s.Host)
	dst = appendInt(dst, 6, int64(s.Port))
	dst = appendString(dst, 7, s.PeerAddress)
	dst = appendString(dst, 8, s.Rack)
	dst = appendString(dst, 9, s.Version)
	dst = appendBool(dst, 10, s.Fenced)
	dst = appendBool(dst, 11, s.ShuttingDown)
	dst = appendInt(dst, 12, int64(s.MinInSync))
	return appendInt(dst, 13, int64(s.RecordsLevel))
}

func (r *RemoveBrokerRecord) appendFields(dst []byte) []byte {
	return appendInt(dst, 1, int64(r.Node))
}

func (r *TopicRecord) appendFields(dst []byte) []byte {
	return appendString(appendID(dst, 1, r.ID), 2, r.Name)
}

func (r *RemoveTopicRecord) appendFields(dst []byte) []byte { return appendID(dst, 1, r.ID) }

func (r *PartitionRecord) appendFields(dst []byte) []byte {
	s := r.State
	dst = appendID(dst, 1, r.Topic)
	dst = appendInt(dst, 2, int64(r.Partition))
	dst = appendNodes(dst, 3, s.Replicas)
	dst = appendNodes(dst, 4, s.InSync)
	dst = appendNodes(dst, 5, s.EligibleLeader)
	if s.LastLeader != kafka.NoNode {
		dst = appendPresentInt(dst, 6, int64(s.LastLeader))
	}
	dst = appendNodes(dst, 7, s.Adding)
	dst = appendNodes(dst, 8, s.Removing)
	if s.Leader != kafka.NoNode {
		dst = appendPresentInt(dst, 9, int64(s.Leader))
	}
	dst = appendInt(dst, 10, int64(s.LeaderEpoch))
	dst = appendInt(dst, 11, int64(s.PartitionEpoch))
	dst = appendBool(dst, 12, s.Recovering)
	for _, u := range s.Unfit {
		dst = appendUnfit(dst, 13, u)
	}
	return dst
}

func (r *ConfigRecord) appendFields(dst []byte) []byte {
	dst = appendInt(dst, 1, int64(r.Resource.Type))
	dst = appendString(dst, 2, r.Resource.Name)
	dst = appendString(dst, 3, r.Key)
	dst = appendString(dst, 4, r.Value)
	return appendBool(dst, 5, r.Remove)
}

func (r *ProducerIDsRecord) appendFields(dst []byte) []byte { return appendInt(dst, 1, int64(r.Next)) }

func (r *FeatureRecord) appendFields(dst []byte) []byte {
	return appendInt(appendString(dst, 1, r.Name), 2, int64(r.Level))
}
