#!/usr/bin/env bash
# The browser tests drive a real Chromium. Install Debian's where that is possible without asking; otherwise say so.
set -u
for b in "${WINNOW_CHROMIUM:-}" chromium chromium-browser google-chrome; do
  [ -n "$b" ] && command -v "$b" >/dev/null && exit 0
done
as_root=""
[ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null && as_root="sudo -n"; }
if command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || [ -n "$as_root" ]; }; then
  echo "Installing Chromium for the browser tests (Debian package, about a minute)"
  $as_root apt-get -qq update >/dev/null 2>&1
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium >/dev/null 2>&1
fi
command -v chromium >/dev/null || echo "No Chromium here: the browser tests will be skipped (and fail under CI). Install it, or set WINNOW_CHROMIUM=/path/to/chrome."
exit 0
