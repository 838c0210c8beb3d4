// Package statefile keeps small values on disk, each in a checksummed file
// that is replaced as a whole.
//
// A file that cannot be read back exactly as it was saved is ErrCorrupt. Save
// leaves the old value or the new one, whatever happens while it runs; when it
// has returned without an error, it is the new one, and a loss of power does
// not change that. docs/formats/statefile.md has the format.
package statefile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strings"

	"chronik/internal/base/mutant"
	"chronik/internal/base/vfs"
)

var (
	// ErrCorrupt means that the file is not what Save wrote.
	ErrCorrupt = errors.New("state file is corrupt")
	// ErrNotFound means that there is no such file.
	ErrNotFound = errors.New("state file not found")
)

// tempSuffix ends the name of a file that is being written.
const tempSuffix = ".tmp"

// The header of a state file:
//
//	offset | size | field
//	     0 |    4 | magic "CHSF"
//	     4 |    2 | version of this format, 1
//	     6 |    2 | reserved, 0
//	     8 |    8 | length of the value
//	    16 |    4 | CRC-32C of bytes 0 to 15 and of the value
//	    20 |      | value
const (
	headerSize = 20
	magic      = "CHSF"
	version    = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode returns the bytes of a state file that holds value.
func Encode(value []byte) []byte {
	b := make([]byte, headerSize, headerSize+len(value))
	copy(b, magic)
	binary.BigEndian.PutUint16(b[4:], version)
	binary.BigEndian.PutUint64(b[8:], uint64(len(value)))
	crc := crc32.Update(crc32.Checksum(b[:16], castagnoli), castagnoli, value)
	binary.BigEndian.PutUint32(b[16:], crc)
	return append(b, value...)
}

// Decode returns the value in the bytes of a state file. It aliases b.
func Decode(b []byte) ([]byte, error) {
	switch {
	case len(b) < headerSize:
		return nil, fmt.Errorf("%w: %d bytes are less than a header", ErrCorrupt, len(b))
	case string(b[:4]) != magic:
		return nil, fmt.Errorf("%w: magic %q", ErrCorrupt, b[:4])
	}
	value := b[headerSize:]
	if crc := crc32.Update(crc32.Checksum(b[:16], castagnoli), castagnoli, value); crc != binary.BigEndian.Uint32(b[16:]) {
		return nil, fmt.Errorf("%w: checksum does not match", ErrCorrupt)
	}
	if v := binary.BigEndian.Uint16(b[4:]); v != version {
		return nil, fmt.Errorf("state file has version %d, this program reads %d", v, version)
	}
	if n := binary.BigEndian.Uint64(b[8:]); n != uint64(len(value)) {
		return nil, fmt.Errorf("%w: length %d, found %d", ErrCorrupt, n, len(value))
	}
	return value, nil
}

// Save replaces the file name with one that holds value, durably. When it
// fails, the file is as it was before, or holds value. Two calls with one name
// must not run at the same time.
func Save(fs vfs.FS, name string, value []byte) error {
	temp := name + tempSuffix
	if err := writeSynced(fs, temp, Encode(value)); err != nil {
		// What is left of the attempt is in nobody's way if it stays.
		_ = fs.Remove(temp)
		return fmt.Errorf("save %s: %w", name, err)
	}
	if err := fs.Rename(temp, name); err != nil {
		_ = fs.Remove(temp)
		return fmt.Errorf("save %s: %w", name, err)
	}
	if err := fs.SyncDir(filepath.Dir(name)); err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	return nil
}

func writeSynced(fs vfs.FS, name string, b []byte) error {
	f, err := fs.Open(name, vfs.ReadWrite|vfs.Create|vfs.Truncate)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil && !mutant.On(mutant.StateUnsynced) {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// Load returns what Save put into the file. ErrNotFound means that there is no
// such file, ErrCorrupt that it is damaged. What an interrupted Save has left
// behind plays no part.
func Load(fs vfs.FS, name string) ([]byte, error) {
	b, err := vfs.ReadFile(fs, name)
	if errors.Is(err, vfs.ErrNotExist) {
		return nil, fmt.Errorf("load %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", name, err)
	}
	value, err := Decode(b)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", name, err)
	}
	return value, nil
}

// Remove removes the file, durably. It is no error when there is none.
func Remove(fs vfs.FS, name string) error {
	if err := fs.Remove(name); err != nil && !errors.Is(err, vfs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return fs.SyncDir(filepath.Dir(name))
}

// Clean removes what interrupted calls of Save have left in the directory and
// returns how many files that were. No Save may run in it meanwhile.
func Clean(fs vfs.FS, dir string) (int, error) {
	entries, err := fs.List(dir)
	if err != nil {
		return 0, fmt.Errorf("clean %s: %w", dir, err)
	}
	n := 0
	for _, e := range entries {
		if e.Dir || !strings.HasSuffix(e.Name, tempSuffix) {
			continue
		}
		if err := fs.Remove(filepath.Join(dir, e.Name)); err != nil {
			return n, fmt.Errorf("clean %s: %w", dir, err)
		}
		n++
	}
	return n, nil
}
