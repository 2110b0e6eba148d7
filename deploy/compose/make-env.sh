#!/bin/sh
# Draws the two secrets of compose.yaml into .env beside it, once: what is there stays.
set -eu
umask 077
file=$(dirname "$0")/.env
[ ! -e "$file" ] || exit 0
draw() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
printf 'POSTGRES_PASSWORD=%s\nJOIN_TOKEN=%s\n' "$(draw)" "$(draw)" > "$file"
