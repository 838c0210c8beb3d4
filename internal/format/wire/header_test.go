package wire

import (
	"errors"
	"testing"
)

func TestHeadersReadAsByKafka(t *testing.T) {
	for _, c := range []struct {
		name   string
		frame  string
		want   error
		client string
		null   bool
		body   int
	}{
		{"empty frame", "", ErrMalformed, "", false, 0},
		{"one byte", "00", ErrMalformed, "", false, 0},
		{"without a client id", "0003 0001 00000001", ErrMalformed, "", false, 0},
		{"half a length", "0003 0001 00000001 00", ErrMalformed, "", false, 0},
		{"client id longer than the frame", "0003 0001 00000001 0002 61", ErrMalformed, "", false, 0},
		{"negative key", "ffff 0000 00000001 0000", ErrUnknownKey, "", false, 0},
		{"removed key", "0007 0000 00000001 0000", ErrUnknownKey, "", false, 0},
		{"key above the newest", "0060 0000 00000001 0000", ErrUnknownKey, "", false, 0},

		{"non-flexible", "0003 0001 00000001 0001 61 ffff", nil, "a", false, 2},
		{"null client id", "0003 0001 00000001 ffff", nil, "", true, 0},
		{"client id of -2", "0003 0001 00000001 fffe", nil, "", true, 0},
		{"client id that is not UTF-8", "0003 0001 00000001 0002 c328", nil, "\xc3\x28", false, 0},
		{"flexible", "0003 0009 00000001 0001 61 00 ff", nil, "a", false, 1},
		{"flexible without tags", "0003 0009 00000001 0001 61", ErrMalformed, "a", false, 0},
		{"unknown tag", "0003 0009 00000001 0001 61 01 05 02 abcd ff", nil, "a", false, 1},
		{"tag longer than the frame", "0003 0009 00000001 0001 61 01 05 09 ff", ErrMalformed, "a", false, 0},

		{"SaslHandshake is never flexible", "0011 0001 00000001 0001 61 0005", nil, "a", false, 2},
		{"SaslHandshake of a version that does not exist", "0011 0063 00000001 0001 61 0005", nil, "a", false, 2},
		{"ApiVersions v0", "0012 0000 00000001 0001 61", nil, "a", false, 0},
		{"ApiVersions v3", "0012 0003 00000001 0001 61 00 01 01 00", nil, "a", false, 3},
		{"ApiVersions v99", "0012 0063 00000001 0001 61 00", nil, "a", false, 0},
		{"ApiVersions v99 with a non-flexible header", "0012 0063 00000001 0001 61", ErrMalformed, "a", false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := ParseHeader(unhex(t, c.frame))
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if err == nil && (h.ClientID != c.client || h.ClientIDNull != c.null || len(h.Body) != c.body || h.CorrelationID != 1) {
				t.Errorf("%+v", h)
			}
		})
	}
}

func TestHeaderOfTheSameClientAllocatesNothing(t *testing.T) {
	frame := unhex(t, "0003 0009 00000001 0006 636c69656e74 00 ff")
	var h Header
	if n := testing.AllocsPerRun(100, func() {
		if err := h.Parse(frame); err != nil || h.ClientID != "client" {
			t.Fatal(err, h)
		}
	}); n > 1 {
		t.Errorf("%v allocations", n)
	}
}
