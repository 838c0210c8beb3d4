package partition

import (
	"strconv"
	"strings"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/config"
	"chronik/internal/core/replica"
)

// coreConfig is what the core needs of the topic's configs.
func (p *Partition) coreConfig(s *settings) replica.Config {
	c := replica.Config{MinInSync: s.config.MinInSync, Relaxed: s.relaxed, ProducerExpiration: s.config.ProducerExpiration}
	c.ThrottledAll = config.Throttles(s.config.LeaderThrottled, p.opts.Partition, p.opts.Node) || s.config.FollowerThrottled == "*"
	if !c.ThrottledAll {
		for element := range strings.SplitSeq(s.config.FollowerThrottled, ",") {
			_, node, _ := strings.Cut(element, ":")
			id, err := strconv.ParseInt(strings.TrimSpace(node), 10, 32)
			if err == nil && config.Throttles(element, p.opts.Partition, kafka.NodeID(id)) {
				c.Throttled = append(c.Throttled, kafka.NodeID(id))
			}
		}
	}
	return c
}

// limits says which limits hold for what a follower is sent to catch up.
func (p *Partition) limits(to kafka.NodeID) Limits {
	c := &p.settings.Load().config
	return Limits{
		Leader:   config.Throttles(c.LeaderThrottled, p.opts.Partition, p.opts.Node),
		Follower: config.Throttles(c.FollowerThrottled, p.opts.Partition, to), To: to,
	}
}

// feedLater goes on with a piece that had to wait, if it is still wanted.
func (p *Partition) feedLater(now time.Time, m *replica.Message) {
	fx := p.enter()
	if p.usable() == nil && p.core.Streams(m) {
		fx.reads = append(fx.reads, *m)
	}
	p.leave(now, fx)
}
