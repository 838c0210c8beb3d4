package internal

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// covering is one test that a table in test/compat names: a file, and a test
// function or a text in it.
var covering = regexp.MustCompile("^`([^`]+)` (Test\\w+|\"[^\"]+\")$")

// rowsOf reads the rows of all tables in a file: their names and last columns.
func rowsOf(t *testing.T, file string) (names, tests []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if !strings.HasPrefix(line, "| ") || cells[0] == "row" || cells[0] == "---" {
			continue
		}
		names, tests = append(names, cells[0]), append(tests, cells[len(cells)-1])
	}
	return names, tests
}

// body is the text of a file, or of a test in it with the comment before it.
func body(text, what string) string {
	if name, ok := strings.CutPrefix(what, `"`); ok {
		if strings.Contains(text, strings.TrimSuffix(name, `"`)) {
			return text
		}
		return ""
	}
	_, rest, ok := strings.Cut(text, "\nfunc "+what+"(")
	if !ok {
		return ""
	}
	before := text[:len(text)-len(rest)]
	comment := before[strings.LastIndex(before, "\n\n")+1:]
	rest, _, _ = strings.Cut(rest, "\n}\n")
	return comment + rest
}

func covered(t *testing.T, file string, check func(row, test, body string)) {
	t.Helper()
	names, tests := rowsOf(t, file)
	for i, row := range names {
		if reason, ok := strings.CutPrefix(tests[i], "not yet: "); ok && len(reason) > 10 {
			continue
		}
		for _, ref := range strings.Split(tests[i], "; ") {
			m := covering.FindStringSubmatch(ref)
			if m == nil {
				t.Errorf("%s, row %s: %q is no test", file, row, ref)
				continue
			}
			text, err := os.ReadFile(filepath.Join("..", m[1]))
			if err != nil {
				t.Errorf("%s, row %s: %v", file, row, err)
				continue
			}
			b := body(string(text), m[2])
			if b == "" {
				t.Errorf("%s, row %s: %s has no %s", file, row, m[1], m[2])
			}
			check(row, m[1], b)
		}
	}
}

// Each trap has a test that names it, or a reason why not.
func TestEveryTrapHasATest(t *testing.T) {
	const file = "../test/compat/traps.md"
	names, _ := rowsOf(t, file)
	for i := range 46 {
		if i >= len(names) || names[i] != fmt.Sprint(i+1) {
			t.Fatalf("%s: row %d is missing or not in its place", file, i+1)
		}
	}
	named := map[string]bool{}
	covered(t, file, func(row, _, body string) {
		if regexp.MustCompile(`[tT]raps? ([\w]+(, | and ))*` + row + `\b`).MatchString(body) {
			named[row] = true
		}
	})
	_, tests := rowsOf(t, file)
	for i, row := range names {
		if !named[row] && !strings.HasPrefix(tests[i], "not yet: ") {
			t.Errorf("none of the tests of trap %s names it", row)
		}
	}
}

// Each row of bad input is tested.
func TestEveryBadInputIsTested(t *testing.T) {
	const file = "../test/compat/bad-input.md"
	names, _ := rowsOf(t, file)
	i := 0
	for _, section := range []struct {
		name string
		rows int
	}{{"5.1", 7}, {"5.2", 31}, {"5.4", 18}} {
		for n := range section.rows {
			if want := fmt.Sprintf("%s.%d", section.name, n+1); i >= len(names) || names[i] != want {
				t.Fatalf("%s: row %s is missing or not in its place", file, want)
			}
			i++
		}
	}
	covered(t, file, func(string, string, string) {})
}
