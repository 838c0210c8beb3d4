package main

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func initProducer(id *string, timeout int32) *kmsg.InitProducerIDRequest {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = id, timeout
	req.ProducerID, req.ProducerEpoch = -1, -1
	return req
}

func (c *Conversation) addPartitions(id string, who *kmsg.InitProducerIDResponse, topic string, partitions ...int32) *kmsg.AddPartitionsToTxnRequest {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = id, who.ProducerID, who.ProducerEpoch
	req.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: topic, Partitions: partitions}}
	txn := kmsg.NewAddPartitionsToTxnRequestTransaction()
	txn.TransactionalID, txn.ProducerID, txn.ProducerEpoch = id, who.ProducerID, who.ProducerEpoch
	txn.Topics = []kmsg.AddPartitionsToTxnRequestTransactionTopic{{Topic: topic, Partitions: partitions}}
	req.Transactions = append(req.Transactions, txn)
	return req
}

func endTxn(id string, who *kmsg.InitProducerIDResponse, commit bool) *kmsg.EndTxnRequest {
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = id, who.ProducerID, who.ProducerEpoch, commit
	return req
}

// transaction is one transaction with the client's part of version 1, as seen
// by whoever asks at each step.
func transaction(c *Conversation) {
	topic, id := c.Topic("t", 2), c.Name("x")
	who := c.Ask("init", initProducer(&id, 60000)).(*kmsg.InitProducerIDResponse)
	if who.ErrorCode != 0 {
		return
	}
	c.Ask("end before it began", endTxn(id, who, true))
	add := c.addPartitions(id, who, topic, 0)
	add.SetVersion(min(3, c.side.common[24].max))
	if c.of.Key == 24 {
		c.Ask("added", add)
	} else {
		c.plain(add)
	}
	b := batch{attributes: 16, producer: &producer{who.ProducerID, who.ProducerEpoch, 0}, records: someRecords()}
	req := c.produceAt(min(9, c.side.common[0].max), topic, 0, b.encode())
	req.TransactionID = &id
	c.AskVersion("produced", req.GetVersion(), req)
	c.Ask("described", describeTransactions(id))
	uncommitted := fetchNames(0, topic)
	uncommitted.IsolationLevel = 1
	c.AskVersion("read committed", 11, uncommitted)
	c.AskVersion("read uncommitted", 11, fetchNames(0, topic))
	end := c.Ask("committed", endTxn(id, who, true)).(*kmsg.EndTxnResponse)
	if end.ErrorCode != 0 {
		return
	}
	c.Until("marker", func() bool {
		latest := listOffsets(topic, 0, -1)
		latest.IsolationLevel = 1
		latest.SetVersion(min(7, c.side.common[2].max))
		return c.plain(latest).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0].Offset == 4
	})
	c.AskVersion("read after it", 11, uncommitted)
}

func describeTransactions(ids ...string) *kmsg.DescribeTransactionsRequest {
	req := kmsg.NewPtrDescribeTransactionsRequest()
	req.TransactionalIDs = ids
	return req
}

func init() {
	for _, key := range []int16{24, 26} {
		add(Case{Key: key, Name: "a transaction", Run: transaction, Ignore: []string{"*StartTimestamp"}})
	}
	add(
		Case{Key: 22, Name: "plain", Run: func(c *Conversation) {
			c.Ask("first", initProducer(nil, 60000))
			c.Ask("second", initProducer(nil, 60000))
			c.Ask("timeout 0", initProducer(nil, 0))
			c.Ask("timeout -1", initProducer(nil, -1))
			req := initProducer(nil, 60000)
			req.ProducerID, req.ProducerEpoch = 5, 3
			c.Ask("with an id", req)
			req.ProducerEpoch = -1
			c.Ask("id without epoch", req)
			req.ProducerID, req.ProducerEpoch = -1, 3
			c.Ask("epoch without id", req)
			c.Ask("empty transactional id", initProducer(p(""), 60000))
		}},
		Case{Key: 22, Name: "transactional", Run: func(c *Conversation) {
			c.Do(describeTransactions()) // needs transactions
			id := c.Name("x")
			first := c.Ask("first", initProducer(&id, 60000)).(*kmsg.InitProducerIDResponse)
			c.Ask("second", initProducer(&id, 60000))
			for _, ms := range []int32{0, -1, 900000, 900001} {
				c.Ask(fmt.Sprint("timeout ", ms), initProducer(p(c.Name("y")), ms))
			}
			req := initProducer(&id, 60000)
			req.ProducerID, req.ProducerEpoch = first.ProducerID, first.ProducerEpoch
			c.Ask("with the first epoch", req)
			req.ProducerID = first.ProducerID + 100000
			c.Ask("with another id", req)
		}},
		Case{Key: 24, Name: "refusals", Run: func(c *Conversation) {
			topic, id := c.Topic("t", 1), c.Name("x")
			nobody := &kmsg.InitProducerIDResponse{ProducerID: 999999}
			c.Ask("unknown id", c.addPartitions(id, nobody, topic, 0))
			who := c.Do(initProducer(&id, 60000)).(*kmsg.InitProducerIDResponse)
			c.Ask("unknown partition", c.addPartitions(id, who, topic, 0, 7))
			c.Ask("another producer", c.addPartitions(id, nobody, topic, 0))
			who.ProducerEpoch--
			c.Ask("old epoch", c.addPartitions(id, who, topic, 0))
		}},
		Case{Key: 26, Name: "refusals", Run: func(c *Conversation) {
			id := c.Name("x")
			nobody := &kmsg.InitProducerIDResponse{ProducerID: 999999}
			c.Ask("unknown id", endTxn(id, nobody, true))
			who := c.Do(initProducer(&id, 60000)).(*kmsg.InitProducerIDResponse)
			c.Ask("commit of nothing", endTxn(id, who, true))
			c.Ask("abort of nothing", endTxn(id, who, false))
			c.Ask("another producer", endTxn(id, nobody, true))
		}},
		Case{Key: 65, Name: "unknown", Run: func(c *Conversation) {
			c.Ask("unknown", describeTransactions(c.Name("x")))
			c.Ask("empty", describeTransactions(""))
			c.Ask("none", describeTransactions())
		}},
	)
}
