package broker

import (
	"time"

	"chronik/internal/core/metadata"
)

// coordinated is the group coordinators of the partitions of the internal
// topic that this node leads.
type coordinated struct{}

func (c *coordinated) init(b *Broker)                                {}
func (c *coordinated) imageChanged(now time.Time, d *metadata.Delta) {}
func (c *coordinated) leaseRenewed(now time.Time)                    {}
func (c *coordinated) close(now time.Time)                           {}
