package main

import (
	"fmt"
	"reflect"
	"sort"
	"strings"
	"time"
)

// value is one field of an answer, after what may differ was replaced.
type value struct{ path, text string }

// normal turns the answers of one conversation into values. Identifiers that a
// server makes up become numbers in the order of their appearance, so that
// using the same one again still shows.
type normal struct {
	seen   map[string]map[string]int
	topics map[[16]byte]string // ids whose names are known
	out    []value
}

func newNormal(topics map[[16]byte]string) *normal {
	return &normal{seen: map[string]map[string]int{}, topics: topics}
}

func (n *normal) put(path string, v any) { n.out = append(n.out, value{path, fmt.Sprint(v)}) }

// known numbers an identifier, unless it stands for itself.
func (n *normal) known(kind string, id any, itself bool) string {
	text := fmt.Sprint(id)
	if itself {
		return text
	}
	of := n.seen[kind]
	if of == nil {
		of = map[string]int{}
		n.seen[kind] = of
	}
	if _, ok := of[text]; !ok {
		of[text] = len(of) + 1
	}
	return fmt.Sprintf("<%s %d>", kind, of[text])
}

// moment hides a time that is about now.
func moment(ms int64) string {
	if d := time.Since(time.UnixMilli(ms)); d > -10*time.Minute && d < 10*time.Minute {
		return "<now>"
	}
	if ms == then {
		return "<then>"
	}
	if d := ms - then; d > 0 && d < 3600_000 {
		return fmt.Sprintf("<then+%d>", d)
	}
	return fmt.Sprint(ms)
}

func (a *answer) normalise(n *normal) []value {
	n.out = nil
	switch {
	case a.values != nil:
		n.out = append(n.out, a.values...)
	case a.resp != nil:
		n.put("", a.outcome)
		n.walk("", "", reflect.ValueOf(a.resp).Elem())
	default:
		n.put("", a.outcome)
	}
	for i := range n.out {
		n.out[i].path = a.label + ":" + n.out[i].path
	}
	return n.out
}

func (n *normal) walk(path, field string, v reflect.Value) {
	if rule, ok := rules[field]; ok {
		if text, skip := rule(n, v); skip {
			return
		} else if text != nil {
			n.put(path, *text)
			return
		}
	}
	if strings.Contains(field, "Timestamp") && v.Kind() == reflect.Int64 || field == "LogAppendTime" {
		n.put(path, moment(v.Int()))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			n.put(path, "null")
			return
		}
		n.walk(path, "", v.Elem())
	case reflect.Struct:
		if t, ok := v.Interface().(interface{ Len() int }); ok && v.Type().Name() == "Tags" {
			if t.Len() > 0 {
				n.put(path, fmt.Sprintf("%d tags", t.Len()))
			}
			return
		}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.Name == "Version" || f.Name == "UnknownTags" {
				continue
			}
			sub := f.Name
			if path != "" {
				sub = path + "." + f.Name
			}
			n.walk(sub, f.Name, v.Field(i))
		}
	case reflect.Slice:
		n.slice(path, field, v)
	case reflect.Array:
		n.put(path, fmt.Sprintf("%x", v.Interface()))
	case reflect.String:
		n.put(path, fmt.Sprintf("%q", v.String()))
	default:
		n.put(path, fmt.Sprint(v.Interface()))
	}
}

func (n *normal) slice(path, field string, v reflect.Value) {
	if v.IsNil() && v.Type().Elem().Kind() == reflect.Uint8 {
		n.put(path, "null")
		return
	}
	if v.IsNil() {
		// kmsg reads an empty array as nil where it cannot be null.
		n.put(path+".#", "none")
		return
	}
	if v.Type().Elem().Kind() == reflect.Uint8 {
		if field == "RecordBatches" {
			n.batches(path, v.Bytes())
		} else {
			n.put(path, fmt.Sprintf("%x", v.Bytes()))
		}
		return
	}
	n.put(path+".#", v.Len())
	if v.Type().Elem().Kind() != reflect.Struct {
		texts := make([]string, v.Len())
		for i := range texts {
			texts[i] = fmt.Sprint(v.Index(i).Interface())
		}
		sort.Strings(texts)
		n.put(path, strings.Join(texts, " "))
		return
	}
	order := make([]int, v.Len())
	names := make([]string, v.Len())
	for i := range order {
		order[i], names[i] = i, n.nameOf(v.Index(i))
	}
	sort.SliceStable(order, func(a, b int) bool { return names[order[a]] < names[order[b]] })
	count := map[string]int{}
	for _, i := range order {
		name := names[i]
		if name == "" {
			name = fmt.Sprint(i)
		}
		if count[name]++; count[name] > 1 {
			name = fmt.Sprintf("%s#%d", name, count[name])
		}
		n.walk(fmt.Sprintf("%s[%s]", path, name), "", v.Index(i))
	}
}

// nameOf finds what an element of an array is called by: servers may list
// elements in any order.
func (n *normal) nameOf(v reflect.Value) string {
	var parts []string
	for _, f := range []string{"ResourceType", "ResourceName", "Topic", "Name", "Group", "GroupID", "Key", "CoordinatorKey", "ApiKey", "Partition", "ConfigName", "NodeID", "Mechanism", "RelativeOffset", "User", "TransactionalID", "FirstOffset", "InstanceID"} {
		at := v.FieldByName(f)
		if !at.IsValid() {
			continue
		}
		if at.Kind() == reflect.Pointer {
			if at.IsNil() {
				continue
			}
			at = at.Elem()
		}
		if f == "Group" && at.IsZero() {
			parts = append(parts, "no name")
		}
		if f == "Partition" || f == "ResourceType" || at.Kind() != reflect.Slice && !at.IsZero() {
			parts = append(parts, fmt.Sprint(at.Interface()))
		}
	}
	// Members are listed in any order, but were met before.
	if id := v.FieldByName("MemberID"); id.IsValid() && id.Kind() == reflect.String {
		if at, ok := n.seen["member"][fmt.Sprintf("%q", id.String())]; ok {
			parts = append(parts, fmt.Sprintf("<member %d>", at))
		}
	}
	if id := v.FieldByName("TopicID"); len(parts) < 2 && id.IsValid() && !id.IsZero() && len(parts) == 0 {
		parts = append(parts, n.topicID(id))
	}
	return strings.Join(parts, "/")
}

func (n *normal) topicID(v reflect.Value) string {
	var id [16]byte
	reflect.Copy(reflect.ValueOf(&id).Elem(), v)
	if name, ok := n.topics[id]; ok {
		return name
	}
	// Ids that a case makes up have the same byte everywhere but at the end.
	itself := id[0] == id[1] && id[1] == id[2] && id[2] == id[3]
	return n.known("topic", fmt.Sprintf("%x", id), itself)
}

// rules replaces what may differ between two right answers.
var rules = map[string]func(*normal, reflect.Value) (text *string, skip bool){
	"ThrottleMillis":         skipped,
	"ThrottleTimeMillis":     skipped,
	"ErrorMessage":           presence,
	"StatusMessage":          presence,
	"Documentation":          presence,
	"ClusterID":              presence,
	"Dir":                    presence,
	"ClusterEpoch":           skipped,
	"FinalizedFeaturesEpoch": sign,
	"TotalBytes":             sign,
	"UsableBytes":            sign,
	"Size":                   sign,
	"Port":                   sign,
	"TopicID":                func(n *normal, v reflect.Value) (*string, bool) { return p(n.topicID(v)), false },
	"MemberID":               member,
	"LeaderID":               member,
	"Leader":                 member,
	"ProducerID": func(n *normal, v reflect.Value) (*string, bool) {
		return p(n.known("producer", v.Int(), v.Int() < 0)), false
	},
	"SessionID": func(n *normal, v reflect.Value) (*string, bool) {
		return p(n.known("session", v.Int(), v.Int() == 0)), false
	},
}

func skipped(*normal, reflect.Value) (*string, bool) { return nil, true }

// presence tells null, empty and something apart.
func presence(_ *normal, v reflect.Value) (*string, bool) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return p("null"), false
		}
		v = v.Elem()
	}
	if v.Kind() != reflect.String {
		return nil, false
	}
	if v.Len() == 0 {
		return p("empty"), false
	}
	return p("text"), false
}

// sign tells negative, zero and positive apart.
func sign(_ *normal, v reflect.Value) (*string, bool) {
	if !v.CanInt() {
		return nil, false
	}
	switch {
	case v.Int() < 0:
		return p("negative"), false
	case v.Int() == 0:
		return p("zero"), false
	}
	return p("positive"), false
}

// member numbers the ids that a server made up; those of a case begin with m-.
func member(n *normal, v reflect.Value) (*string, bool) {
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.String {
		return nil, false
	}
	return p(n.known("member", fmt.Sprintf("%q", v.String()), v.Len() == 0 || strings.HasPrefix(v.String(), "m-"))), false
}
