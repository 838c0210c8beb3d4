package api

import (
	"sync"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
	"chronik/internal/core/group"
	"chronik/internal/core/metadata"
	"chronik/internal/host/coordinator"
)

// Operations on a group (KIP-430) for those who may do all.
const operationsOfGroup int32 = 1<<3 | 1<<6 | 1<<8 | 1<<10 | 1<<11

// askGroup has the coordinator of the group decide a request that wants an R.
// A group that this node does not coordinate is refused with NOT_COORDINATOR.
func askGroup[R group.Response](s *Server, now time.Time, req group.Request, done func(R)) {
	s.Broker.Groups().Handle(now, req, func(resp group.Response) {
		r, ok := resp.(R)
		if !ok {
			r = req.Refuse(kafka.ErrUnknownServerError).(R)
		}
		done(r)
	})
}

// askGroups asks for several groups, each on its own, and hands over the
// answers in the order of the requests when the last of them is in.
func askGroups[R group.Response, Q group.Request](s *Server, now time.Time, reqs []Q, done func([]R)) {
	answers := make([]R, len(reqs))
	if len(reqs) == 0 {
		done(answers)
		return
	}
	var mu sync.Mutex
	pending := len(reqs)
	for i := range reqs {
		askGroup(s, now, reqs[i], func(r R) {
			mu.Lock()
			answers[i] = r
			pending--
			last := pending == 0
			mu.Unlock()
			if last {
				done(answers)
			}
		})
	}
}

// str is the string of a request that may be null.
func str(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// groupsTopic has the topic made whose leaders coordinate groups, if there is
// none, and calls done when that was tried.
func (s *Server) groupsTopic(now time.Time, keys []string, done func()) {
	if s.Broker.Image().TopicByName(kafka.TopicConsumerOffsets) != nil || len(keys) == 0 {
		done()
		return
	}
	control(s, now, controller.AutoCreateTopics{Names: []string{kafka.TopicConsumerOffsets}}, 0,
		func(controller.CreateTopicsResult, kafka.ErrorCode) { done() })
}

// groupCoordinator is the broker that coordinates a group, or nil and why.
func groupCoordinator(image *metadata.Image, topic *metadata.Topic, key string) (*metadata.Broker, kafka.ErrorCode) {
	if topic == nil || len(topic.Partitions) == 0 {
		return nil, kafka.ErrCoordinatorNotAvailable
	}
	p := topic.Partitions[coordinator.PartitionOf(key, int32(len(topic.Partitions)))]
	if p.Leader == kafka.NoNode || !live(image, p.Leader) {
		return nil, kafka.ErrCoordinatorNotAvailable
	}
	return image.Broker(p.Leader), kafka.None
}
