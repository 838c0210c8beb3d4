package controller

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/core/config"
	"chronik/internal/core/metadata"
)

func (d *draft) alterConfigs(r AlterConfigs) AlterConfigsResult {
	times := map[metadata.ConfigResource]int{}
	for _, res := range r.Resources {
		times[res.Resource]++
	}
	result := AlterConfigsResult{Resources: make([]ResourceStatus, 0, len(r.Resources))}
	for _, res := range r.Resources {
		s := d.checkResource(res.Resource, times[res.Resource])
		var set map[string]string
		if s.Error == kafka.None {
			set, s = d.replaced(res)
		}
		if s.Error == kafka.None && r.Again {
			s = d.alteredSince(res.Resource, res.Known, set, nil)
		}
		if s.Error == kafka.None && !r.ValidateOnly {
			d.setConfigs(res.Resource, set)
		}
		result.Resources = append(result.Resources, ResourceStatus{s, res.Resource})
	}
	d.followConfigs()
	return result
}

func (d *draft) incrementalAlterConfigs(r IncrementalAlterConfigs) AlterConfigsResult {
	times := map[metadata.ConfigResource]int{}
	for _, res := range r.Resources {
		times[res.Resource]++
	}
	result := AlterConfigsResult{Resources: make([]ResourceStatus, 0, len(r.Resources))}
	for _, res := range r.Resources {
		s := d.checkResource(res.Resource, times[res.Resource])
		var set map[string]string
		if s.Error == kafka.None {
			set, s = d.altered(res)
		}
		if s.Error == kafka.None && r.Again {
			s = d.alteredSince(res.Resource, res.Known, set, res.Changes)
		}
		if s.Error == kafka.None && !r.ValidateOnly {
			d.setConfigs(res.Resource, set)
		}
		result.Resources = append(result.Resources, ResourceStatus{s, res.Resource})
	}
	d.followConfigs()
	return result
}

func (d *draft) checkResource(r metadata.ConfigResource, times int) Status {
	if times > 1 {
		return status(kafka.ErrInvalidRequest, "The resource is in the request more than once.")
	}
	switch r.Type {
	case metadata.ResourceTopic:
		if r.Name == "" {
			return status(kafka.ErrInvalidRequest, "The name of the topic is empty.")
		}
		if err := kafka.ValidTopicName(r.Name); err != nil {
			return status(kafka.ErrInvalidTopicException, sentence(err))
		}
		if d.image.TopicByName(r.Name) == nil {
			return status(kafka.ErrUnknownTopicOrPartition, fmt.Sprintf("There is no topic %q.", r.Name))
		}
	case metadata.ResourceBroker:
		if r.Name == "" {
			return Status{}
		}
		id, err := strconv.ParseInt(r.Name, 10, 32)
		if err != nil || strconv.FormatInt(id, 10) != r.Name {
			return status(kafka.ErrInvalidRequest, fmt.Sprintf("%q is not the id of a broker.", r.Name))
		}
		if d.image.Broker(kafka.NodeID(id)) == nil {
			return status(kafka.ErrInvalidRequest, fmt.Sprintf("Broker %d is not registered.", id))
		}
	case metadata.ResourceGroup, metadata.ResourceClientMetrics:
		if r.Name == "" {
			return status(kafka.ErrInvalidRequest, "The name of the resource is empty.")
		}
	default:
		return status(kafka.ErrInvalidRequest, fmt.Sprintf("Resources of type %d have no configs that can be altered here.", r.Type))
	}
	return Status{}
}

// replaced is what a resource has set after a legacy AlterConfigs: what it
// lists and nothing else.
func (d *draft) replaced(r ResourceConfigs) (map[string]string, Status) {
	set := map[string]string{}
	for _, c := range r.Configs {
		if _, twice := set[c.Name]; twice || c.Value == nil {
			return nil, status(kafka.ErrInvalidRequest, fmt.Sprintf("Config %s has no value, or is given twice.", c.Name))
		}
		value, s := d.checkValue(r.Resource, c.Name, *c.Value)
		if s.Error != kafka.None {
			return nil, s
		}
		set[c.Name] = value
	}
	return set, d.checkTogether(r.Resource, set)
}

// altered is what a resource has set after the changes; nothing is changed if
// one of them is refused.
func (d *draft) altered(r ResourceChanges) (map[string]string, Status) {
	set := maps.Clone(d.image.Config(r.Resource))
	if set == nil {
		set = map[string]string{}
	}
	seen := map[string]bool{}
	for _, c := range r.Changes {
		if seen[c.Name] {
			return nil, status(kafka.ErrInvalidRequest, fmt.Sprintf("Config %s is altered twice.", c.Name))
		}
		seen[c.Name] = true
		if c.Op < OpSet || c.Op > OpSubtract {
			return nil, status(kafka.ErrInvalidRequest, fmt.Sprintf("Operation %d on config %s is unknown.", c.Op, c.Name))
		}
		if c.Op != OpDelete && c.Value == nil {
			return nil, status(kafka.ErrInvalidRequest, fmt.Sprintf("Config %s has no value.", c.Name))
		}
	}
	for _, c := range r.Changes {
		if c.Op == OpDelete {
			delete(set, c.Name)
			continue
		}
		value := *c.Value
		if c.Op != OpSet {
			if !config.IsList(r.Resource.Type, c.Name) {
				return nil, status(kafka.ErrInvalidConfig, fmt.Sprintf("Config %s is not a list that could be added to or taken from.", c.Name))
			}
			value = d.edited(r.Resource, c)
		}
		value, s := d.checkValue(r.Resource, c.Name, value)
		if s.Error != kafka.None {
			return nil, s
		}
		set[c.Name] = value
	}
	return set, d.checkTogether(r.Resource, set)
}

// alteredSince refuses what is asked for again where another request has altered
// it since this one came: changes only, or without them everything.
func (d *draft) alteredSince(r metadata.ConfigResource, known, set map[string]string, changes []ConfigChange) Status {
	now := d.image.Config(r)
	var keys []string
	for _, c := range changes {
		keys = append(keys, c.Name)
	}
	if changes == nil {
		keys = slices.AppendSeq(slices.Collect(maps.Keys(now)), maps.Keys(known))
		slices.Sort(keys)
	}
	for _, key := range keys {
		same := func(m map[string]string) bool {
			value, ok := m[key]
			is, isSet := now[key]
			return ok == isSet && value == is
		}
		if !same(known) && !same(set) {
			return status(kafka.ErrRequestTimedOut, fmt.Sprintf("The controller was lost while it decided this, and config %s has been altered since.", key))
		}
	}
	return Status{}
}

// edited is the list in effect, with elements added or taken away.
func (d *draft) edited(r metadata.ConfigResource, c ConfigChange) string {
	elements := config.SplitList(d.effective(r, c.Name))
	given := config.SplitList(*c.Value)
	listed := map[string]bool{} // either list may be long
	if c.Op == OpSubtract {
		for _, e := range given {
			listed[e] = true
		}
		return config.JoinList(slices.DeleteFunc(elements, func(e string) bool { return listed[e] }))
	}
	for _, e := range elements {
		listed[e] = true
	}
	for _, e := range given {
		if !listed[e] {
			elements, listed[e] = append(elements, e), true
		}
	}
	return config.JoinList(elements)
}

func (d *draft) effective(r metadata.ConfigResource, key string) string {
	configs := d.c.opts.Configs
	switch r.Type {
	case metadata.ResourceTopic:
		for _, e := range configs.DescribeTopic(d.image, r.Name) {
			if e.Name == key && e.Value != nil {
				return *e.Value
			}
		}
		return ""
	case metadata.ResourceGroup:
		return configs.Group(d.image, r.Name, key)
	}
	if value, ok := d.image.Config(r)[key]; ok {
		return value
	}
	if r.Type != metadata.ResourceBroker {
		return ""
	}
	value, _ := configs.Broker(d.image, key)
	return value
}

// checkValue returns the value as it is stored. What is wrong with a broker's
// value is an invalid request, as in Kafka.
func (d *draft) checkValue(r metadata.ConfigResource, key, value string) (string, Status) {
	normal, err := config.Normalize(r.Type, key, value)
	if r.Type != metadata.ResourceBroker {
		if errors.Is(err, config.ErrUnknown) {
			return "", status(kafka.ErrInvalidConfig, fmt.Sprintf("There is no config %s.", key))
		}
		if err != nil {
			return "", status(kafka.ErrInvalidConfig, sentence(err))
		}
		return normal, Status{}
	}
	known, ok := config.Lookup(r.Type, key)
	before, isSet := d.image.Config(r)[key]
	switch {
	case err != nil:
		return "", status(kafka.ErrInvalidRequest, sentence(err))
	case isSet && before == normal:
	case ok && known.ReadOnly:
		return "", status(kafka.ErrInvalidRequest, fmt.Sprintf("Config %s cannot be altered while the broker runs.", key))
	case key == "min.insync.replicas" && r.Name != "":
		return "", status(kafka.ErrInvalidConfig, "Config min.insync.replicas can be set for topics and for all brokers, not for one broker.")
	case config.ResizesPool(key):
		size, _ := strconv.ParseInt(d.effective(r, key), 10, 64)
		wanted, _ := strconv.ParseInt(normal, 10, 64)
		if wanted < (size+1)/2 || wanted > 2*size {
			return "", status(kafka.ErrInvalidRequest,
				fmt.Sprintf("Config %s is %d; it can be set to no less than half of that and no more than double.", key, size))
		}
	}
	return normal, Status{}
}

func (d *draft) checkTogether(r metadata.ConfigResource, set map[string]string) Status {
	if r.Type == metadata.ResourceTopic {
		if err := config.ValidateTopic(set); err != nil {
			return status(kafka.ErrInvalidConfig, sentence(err))
		}
	}
	return Status{}
}

// setConfigs makes the records that lead from what is set to set.
func (d *draft) setConfigs(r metadata.ConfigResource, set map[string]string) {
	before := d.image.Config(r)
	for _, key := range slices.Sorted(maps.Keys(before)) {
		if _, ok := set[key]; !ok && !mutant.On(mutant.ConfigRemovalLost) {
			d.records = append(d.records, &metadata.ConfigRecord{Resource: r, Key: key, Remove: true})
			d.tellConfig(r, key, "removed")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(set)) {
		if value, ok := before[key]; !ok || value != set[key] {
			d.records = append(d.records, &metadata.ConfigRecord{Resource: r, Key: key, Value: set[key]})
			detail := "set to " + set[key]
			if k, known := config.Lookup(r.Type, key); k.Sensitive || !known {
				detail = "set"
			}
			d.tellConfig(r, key, detail)
		}
	}
}

func (d *draft) tellConfig(r metadata.ConfigResource, key, detail string) {
	e := Event{Kind: "config changed", Node: kafka.NoNode, Cause: "a client asked for it"}
	switch r.Type {
	case metadata.ResourceTopic:
		e.Topic, e.Partition, e.Detail = r.Name, metadata.WholeTopic, key+" "+detail
	case metadata.ResourceBroker:
		e.Detail = key + " " + detail + " for all brokers"
		if id, err := strconv.Atoi(r.Name); err == nil {
			e.Node, e.Detail = kafka.NodeID(id), key+" "+detail
		}
	case metadata.ResourceGroup:
		e.Detail = key + " " + detail + " for group " + r.Name
	default:
		e.Detail = key + " " + detail + " for client metrics " + r.Name
	}
	d.event(e)
}

// followConfigs does to partitions what the new configs ask for: a smaller
// minimum of in-sync replicas ends the eligibility of those that are not in
// sync, and where unclean elections are allowed they are held.
func (d *draft) followConfigs() {
	minimum, unclean := false, false
	for _, r := range d.records {
		if c, ok := r.(*metadata.ConfigRecord); ok {
			minimum = minimum || c.Key == "min.insync.replicas"
			unclean = unclean || c.Key == "unclean.leader.election.enable"
		}
	}
	if !minimum && !unclean {
		return
	}
	d.fold()
	d.eachPartition(func(t *metadata.Topic, i int32, p *metadata.Partition) {
		if len(p.EligibleLeader) > 0 || p.Leader == kafka.NoNode {
			d.change(t, i, keep(p, "a config changed"))
		}
	})
}
