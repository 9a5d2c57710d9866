#!/usr/bin/env bash
# Instructions per request of the simulator, by callgrind: a figure without noise.
#
#   benches/instructions.sh [CASE...]      default: tutorial multiturn kv-pressure
#
# Prints `<case> <instructions/request>`. A case is run once more in a second process; the
# difference of the two counts is one run, without start-up, trace and first allocation.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v valgrind >/dev/null || { echo "valgrind is not installed" >&2; exit 1; }
binary=$(cargo bench --bench core --no-run --message-format=json 2>/dev/null |
  sed -n 's/.*"executable":"\([^"]*\/core-[^"]*\)".*/\1/p' | tail -n 1)
count() {
  BLIS_OPT_BENCH_REQUESTS=20000 BLIS_OPT_BENCH_RUNS=$2 valgrind --tool=callgrind \
    --callgrind-out-file=/dev/null "$binary" "=$1" 2>&1 >/dev/null |
    sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}
for case in "${@:-tutorial multiturn kv-pressure}"; do
  for name in $case; do
    one=$(count "$name" 1)
    two=$(count "$name" 2)
    echo "$name $(((two - one) / 20000))"
  done
done
