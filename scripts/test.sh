#!/usr/bin/env bash
# Everything the project knows about itself. Needs the built program (make build).
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step 'Go packages: unit tests, race detector, fuzz seeds, shape of the code, both databases, both buses'
go test -race -timeout 15m ./...

step 'TypeScript: units, and the client against a device in Chromium'
npm test

step 'The whole: processes, crashes, two nodes, other people'"'"'s clients'
go test -tags e2e -count=1 -timeout 20m ./test

step 'The pages, in Chromium'
npm test -w test/browser
