#!/bin/sh
# Does the program run on this machine? smoke.sh PROGRAM: router and node are started in a home of their own, and the
# built-in model has to answer within a minute. Not only for Linux: Git's shell does on Windows.
set -eu

program=$1
home=$(mktemp -d)
router=http://127.0.0.1:${PORT:-18080}

"$program" up --home "$home" --port "${router##*:}" --node-port 0 >"$home/said" 2>&1 &
started=$!
trap 'kill $started 2>/dev/null || true; wait $started 2>/dev/null || true' EXIT

left=60
until answer=$("$program" chat --router "$router" hello-world hi 2>"$home/why") && [ -n "$answer" ]; do
  left=$((left - 1))
  if [ $left = 0 ] || ! kill -0 $started 2>/dev/null; then
    cat "$home/said" "$home/why" >&2
    exit 1
  fi
  sleep 1
done
echo "$answer"
