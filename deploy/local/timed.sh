#!/bin/sh
# timed.sh NAME COMMAND...: run COMMAND and leave its seconds in build/timings/NAME, for the demonstration's summary.
set -eu

name=$1
shift
begin=$(date +%s.%N)
"$@"
mkdir -p build/timings
seconds=$(echo "$begin $(date +%s.%N)" | awk '{printf "%.1f", $2 - $1}')
echo "$seconds" >"build/timings/$name"
echo "== $name took $seconds s"
