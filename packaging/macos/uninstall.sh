#!/bin/sh
# Takes away what the installer has put here: sudo /usr/local/lib/llm-router/uninstall.sh
# Models, settings and logs lie in homes, and stay. An agent that was installed as a service is taken out before by
# `llm-router node uninstall`.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
command=${here%/lib/llm-router}/bin/llm-router
[ ! -L "$command" ] || rm "$command"
rm -rf "$here"
# The installer's own record; elsewhere than on macOS there is none.
if command -v pkgutil >/dev/null; then
  pkgutil --forget system.llm-router.program
fi
