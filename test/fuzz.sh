#!/usr/bin/env bash
# Runs every fuzz target of the project for a short time each: test/fuzz.sh [TIME or COUNTx], 5000x by default.
# A count, because the fuzzer sometimes reports the end of its time as a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-5000x}
grep -rlE '^func Fuzz' --include='*_test.go' internal | sort | while read -r file; do
  pkg=./$(dirname "$file")
  grep -oE '^func Fuzz[A-Za-z0-9_]*' "$file" | sed 's/^func //' | while read -r target; do
    echo "fuzz $pkg $target"
    go test "$pkg" -run '^$' -fuzz "^$target\$" -fuzztime "$time"
  done
done
