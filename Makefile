# What a developer types. CI runs .ci/run, which calls the same.

.PHONY: build test check race lint fuzz chaos compat docs

build:
	CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o bin/chronik ./cmd/chronik

test:
	go test ./...

race:
	go test -race ./internal/core/... ./internal/host/... ./internal/storage/... ./internal/edge/... ./internal/api/...

lint:
	@test -z "$$(gofmt -l cmd internal test)" || { gofmt -l cmd internal test; echo "not gofmt-ed: run gofmt -w"; exit 1; }
	go vet ./...
	golangci-lint run

check: lint test race

# A short run of every fuzz target, as in CI; FUZZTIME=10m for a long one.
FUZZTIME ?= 5000x
fuzz:
	./test/fuzz.sh $(FUZZTIME)

# Real processes under a mix of faults, with checkers; as root it also breaks networks and disks.
# CHAOS_SEED draws the same faults again, CHAOS_FAULTS="pause,bridge" only some.
CHAOS_MINUTES ?= 10
chaos:
	CHAOS_MINUTES=$(CHAOS_MINUTES) go test ./test/chaos/soak -run TestSoak -count=1 -v -timeout 0

# The suites with real clients and a real Apache Kafka; they install what they need.
compat:
	./test/compat/run

docs:
	go generate ./internal/edge/config
