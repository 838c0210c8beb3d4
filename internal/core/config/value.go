package config

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// rule checks a value and returns it in the form in which it is stored:
// trimmed, and as the type would print it.
type rule func(value string) (string, error)

func longIn(low, high int64) rule {
	return func(value string) (string, error) {
		v, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		switch {
		case err != nil:
			return "", fmt.Errorf("%q is not a whole number of at most 64 bits", value)
		case v < low && high == math.MaxInt64:
			return "", fmt.Errorf("%d is less than %d", v, low)
		case v < low || v > high:
			return "", fmt.Errorf("%d is not within %d and %d", v, low, high)
		}
		return strconv.FormatInt(v, 10), nil
	}
}

func longFrom(low int64) rule { return longIn(low, math.MaxInt64) }

func intIn(low, high int32) rule { return longIn(int64(low), int64(high)) }

func intFrom(low int32) rule { return intIn(low, math.MaxInt32) }

func doubleIn(low, high float64) rule {
	return func(value string) (string, error) {
		text := strings.TrimSpace(value)
		v, err := strconv.ParseFloat(text, 64)
		switch {
		case err != nil || math.IsNaN(v) || math.IsInf(v, 0) || strings.ContainsAny(text, "xX_"):
			return "", fmt.Errorf("%q is not a number", value)
		case v < low || v > high:
			return "", fmt.Errorf("%v is not within %v and %v", v, low, high)
		}
		return text, nil
	}
}

func boolean(value string) (string, error) {
	switch text := strings.ToLower(strings.TrimSpace(value)); text {
	case "true", "false":
		return text, nil
	}
	return "", fmt.Errorf("%q is neither true nor false", value)
}

func onlyFalse(why string) rule {
	return func(value string) (string, error) {
		text, err := boolean(value)
		if err == nil && text != "false" {
			err = fmt.Errorf("%q is refused: %s", value, why)
		}
		return text, err
	}
}

func text(value string) (string, error) { return strings.TrimSpace(value), nil }

func oneOf(words ...string) rule {
	return func(value string) (string, error) {
		text := strings.TrimSpace(value)
		if !slices.Contains(words, text) {
			return "", fmt.Errorf("%q is none of %s", value, strings.Join(words, ", "))
		}
		return text, nil
	}
}

// SplitList cuts the value of a List config into its elements; the empty
// value has none.
func SplitList(value string) []string {
	value = strings.TrimSpace(value)
	if value == "" {
		return nil
	}
	elements := strings.Split(value, ",")
	for i := range elements {
		elements[i] = strings.TrimSpace(elements[i])
	}
	return elements
}

func list(element func(string) error) rule {
	return func(value string) (string, error) {
		elements := SplitList(value)
		for _, e := range elements {
			if err := element(e); err != nil {
				return "", err
			}
		}
		return strings.Join(elements, ","), nil
	}
}

func anyElement(string) error { return nil }

func elementOf(words ...string) func(string) error {
	return func(e string) error {
		if !slices.Contains(words, e) {
			return fmt.Errorf("%q is none of %s", e, strings.Join(words, ", "))
		}
		return nil
	}
}

var replicaPattern = regexp.MustCompile(`^[0-9]+:[0-9]+$`)

func throttledReplicas(value string) (string, error) {
	if text := strings.TrimSpace(value); text == "*" {
		return text, nil
	}
	return list(func(e string) error {
		if !replicaPattern.MatchString(e) {
			return fmt.Errorf("%q is neither * nor a list of PARTITION:NODE", value)
		}
		return nil
	})(value)
}

func gzipLevel(value string) (string, error) {
	level, err := intIn(-1, 9)(value)
	if level == "0" {
		err = fmt.Errorf("%q is neither -1 nor within 1 and 9", value)
	}
	return level, err
}

var durationPattern = regexp.MustCompile(`^by_duration:-?P(?:\d+D)?(?:T(?:\d+H)?(?:\d+M)?(?:\d+(?:\.\d+)?S)?)?$`)

func shareOffsetReset(value string) (string, error) {
	text := strings.TrimSpace(value)
	isDuration := durationPattern.MatchString(text) && !strings.HasSuffix(text, "P") && !strings.HasSuffix(text, "T") &&
		!strings.Contains(text, ":-")
	if text == "latest" || text == "earliest" || isDuration {
		return text, nil
	}
	return "", fmt.Errorf("%q is neither latest, earliest nor by_duration: and an ISO 8601 duration", value)
}

var matchKeys = []string{"client_instance_id", "client_id", "client_software_name", "client_software_version", "client_source_address", "client_source_port"}

func clientMatch(e string) error {
	name, pattern, ok := strings.Cut(e, "=")
	if !ok || !slices.Contains(matchKeys, strings.TrimSpace(name)) {
		return fmt.Errorf("%q is not one of %s, = and a pattern", e, strings.Join(matchKeys, ", "))
	}
	if _, err := regexp.Compile(strings.TrimSpace(pattern)); err != nil {
		return fmt.Errorf("%q is not a regular expression", pattern)
	}
	return nil
}
