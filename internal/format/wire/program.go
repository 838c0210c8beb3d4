package wire

// opcode is one kind of step of a program.
type opcode uint8

const (
	opSkip        opcode = iota // size bytes
	opText                      // 16-bit length and bytes
	opTextCompact               // length plus one as a varint, and bytes
	opBlob                      // 32-bit length and bytes
	opBlobCompact
	opArray // 32-bit count and elements
	opArrayCompact
	opOptional // -1 for null, or 1 and the sub-steps
	opTags     // count, and for each tag number, size and bytes
)

// step is one move of the walker over a body.
type step struct {
	op opcode
	// null says that null is allowed here.
	null bool
	// pointer says that the text is decoded into a string of its own.
	pointer bool
	// size is the bytes of a skip, the memory of an element or an optional.
	size int
	// least is the smallest size of an element on the wire, at least 1.
	least int
	// sub are the steps of an element or an optional.
	sub []step
	// tags are the known ones, at most a handful.
	tags []tagSteps
}

type tagSteps struct {
	tag uint32
	// known is false for a tag that only later versions have.
	known bool
	steps []step
}

// program is a request's layout in one version.
type program struct {
	steps []step
	// bytes is what the decoded request takes itself.
	bytes int
}

// programs holds a program for each key and version of the table.
var programs = compileAll()

func compileAll() [][]program {
	all := make([][]program, len(schemas))
	for key := range schemas {
		s := schemaOf(int16(key))
		if s == nil {
			continue
		}
		for v := int16(0); v <= s.last; v++ {
			c := compiler{version: v, flexible: v >= s.flexible}
			c.structure(&s.field)
			all[key] = append(all[key], program{steps: c.steps, bytes: int(s.size)})
		}
	}
	return all
}

// compiler collects the steps of one struct in one version.
type compiler struct {
	version  int16
	flexible bool
	steps    []step
}

func (c *compiler) structure(f *field) {
	for i := range f.sub {
		if s := &f.sub[i]; c.version >= s.first && c.version <= s.last {
			c.field(s)
		}
	}
	if !c.flexible {
		return
	}
	t := step{op: opTags}
	for i := range f.tagged {
		s := &f.tagged[i]
		t.tags = append(t.tags, tagSteps{
			tag: s.tag, known: c.version >= s.first && c.version <= s.last, steps: c.part(func(p *compiler) { p.field(&s.field) }),
		})
	}
	c.steps = append(c.steps, t)
}

// part compiles a nested struct or field into steps of its own.
func (c *compiler) part(fill func(*compiler)) []step {
	p := compiler{version: c.version, flexible: c.flexible}
	fill(&p)
	return p.steps
}

func (c *compiler) field(f *field) {
	s := step{null: c.version >= f.null, pointer: f.pointer, size: int(f.size)}
	switch f.kind {
	case fixed:
		if n := len(c.steps); n > 0 && c.steps[n-1].op == opSkip {
			c.steps[n-1].size += s.size
			return
		}
		s.op = opSkip
	case text:
		s.op = opText
	case blob:
		s.op = opBlob
	case array:
		s.op = opArray
		s.sub = c.part(func(p *compiler) { p.field(f.elem) })
		s.least = max(1, least(s.sub))
	case object:
		c.structure(f)
		return
	case optional:
		s.op = opOptional
		s.sub = c.part(func(p *compiler) { p.structure(f) })
	}
	if c.flexible && (s.op == opText || s.op == opBlob || s.op == opArray) {
		s.op++ // its compact form
	}
	c.steps = append(c.steps, s)
}

// least returns the fewest bytes that the steps can stand for.
func least(steps []step) int {
	n := 0
	for i := range steps {
		switch steps[i].op {
		case opSkip:
			n += steps[i].size
		case opText:
			n += 2
		case opBlob, opArray:
			n += 4
		default:
			n++
		}
	}
	return n
}
