package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"chronik/internal/core/metadata"
)

// The tables by name. They are made once and never changed.
var (
	topicKeys  = indexTopics()
	brokerKeys = indexBrokers()
	groupKeys  = indexGroups(groupTable)
	clientKeys = indexGroups(clientMetricsTable)
	sortedKeys = map[metadata.ResourceType][]Key{
		metadata.ResourceTopic:         sortKeys(topicKeys, func(k *topicKey) Key { return k.Key }, func(k *topicKey) bool { return k.hidden }),
		metadata.ResourceBroker:        sortKeys(brokerKeys, func(k *brokerKey) Key { return k.Key }, nil),
		metadata.ResourceGroup:         sortKeys(groupKeys, func(k *groupKey) Key { return k.Key }, nil),
		metadata.ResourceClientMetrics: sortKeys(clientKeys, func(k *groupKey) Key { return k.Key }, nil),
	}
)

func indexTopics() map[string]*topicKey {
	m := make(map[string]*topicKey, len(topicTable))
	for i := range topicTable {
		k := &topicTable[i]
		if len(k.brokers) > 0 {
			k.Synonym = k.brokers[0].name
		}
		m[k.Name] = k
	}
	return m
}

func indexBrokers() map[string]*brokerKey {
	table := withTopicDefaults(slices.Clone(ownBrokerTable))
	m := make(map[string]*brokerKey, len(table))
	for i := range table {
		m[table[i].Name] = &table[i]
	}
	return m
}

func indexGroups(table []groupKey) map[string]*groupKey {
	m := make(map[string]*groupKey, len(table))
	for i := range table {
		m[table[i].Name] = &table[i]
	}
	return m
}

func sortKeys[K any](m map[string]K, key func(K) Key, hidden func(K) bool) []Key {
	var keys []Key
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if hidden == nil || !hidden(m[name]) {
			keys = append(keys, key(m[name]))
		}
	}
	slices.SortFunc(keys, func(a, b Key) int { return cmp.Compare(a.Name, b.Name) })
	return keys
}

// Keys returns all configs of a kind of resource, sorted by name.
func Keys(resource metadata.ResourceType) []Key { return slices.Clone(sortedKeys[resource]) }

// Lookup returns one config of a kind of resource.
func Lookup(resource metadata.ResourceType, name string) (Key, bool) {
	key, _, ok := lookup(resource, name)
	return key, ok
}

func lookup(resource metadata.ResourceType, name string) (Key, rule, bool) {
	switch resource {
	case metadata.ResourceTopic:
		if k := topicKeys[name]; k != nil {
			return k.Key, k.rule, true
		}
	case metadata.ResourceBroker:
		if k := brokerKeys[name]; k != nil {
			return k.Key, k.rule, true
		}
	case metadata.ResourceGroup:
		if k := groupKeys[name]; k != nil {
			return k.Key, k.rule, true
		}
	case metadata.ResourceClientMetrics:
		if k := clientKeys[name]; k != nil {
			return k.Key, k.rule, true
		}
	}
	return Key{}, nil, false
}

// ErrUnknown is the kind of error for a config that a resource does not have.
var ErrUnknown = errors.New("unknown config")

// Normalize checks a value and returns it in the form in which it is stored:
// trimmed, and as its type prints it. The error says in words what is wrong;
// it is ErrUnknown for a key that the kind of resource does not have. Brokers
// take any key, as in Kafka.
func Normalize(resource metadata.ResourceType, name, value string) (string, error) {
	_, rule, ok := lookup(resource, name)
	if !ok {
		if resource == metadata.ResourceBroker {
			return value, nil
		}
		return "", fmt.Errorf("%w %q", ErrUnknown, name)
	}
	normal, err := rule(value)
	if err != nil {
		return "", fmt.Errorf("invalid value for config %s: %w", name, err)
	}
	return normal, nil
}

// Validate is Normalize for those who need no more than the error.
func Validate(resource metadata.ResourceType, name, value string) error {
	_, err := Normalize(resource, name, value)
	return err
}

// ValidateTopic checks what no single config shows: values that contradict
// each other. The values are normalized ones that were set for the topic.
func ValidateTopic(set map[string]string) error {
	value := func(name string) int64 {
		if v, ok := set[name]; ok {
			return parseInt(v)
		}
		return parseInt(topicKeys[name].Default)
	}
	if low, high := value("min.compaction.lag.ms"), value("max.compaction.lag.ms"); low > high {
		return fmt.Errorf("config min.compaction.lag.ms %d is greater than max.compaction.lag.ms %d", low, high)
	}
	return nil
}

// ResizesPool says whether the broker config is the size of a pool, which may
// be set to no less than half and no more than double of the present one.
func ResizesPool(name string) bool {
	k := brokerKeys[name]
	return k != nil && k.pool
}

// IsList says whether values may be appended to the config and subtracted.
func IsList(resource metadata.ResourceType, name string) bool {
	k, ok := Lookup(resource, name)
	return ok && k.Type == List
}

// JoinList is the value of a List config with the elements.
func JoinList(elements []string) string { return strings.Join(elements, ",") }
