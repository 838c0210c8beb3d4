package broker

import (
	"slices"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
	"chronik/internal/core/metadata"
)

// A controller that is lost may have carried out what it has not answered. The
// next one is asked the same. What nodes ask for themselves bears to be carried
// out twice. What operators and clients ask for does not: the second time it is
// refused for what the first has done, or done to what others have made since.
// So these requests say what there was when they came, and which topics are
// their own; then the next controller can tell. One that only resigns says
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
	case controller.UnregisterBroker:
		r.Known = kafka.NoBrokerEpoch
		if br := b.image.Load().Broker(r.Node); br != nil {
			r.Known = br.Epoch
		}
		return r
	case controller.ElectLeaders:
		r.Needed = b.needElection(r)
		return r
	case controller.AlterPartitionReassignments:
		r.Partitions = slices.Clone(r.Partitions)
		for i := range r.Partitions {
			t := b.image.Load().TopicByName(r.Partitions[i].Topic)
			if p := t.Partition(r.Partitions[i].Partition); p != nil {
				r.Partitions[i].Known = &controller.KnownReplicas{Topic: t.ID, Replicas: p.Replicas, Adding: p.Adding, Removing: p.Removing}
			}
		}
		return r
	case controller.AlterConfigs:
		r.Resources = slices.Clone(r.Resources)
		for i := range r.Resources {
			r.Resources[i].Known = b.image.Load().Config(r.Resources[i].Resource)
		}
		return r
	case controller.IncrementalAlterConfigs:
		r.Resources = slices.Clone(r.Resources)
		for i := range r.Resources {
			r.Resources[i].Known = b.image.Load().Config(r.Resources[i].Resource)
		}
		return r
	}
	return req
}

// needElection lists those of the partitions that need the election which is asked for.
func (b *Broker) needElection(r controller.ElectLeaders) (needed []controller.KnownLead) {
	look := func(t *metadata.Topic, i int32) {
		p := t.Partition(i)
		if p != nil && (p.Leader == kafka.NoNode || !r.Unclean && p.Leader != p.Replicas[0]) {
			needed = append(needed, controller.KnownLead{Topic: t.ID, Partition: i, Epoch: p.LeaderEpoch})
		}
	}
	image := b.image.Load()
	for _, tp := range r.Partitions {
		look(image.TopicByName(tp.Topic), tp.Partition)
	}
	if r.Partitions == nil {
		for _, t := range image.Topics() {
			for i := range t.Partitions {
				look(t, int32(i))
			}
		}
	}
	return needed
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
	case controller.UnregisterBroker:
		r.Again = again
		return r
	case controller.ElectLeaders:
		r.Again = again
		return r
	case controller.AlterPartitionReassignments:
		r.Again = again
		return r
	case controller.AlterConfigs:
		r.Again = again
		return r
	case controller.IncrementalAlterConfigs:
		r.Again = again
		return r
	}
	return q.request
}
