package main

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
)

// deliberate is one line of differences.txt: a difference that is meant.
type deliberate struct {
	id       string // as docs/differences.md explains it
	key      string // a number or *
	name     string // glob
	versions span
	path     string // glob
	kafka    string // what Kafka answers; "" for anything
	line     int
	used     bool
}

// readDeliberate reads differences.txt:
//
//	id   key   case   versions   path   [kafka=VALUE]
//
// with * for any. Case and path are globs in which * also stands for slashes.
// With VALUE, only what Kafka answers with that is meant.
func readDeliberate(file string) ([]*deliberate, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var list []*deliberate
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		fields := strings.Fields(text)
		if len(fields) < 5 {
			return nil, fmt.Errorf("%s:%d: want id, key, case, versions, path", file, n)
		}
		d := &deliberate{id: fields[0], key: fields[1], name: fields[2], line: n}
		last := len(fields) - 1
		if value, ok := strings.CutPrefix(fields[last], "kafka="); ok && last > 4 {
			d.kafka, fields = value, fields[:last]
		}
		d.path = strings.Join(fields[4:], " ")
		if d.versions, err = parseSpan(fields[3]); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, n, err)
		}
		list = append(list, d)
	}
	return list, lines.Err()
}

func parseSpan(text string) (span, error) {
	if text == "*" {
		return span{-1, 1 << 14}, nil
	}
	from, to, ok := strings.Cut(text, "-")
	if !ok {
		to = from
	}
	low, err := strconv.ParseInt(from, 10, 16)
	if err != nil {
		return span{}, err
	}
	high, err := strconv.ParseInt(to, 10, 16)
	return span{int16(low), int16(high)}, err
}

func (d *deliberate) matches(x difference) bool {
	return (d.key == "*" || d.key == fmt.Sprint(x.key)) &&
		(d.kafka == "" || d.kafka == x.texts[0]) && glob(d.name, x.name) && x.version >= d.versions.min && x.version <= d.versions.max && glob(d.path, x.path)
}

// concerns says whether a job that was run might have shown the difference.
func (d *deliberate) concerns(j job) bool {
	return d.matches(difference{key: j.of.Key, name: j.of.Name, version: j.version, path: d.path, texts: [2]string{d.kafka}})
}

// glob matches with * for any run of characters, the slash included; brackets
// stand for themselves.
func glob(pattern, text string) bool {
	hide := strings.NewReplacer("/", "\x01", "[", "\x02", "]", "\x03", "\\", "\x04", "?", "\x05")
	ok, err := path.Match(hide.Replace(pattern), hide.Replace(text))
	return err == nil && ok
}

// unexplained lists the ids that docs/differences.md does not have.
func unexplained(list []*deliberate, document string) []string {
	text, err := os.ReadFile(document)
	if err != nil {
		text = nil
	}
	var missing []string
	seen := map[string]bool{}
	for _, d := range list {
		if !seen[d.id] && !strings.Contains(string(text), "`"+d.id+"`") {
			missing = append(missing, d.id)
		}
		seen[d.id] = true
	}
	return missing
}
