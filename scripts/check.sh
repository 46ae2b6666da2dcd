#!/usr/bin/env bash
# What every commit must pass: format, vet, static analysis, types and lint of the
# TypeScript, race tests of the Go packages, known vulnerabilities.
set -euo pipefail
cd "$(dirname "$0")/.."

staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.1.4

step() { printf '\n== %s\n' "$*"; }

step gofmt
unformatted=$(git ls-files '*.go' | xargs gofmt -l)
if [ -n "$unformatted" ]; then
  printf 'Run gofmt -w on:\n%s\n' "$unformatted" >&2
  exit 1
fi

step go vet
go vet ./...
for tag in e2e bench; do go vet -tags "$tag" ./test; done

step staticcheck
go run "$staticcheck" ./...
for tag in e2e bench; do go run "$staticcheck" -tags "$tag" ./test; done

step TypeScript types and lint
npm run --silent check

step race tests
go test -race -timeout 15m ./...

step known vulnerabilities
report=$(mktemp)
if go run "$govulncheck" ./... >"$report" 2>&1; then
  tail -n 3 "$report"
elif grep -qE 'dial tcp|no such host|connection refused|Forbidden|fetching vulnerabilities|i/o timeout' "$report"; then
  printf '%s\n' '*******************************************************************' \
    '** NOT CHECKED FOR KNOWN VULNERABILITIES: the database of          **' \
    '** govulncheck cannot be reached from here. Run make check where   **' \
    '** it can before you release.                                      **' \
    '*******************************************************************' >&2
else
  cat "$report" >&2
  exit 1
fi
