#!/usr/bin/env bash
# Builds static binaries for the usual systems into dist/, with their checksums.
set -euo pipefail
cd "$(dirname "$0")/.."

version=${1:?usage: scripts/release.sh VERSION}
flags="-s -w -X github.com/turnpike-rtc/turnpike/internal/server.Version=$version"
rm -rf dist
mkdir -p dist
for target in linux/amd64 linux/arm64 linux/arm darwin/arm64; do
  out=dist/turnpike-$version-${target/\//-}
  echo "$out"
  CGO_ENABLED=0 GOOS=${target%/*} GOARCH=${target#*/} go build -trimpath -ldflags "$flags" -o "$out" ./cmd/turnpike
done
(cd dist && sha256sum turnpike-* >SHA256SUMS)
