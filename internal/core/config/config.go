// Package config is the one table of Kafka-named configs of topics, brokers
// and groups: their types, defaults and accepted values, and how an effective
// value comes about.
package config

// Type is the type of a config's value, numbered as in DescribeConfigs.
type Type int8

// The types of values.
const (
	Boolean  Type = 1
	String   Type = 2
	Int      Type = 3
	Short    Type = 4
	Long     Type = 5
	Double   Type = 6
	List     Type = 7
	Class    Type = 8
	Password Type = 9
)

// Source says where an effective value comes from, numbered as in DescribeConfigs.
type Source int8

// The sources of values.
const (
	SourceUnknown        Source = 0
	SourceTopic          Source = 1 // set for the topic
	SourceBroker         Source = 2 // set for the broker, at run time
	SourceClusterDefault Source = 3 // set for all brokers, at run time
	SourceStatic         Source = 4 // from the node's own settings
	SourceDefault        Source = 5
	SourceClientMetrics  Source = 7
	SourceGroup          Source = 8
)

// Key is one config that users may set.
type Key struct {
	Name      string
	Type      Type
	Default   string
	NoDefault bool   // the value is null unless set
	Synonym   string // of a topic's or group's config: the broker's config that gives it its default; "" if none
	Sensitive bool
	ReadOnly  bool // not to be changed at run time
	Doc       string
}

// Static holds a node's own settings by Kafka's names, as from its
// configuration file.
type Static map[string]string

// Entry is one effective config, as DescribeConfigs shows it.
type Entry struct {
	Name      string
	Value     *string // nil: null, or sensitive
	Source    Source
	Type      Type
	ReadOnly  bool
	Sensitive bool
	Doc       string
	Synonyms  []Synonym // every level that has a value, the effective one first
}

// Synonym is one level's value of a config.
type Synonym struct {
	Name   string
	Value  *string
	Source Source
}
