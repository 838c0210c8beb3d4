package config

import (
	"maps"
	"slices"
	"strconv"

	"chronik/internal/core/metadata"
)

// DescribeTopic returns all configs of a topic, sorted by name.
func (r *Resolver) DescribeTopic(m *metadata.Image, topic string) []Entry {
	return r.DescribeTopicWith(m, m.Config(metadata.ConfigResource{Type: metadata.ResourceTopic, Name: topic}))
}

// DescribeTopicWith returns all configs of a topic for which these normalized
// values are set.
func (r *Resolver) DescribeTopicWith(m *metadata.Image, set map[string]string) []Entry {
	entries := make([]Entry, 0, len(topicTable))
	for _, name := range slices.Sorted(maps.Keys(topicKeys)) {
		k := topicKeys[name]
		if _, isSet := set[name]; k.hidden && !isSet {
			continue
		}
		entries = append(entries, entry(k.Key, r.topicLevels(m, r.node, k, set)))
	}
	return entries
}

// DescribeBroker returns all configs of the resolver's own node, sorted by
// name. Other nodes' static settings are not known here.
func (r *Resolver) DescribeBroker(m *metadata.Image) []Entry {
	names := maps.Clone(m.Config(clusterDefault))
	if names == nil {
		names = map[string]string{}
	}
	maps.Copy(names, m.Config(r.own()))
	maps.Copy(names, r.static)
	for name := range brokerKeys {
		names[name] = ""
	}
	entries := make([]Entry, 0, len(names))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		e := entry(brokerKeyOf(name), r.brokerLevels(m, r.node, name))
		if name == "node.id" || name == "broker.id" {
			id := strconv.Itoa(int(r.node))
			e.Value, e.Source, e.Synonyms = &id, SourceStatic, []Synonym{{name, &id, SourceStatic}}
		}
		entries = append(entries, e)
	}
	return entries
}

// DescribeClusterDefault returns what was set for all brokers at run time,
// sorted by name: the broker "" of DescribeConfigs.
func (r *Resolver) DescribeClusterDefault(m *metadata.Image) []Entry {
	set := m.Config(clusterDefault)
	entries := make([]Entry, 0, len(set))
	for _, name := range slices.Sorted(maps.Keys(set)) {
		value := set[name]
		entries = append(entries, entry(brokerKeyOf(name), []Synonym{{name, &value, SourceClusterDefault}}))
	}
	return entries
}

// DescribeGroup returns all configs of a group, known or not, sorted by name.
func (r *Resolver) DescribeGroup(m *metadata.Image, group string) []Entry {
	entries := make([]Entry, 0, len(groupTable))
	for _, name := range slices.Sorted(maps.Keys(groupKeys)) {
		entries = append(entries, entry(groupKeys[name].Key, r.groupLevels(m, group, groupKeys[name])))
	}
	return entries
}

// DescribeClientMetrics returns all configs of a client metrics subscription,
// known or not, sorted by name.
func (r *Resolver) DescribeClientMetrics(m *metadata.Image, name string) []Entry {
	set := m.Config(metadata.ConfigResource{Type: metadata.ResourceClientMetrics, Name: name})
	entries := make([]Entry, 0, len(clientMetricsTable))
	for _, k := range clientMetricsTable {
		var levels []Synonym
		if v, ok := set[k.Name]; ok {
			levels = append(levels, Synonym{k.Name, &v, SourceClientMetrics})
		}
		levels = append(levels, Synonym{k.Name, &k.Default, SourceDefault})
		entries = append(entries, entry(k.Key, levels))
	}
	return entries
}

// brokerKeyOf returns the key of a broker config. A value whose meaning is
// not known may be a secret.
func brokerKeyOf(name string) Key {
	if k := brokerKeys[name]; k != nil {
		return k.Key
	}
	return Key{Name: name, Type: String, Sensitive: true, NoDefault: true}
}

func entry(k Key, levels []Synonym) Entry {
	e := Entry{Name: k.Name, Source: SourceDefault, Type: k.Type, ReadOnly: k.ReadOnly, Sensitive: k.Sensitive, Doc: k.Doc, Synonyms: levels}
	if len(levels) > 0 {
		e.Value, e.Source = levels[0].Value, levels[0].Source
	} else if !k.NoDefault {
		e.Value = &k.Default
	}
	if k.Sensitive {
		e.Value = nil
		for i := range levels {
			levels[i].Value = nil
		}
	}
	return e
}
