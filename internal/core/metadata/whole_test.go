package metadata

import (
	"reflect"
	"testing"

	"chronik/internal/base/kafka"
)

// fill gives each part of a value something that is not its zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(3)
	default:
		v.SetInt(3)
	}
}

func filled[T any]() *T {
	v := new(T)
	fill(reflect.ValueOf(v).Elem())
	return v
}

// Image.Equal compares what is in snapshots, so it does not see what is missing
// in them: here the fields themselves are compared, none of them zero.
func TestASnapshotLeavesNothingOut(t *testing.T) {
	topic, config := kafka.TopicID{1}, ConfigResource{ResourceGroup, "g"}
	m, _, err := Empty().Apply(5, []Record{
		&ClusterRecord{"c"}, &FeatureRecord{"f", 2}, &ProducerIDsRecord{7}, &BrokerRecord{filled[Broker]()},
		&TopicRecord{topic, "t"}, &PartitionRecord{topic, 0, filled[Partition]()}, &ConfigRecord{Resource: config, Key: "k", Value: "v"},
		&EventRecord{*filled[Event]()},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeSnapshot(m.EncodeSnapshot(nil))
	if err != nil {
		t.Fatal(err)
	}
	m.sorted, got.sorted = nil, nil // a cache
	was, is := reflect.ValueOf(m).Elem(), reflect.ValueOf(got).Elem()
	for i := range was.NumField() {
		name := was.Type().Field(i).Name
		if was.Field(i).IsZero() && name != "sorted" {
			t.Errorf("the test gives %s no value", name)
		}
	}
	if !reflect.DeepEqual(m, got) {
		t.Errorf("the snapshot has %+v, the image had %+v", is, was)
	}
}

// Who takes over a snapshot must be told of a partition or broker of which any
// field differs.
func TestADifferenceInAnyFieldIsTold(t *testing.T) {
	topic := kafka.TopicID{1}
	base, _ := mustApply(t, Empty(), &TopicRecord{topic, "t"}, &PartitionRecord{topic, 0, &Partition{}}, &BrokerRecord{&Broker{}})
	base.Brokers()
	base.Topics()
	for _, p := range changed[Partition]() {
		after, _ := mustApply(t, base, &PartitionRecord{topic, 0, p})
		if d := Diff(base, after); len(d.Partitions) != 1 || d.Partitions[0].New != p || len(d.Topics)+len(d.Brokers)+len(d.Configs) != 0 {
			t.Errorf("a partition that became %+v: %+v", *p, d)
		}
	}
	for _, b := range changed[Broker]() {
		if b.ID != 0 {
			continue // another one
		}
		after, _ := mustApply(t, base, &BrokerRecord{b})
		if d := Diff(base, after); len(d.Brokers) != 1 || d.Brokers[0].New != b || len(d.Topics)+len(d.Partitions)+len(d.Configs) != 0 {
			t.Errorf("a broker that became %+v: %+v", *b, d)
		}
	}
}

// changed has the zero value with one field changed, for each field.
func changed[T any]() []*T {
	var all []*T
	for i := range reflect.TypeFor[T]().NumField() {
		v := new(T)
		fill(reflect.ValueOf(v).Elem().Field(i))
		all = append(all, v)
	}
	return all
}
