package config

import (
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"chronik/internal/base/kafka"
)

// kind is a type of values: how it is called, what it takes, how it is read.
type kind struct {
	name  string // for the documentation: "milliseconds"
	takes string // for an error: "a whole number from 0 to 9"
	parse func(text string, field any) bool
}

// number takes whole numbers from min to max.
func number(name string, min, max int64) kind {
	takes := fmt.Sprintf("a whole number from %d to %d", min, max)
	if max == math.MaxInt64 {
		takes = fmt.Sprintf("a whole number, %d or more", min)
	}
	return kind{name, takes, func(text string, field any) bool {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < min || n > max {
			return false
		}
		switch f := field.(type) {
		case *kafka.NodeID:
			*f = kafka.NodeID(n)
		case *int:
			*f = int(n)
		case *int16:
			*f = int16(n)
		case *int32:
			*f = int32(n)
		case *int64:
			*f = n
		default:
			panic(fmt.Sprintf("a number cannot be stored in %T", field))
		}
		return true
	}}
}

func count(min, max int64) kind  { return number("number", min, max) }
func size(min, max int64) kind   { return number("bytes", min, max) }
func millis(min, max int64) kind { return number("milliseconds", min, max) }

// timer takes whole numbers of a unit and stores them in a unitDuration.
func timer(name string, min, max int64) kind {
	return kind{name, fmt.Sprintf("a whole number of %s from %d to %d", name, min, max), func(text string, field any) bool {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < min || n > max {
			return false
		}
		f := field.(*unitDuration)
		*f.at = time.Duration(n) * f.unit
		return true
	}}
}

// timerMax keeps every timer far from the end of time.Duration: 100 years.
const timerMax = 100 * 365 * 24 * int64(time.Hour/time.Millisecond)

func ms(min int64) kind      { return timer("milliseconds", min, timerMax) }
func seconds(min int64) kind { return timer("seconds", min, timerMax/1000) }
func minutes(min int64) kind { return timer("minutes", min, timerMax/60000) }

// unitDuration is a duration whose text is a number of units.
type unitDuration struct {
	at   *time.Duration
	unit time.Duration
}

var boolean = kind{"boolean", "true or false", func(text string, field any) bool {
	switch strings.ToLower(text) {
	case "true":
		*field.(*bool) = true
	case "false":
		*field.(*bool) = false
	default:
		return false
	}
	return true
}}

var ratio = kind{"ratio", "a number from 0 to 1", func(text string, field any) bool {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !(f >= 0 && f <= 1) {
		return false
	}
	*field.(*float64) = f
	return true
}}

// word takes one of the words.
func word(words ...string) kind {
	return kind{"word", "one of " + strings.Join(words, ", "), func(text string, field any) bool {
		if !slices.Contains(words, text) {
			return false
		}
		*field.(*string) = text
		return true
	}}
}

// words takes any of the words, with commas between them.
func words(of ...string) kind {
	return kind{"words", "any of " + strings.Join(of, ", ") + ", with commas between them", func(text string, field any) bool {
		var got []string
		for part := range strings.SplitSeq(text, ",") {
			part = strings.TrimSpace(part)
			if part == "" && strings.TrimSpace(text) == "" {
				break
			}
			if !slices.Contains(of, part) || slices.Contains(got, part) {
				return false
			}
			got = append(got, part)
		}
		*field.(*string) = strings.Join(got, ",")
		return true
	}}
}

var directory = kind{"directory", "the path of a directory", func(text string, field any) bool {
	if text == "" || strings.ContainsRune(text, 0) {
		return false
	}
	*field.(*string) = text
	return true
}}

var text = kind{"text", "at most 255 characters, none of them a control character", func(text string, field any) bool {
	if len(text) > 255 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return false
	}
	*field.(*string) = text
	return true
}}

// listenAddress takes HOST:PORT where the host may be empty (every interface)
// and the port 0 (any that is free).
var listenAddress = kind{"address", "HOST:PORT, such as 127.0.0.1:9092 or [::]:9092", func(text string, field any) bool {
	if !validAddress(text, true) {
		return false
	}
	*field.(*string) = text
	return true
}}

var dialAddress = kind{"address", "HOST:PORT that others can reach, such as broker-1.example.com:9092", func(text string, field any) bool {
	if !validAddress(text, false) {
		return false
	}
	*field.(*string) = text
	return true
}}

// orNone lets a kind be left empty as well.
func orNone(k kind) kind {
	return kind{k.name, k.takes + ", or nothing", func(text string, field any) bool {
		if text == "" {
			*field.(*string) = ""
			return true
		}
		return k.parse(text, field)
	}}
}

func validAddress(address string, listen bool) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil || strings.ContainsAny(host, " /@,") {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return false
	}
	return listen || host != "" && n != 0
}

var peerList = kind{"list", "ID@HOST:PORT of each node with commas between them, such as 1@a:9192,2@b:9192,3@c:9192",
	func(text string, field any) bool {
		var peers []Peer
		for part := range strings.SplitSeq(text, ",") {
			part = strings.TrimSpace(part)
			if part == "" && strings.TrimSpace(text) == "" {
				break
			}
			id, address, found := strings.Cut(part, "@")
			n, err := strconv.ParseInt(id, 10, 32)
			if !found || err != nil || n < 0 || !validAddress(address, false) {
				return false
			}
			for _, p := range peers {
				if p.ID == kafka.NodeID(n) || p.Address == address {
					return false
				}
			}
			peers = append(peers, Peer{kafka.NodeID(n), address})
		}
		*field.(*[]Peer) = peers
		return true
	}}

// format writes a field as its setting takes it.
func format(field any) string {
	switch f := field.(type) {
	case *kafka.NodeID:
		return strconv.Itoa(int(*f))
	case *int:
		return strconv.Itoa(*f)
	case *int16:
		return strconv.Itoa(int(*f))
	case *int32:
		return strconv.Itoa(int(*f))
	case *int64:
		return strconv.FormatInt(*f, 10)
	case *bool:
		return strconv.FormatBool(*f)
	case *float64:
		return strconv.FormatFloat(*f, 'g', -1, 64)
	case *string:
		return *f
	case *unitDuration:
		return strconv.FormatInt(int64(*f.at/f.unit), 10)
	case *[]Peer:
		parts := make([]string, len(*f))
		for i, p := range *f {
			parts[i] = p.String()
		}
		return strings.Join(parts, ",")
	}
	panic(fmt.Sprintf("a setting cannot be stored in %T", field))
}
