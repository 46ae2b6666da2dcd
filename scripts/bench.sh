#!/usr/bin/env bash
# Measures what docs/benchmarks.md shows, and draws that page anew.
#   scripts/bench.sh                 everything, in about ten minutes
#   scripts/bench.sh verify admit    only these, of: verify admit idle connect
#   QUICK=1 scripts/bench.sh         less of it, in a few minutes; prints, and leaves the page alone
# Close other programs first: what they take is missing from the figures.
set -euo pipefail
cd "$(dirname "$0")/.."

all=(verify admit idle connect)
[ $# -gt 0 ] || set -- "${all[@]}"

tests=
for name in "$@"; do
  case " ${all[*]} " in
    *" $name "*) tests="${tests:+$tests|}${name^}" ;;
    *) echo "bench.sh: there is no measurement \"$name\"; there are: ${all[*]}" >&2; exit 2 ;;
  esac
done

# These two measure the built program; make has built it when it calls this.
case " $* " in
  *" idle "* | *" connect "*) [ -n "${MAKELEVEL:-}" ] || make build ;;
esac

# Data and databases of the measurements lie in TMPDIR: put it on the disk in question.
export TURNPIKE_BENCH="$*"
exec go test -tags bench -count=1 -timeout 30m -v -run "^TestBench($tests)\$" ./test
