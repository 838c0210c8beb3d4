package partition

// What others may call. All of it may be called from any goroutine; replies
// are called exactly once, outside the lock, maybe before the call returns and
// maybe on another goroutine.
//
//	Open(fs vfs.FS, dir string, opts Options, env Env, now time.Time) (*Partition, Recovery, error)
//	    Options{Node kafka.NodeID; BrokerEpoch kafka.BrokerEpoch; Topic string; TopicID kafka.TopicID; Partition int32; Config TopicConfig; Replica replica.Options}
//	Create is Open of a directory that does not exist.
//
//	(p *Partition) Produce(now, ProduceRequest, done func(ProduceResult))
//	(p *Partition) Read(now, ReadRequest) ReadResult
//	(p *Partition) Watch(w *Waiter, offset kafka.Offset, isolation Isolation, fn func(now)) bool
//	    parks w until there is something to read at offset, or the partition changes hands; fn is called
//	    at most once. False: there already is, nothing was parked. (p *Partition) Unwatch(w *Waiter) takes it back.
//	(p *Partition) ListOffsets(now, ListOffsetsRequest) ListOffsetsResult
//	(p *Partition) EpochEnd(current, epoch kafka.LeaderEpoch) EpochEndResult
//	(p *Partition) DeleteRecords(now, offset kafka.Offset, timeout time.Duration, done func(DeleteRecordsResult))
//	(p *Partition) BeginVerification(now, pid, epoch, firstSequence, tv2 bool) (guard uint64, needed bool)
//	(p *Partition) WriteTxnMarker(now, replica.Marker, done func(kafka.ErrorCode))
//	(p *Partition) Producers() []replica.ProducerStatus
//	(p *Partition) Status() Status; Size() int64; HighWatermark() kafka.Offset; Leads() (kafka.LeaderEpoch, bool)
//	(p *Partition) Topic() string; TopicID() kafka.TopicID; Number() int32
//	(p *Partition) Configure(now, TopicConfig); Assign(now, replica.Assignment); SetBrokerEpoch(now, kafka.BrokerEpoch)
//	(p *Partition) SetFenced(now, bool)   // lease over: acknowledges nothing, answers nothing committed
//	(p *Partition) HandleMessage(now, from kafka.NodeID, msg *replica.Message)
//	(p *Partition) HandleInSyncResult(now, replica.InSyncResult)
//	(p *Partition) Tick(now) (next time.Time)   // called by deadlines it sets itself through Env.At; others need not
//	(p *Partition) RunSync(now)
//	(p *Partition) ApplyRetention(now)
//	(p *Partition) Close(now) error
