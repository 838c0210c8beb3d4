package wire

import "math"

//go:generate go run ./gen -out table.go

// kind is the shape of a field on the wire.
type kind uint8

const (
	fixed    kind = iota // a number, boolean or uuid of size bytes
	text                 // a string
	blob                 // bytes, records included
	array                // a count and that many of elem
	object               // its sub-fields, one after the other
	optional             // one byte that says null or present, and the sub-fields
)

const (
	always = math.MaxInt16 // as a last version: there is none
	never  = math.MaxInt16 // as a first version: there is none
)

// field is one field of a request in the versions first to last.
type field struct {
	name        string
	kind        kind
	first, last int16
	// null is the first version in which null is allowed.
	null int16
	// size is what a fixed takes on the wire, an array's element or an
	// optional's struct takes in memory, in bytes.
	size uintptr
	// pointer says that kmsg has the text as *string.
	pointer bool
	elem    *field
	sub     []field
	// tagged are the sub-fields sent as tags. first is then the first
	// version that knows the tag; before it the tag is an error, as in Kafka.
	tagged []taggedField
}

type taggedField struct {
	tag uint32
	field
}

// schema is one request in all its versions, 0 to last.
type schema struct {
	key int16
	// last is the newest version.
	last int16
	// flexible is the first version with compact lengths and tags (KIP-482).
	flexible int16
	field
}

// Versions returns the versions in which the table has the request: first is
// what kmsg can read, which may be older than what Kafka still answers.
func Versions(key int16) (first, last int16, ok bool) {
	s := schemaOf(key)
	if s == nil {
		return 0, 0, false
	}
	return 0, s.last, true
}

// isFlexible says whether a request of that key and version has compact
// lengths, tags and a header with tags.
func isFlexible(key, version int16) bool {
	s := schemaOf(key)
	return s != nil && version >= s.flexible
}

func schemaOf(key int16) *schema {
	if key < 0 || int(key) >= len(schemas) || schemas[key].key != key || schemas[key].name == "" {
		return nil
	}
	return &schemas[key]
}
