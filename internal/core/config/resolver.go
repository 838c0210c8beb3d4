package config

import (
	"maps"
	"slices"
	"strconv"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
)

// Resolver finds effective values on one node. It is immutable.
type Resolver struct {
	node   kafka.NodeID
	static Static
	base   TopicConfig // of a topic without configs where no broker config was set at run time
}

// NewResolver returns the Resolver of a node with these static settings. A
// value that a known config does not accept is an error; a config that is not
// known is kept and shown.
func NewResolver(node kafka.NodeID, static Static) (*Resolver, error) {
	r := &Resolver{node: node, static: make(Static, len(static))}
	for _, name := range slices.Sorted(maps.Keys(static)) {
		value, err := Normalize(metadata.ResourceBroker, name, static[name])
		if err != nil {
			return nil, err
		}
		r.static[name] = value
	}
	r.base = r.resolveTopic(metadata.Empty(), nil)
	return r, nil
}

// Node is the node whose view this is.
func (r *Resolver) Node() kafka.NodeID { return r.node }

// Static is one static setting; ok says whether it was given.
func (r *Resolver) Static(name string) (value string, ok bool) {
	value, ok = r.static[name]
	return value, ok
}

// Topic returns the effective configuration of the topic.
func (r *Resolver) Topic(m *metadata.Image, topic string) TopicConfig {
	return r.TopicWith(m, m.Config(metadata.ConfigResource{Type: metadata.ResourceTopic, Name: topic}))
}

// TopicWith returns the effective configuration of a topic for which these
// normalized values are set.
func (r *Resolver) TopicWith(m *metadata.Image, set map[string]string) TopicConfig {
	if len(m.Config(r.own())) > 0 || len(m.Config(clusterDefault)) > 0 {
		return r.resolveTopic(m, set)
	}
	c := r.base
	applyTopic(&c, set)
	return c
}

func applyTopic(c *TopicConfig, set map[string]string) {
	if len(set) == 0 {
		return
	}
	for i := range topicTable {
		if v, ok := set[topicTable[i].Name]; ok {
			topicTable[i].set(c, v)
		}
	}
}

func (r *Resolver) resolveTopic(m *metadata.Image, set map[string]string) TopicConfig {
	var c TopicConfig
	for i := range topicTable {
		k := &topicTable[i]
		if v := r.topicLevels(m, r.node, k, set); len(v) > 0 {
			k.set(&c, *v[0].Value)
		} else if !k.NoDefault {
			k.set(&c, k.Default)
		}
	}
	return c
}

var clusterDefault = metadata.ConfigResource{Type: metadata.ResourceBroker}

func (r *Resolver) own() metadata.ConfigResource { return brokerResource(r.node) }

func brokerResource(node kafka.NodeID) metadata.ConfigResource {
	return metadata.ConfigResource{Type: metadata.ResourceBroker, Name: strconv.Itoa(int(node))}
}

// brokerLevels lists the levels that have a value for a broker config, the
// effective one first.
func (r *Resolver) brokerLevels(m *metadata.Image, node kafka.NodeID, name string) []Synonym {
	var levels []Synonym
	if v, ok := m.Config(brokerResource(node))[name]; ok {
		levels = append(levels, Synonym{name, &v, SourceBroker})
	}
	if v, ok := m.Config(clusterDefault)[name]; ok {
		levels = append(levels, Synonym{name, &v, SourceClusterDefault})
	}
	if v, ok := r.static[name]; ok && node == r.node {
		levels = append(levels, Synonym{name, &v, SourceStatic})
	}
	if k := brokerKeys[name]; k != nil && !k.NoDefault {
		levels = append(levels, Synonym{name, &k.Default, SourceDefault})
	}
	return levels
}

// topicLevels lists the levels that have a value for a topic config, the
// effective one first, in the topic config's unit.
func (r *Resolver) topicLevels(m *metadata.Image, node kafka.NodeID, k *topicKey, set map[string]string) []Synonym {
	var levels []Synonym
	if v, ok := set[k.Name]; ok {
		levels = append(levels, Synonym{k.Name, &v, SourceTopic})
	}
	for i, b := range k.brokers {
		for _, level := range r.brokerLevels(m, node, b.name) {
			if i > 0 && level.Source == SourceDefault {
				continue // the topic config's own default says the same
			}
			if b.unit != 1 {
				v := inFinerUnit(*level.Value, b.unit)
				level.Value = &v
			}
			levels = append(levels, level)
		}
	}
	return levels
}

func inFinerUnit(value string, unit int64) string {
	if v := parseInt(value); v >= 0 {
		return strconv.FormatInt(v*unit, 10)
	}
	return value
}

// Broker returns the effective value of a broker config on this node; ok says
// whether there is one.
func (r *Resolver) Broker(m *metadata.Image, name string) (value string, ok bool) {
	levels := r.brokerLevels(m, r.node, name)
	if len(levels) == 0 {
		return "", false
	}
	return *levels[0].Value, true
}

// BrokerInt is the effective value of a broker config of a whole number; 0 if
// it has none.
func (r *Resolver) BrokerInt(m *metadata.Image, name string) int64 {
	v, _ := r.Broker(m, name)
	return parseInt(v)
}

// BrokerBool is the effective value of a Boolean broker config.
func (r *Resolver) BrokerBool(m *metadata.Image, name string) bool {
	v, _ := r.Broker(m, name)
	return v == "true"
}

// Group returns the effective value of a group config; "" if there is none.
func (r *Resolver) Group(m *metadata.Image, group, name string) string {
	k := groupKeys[name]
	if k == nil {
		return ""
	}
	return *r.groupLevels(m, group, k)[0].Value
}

// GroupInt is the effective value of a group config of a whole number.
func (r *Resolver) GroupInt(m *metadata.Image, group, name string) int64 {
	return parseInt(r.Group(m, group, name))
}

func (r *Resolver) groupLevels(m *metadata.Image, group string, k *groupKey) []Synonym {
	var levels []Synonym
	if v, ok := m.Config(metadata.ConfigResource{Type: metadata.ResourceGroup, Name: group})[k.Name]; ok {
		levels = append(levels, Synonym{k.Name, &v, SourceGroup})
	}
	if k.Synonym != "" {
		return append(levels, r.brokerLevels(m, r.node, k.Synonym)...)
	}
	return append(levels, Synonym{k.Name, &k.Default, SourceDefault})
}
