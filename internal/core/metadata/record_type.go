package metadata

type recordType uint8
