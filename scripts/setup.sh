#!/usr/bin/env bash
# Installs, or clearly names, what a make target needs.
#   scripts/setup.sh build   Go, Node.js, the npm packages
#   scripts/setup.sh check   the same
#   scripts/setup.sh test    the same, and the real parts the tests use
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()

# need NAME COMMAND HINT: notes a missing program.
need() {
  command -v "$2" >/dev/null 2>&1 || missing+=("$1: $3")
}

fail_if_missing() {
  [ ${#missing[@]} -eq 0 ] && return
  echo "Turnpike needs, and did not find:" >&2
  printf '  - %s\n' "${missing[@]}" >&2
  exit 1
}

# apt_get PACKAGE...: installs Debian packages as root, once the lists are there.
apt_get() {
  echo "Installing: $*"
  local log; log=$(mktemp)
  if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    return 1
  fi
}

npm_packages() {
  if [ ! -d node_modules ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    echo "Installing the npm packages"
    npm ci --no-audit --no-fund --loglevel=error
  fi
}

toolchains() {
  need "Go 1.26 or newer" go "https://go.dev/dl/"
  need "Node.js 20 or newer, with npm" npm "https://nodejs.org/"
  fail_if_missing
  npm_packages
}

# The real parts of the tests: a browser, a database, a bus, and other people's media tools.
real_parts() {
  local packages=()
  command -v chromium >/dev/null || packages+=(chromium)
  command -v ffmpeg >/dev/null || packages+=(ffmpeg)
  command -v nats-server >/dev/null || [ -x /usr/sbin/nats-server ] || packages+=(nats-server)
  ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null || packages+=(postgresql)
  /usr/bin/python3 -c 'import aiortc' 2>/dev/null || packages+=(python3-aiortc)
  command -v ip >/dev/null || packages+=(iproute2)
  command -v nft >/dev/null || packages+=(nftables)
  command -v curl >/dev/null || packages+=(curl)
  command -v openssl >/dev/null || packages+=(openssl)
  [ ${#packages[@]} -eq 0 ] && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt_get "${packages[@]}"
    return
  fi
  missing+=("for the tests, these Debian packages or their like: ${packages[*]} (as root, make test installs them)")
  fail_if_missing
}

toolchains
if [ "${1:-build}" = test ]; then
  real_parts
fi
