package broker

import (
	"slices"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
)

// A controller that is lost may have carried out what it has not answered. The
// next one is asked the same, and most requests bear to be carried out twice.
// Those that create and delete topics and add partitions do not: the second
// time they are refused for what the first has done, or do it to what others
// have made since. So they say what there was when they came, and which topics
// are their own; then the next controller can tell. One that only resigns says
// what it has done: then nothing is asked for again, but whether all live nodes
// know it.

// knowAgain has a request say what it needs to be known again.
func (b *Broker) knowAgain(req controller.Request) controller.Request {
	switch r := req.(type) {
	case controller.CreateTopics:
		if r.ValidateOnly {
			return r
		}
		r.Topics = slices.Clone(r.Topics)
		for i := range r.Topics {
			r.Topics[i].ID.Drawn = controller.DrawID(b.env.Rand)
		}
		return r
	case controller.DeleteTopics:
		r.Known = make([]kafka.TopicID, len(r.Topics))
		for i, ref := range r.Topics {
			if t := b.image.Load().TopicByName(ref.Name); t != nil {
				r.Known[i] = t.ID
			} else if b.image.Load().Topic(ref.ID) != nil {
				r.Known[i] = ref.ID
			}
		}
		return r
	case controller.CreatePartitions:
		r.Topics = slices.Clone(r.Topics)
		for i := range r.Topics {
			if t := b.image.Load().TopicByName(r.Topics[i].Name); t != nil {
				r.Topics[i].Had = int32(len(t.Partitions))
			}
		}
		return r
	}
	return req
}

// sending is the question's request as it is to be sent now.
func (q *ownQuestion) sending() controller.Request {
	q.sendings++
	again := q.sendings > 1
	if q.done != nil {
		return controller.DeleteTopics{} // of none: answered when all know what was committed before
	}
	switch r := q.request.(type) {
	case controller.CreateTopics:
		if !again {
			return r
		}
		r.Topics = slices.Clone(r.Topics)
		for i := range r.Topics {
			r.Topics[i].ID.Sending = q.sendings - 1
		}
		return r
	case controller.DeleteTopics:
		r.Again = again
		return r
	case controller.CreatePartitions:
		r.Again = again
		return r
	}
	return q.request
}
