#!/usr/bin/env bash
# Run a long, quiet command and say every few seconds how long it has been at it: progress.sh "Title" command...
# Its output goes to .venv/setup.log and is shown whole if it fails.
set -uo pipefail
title=$1; shift
log=.venv/setup.log
CMAKE_ARGS="${CMAKE_ARGS:--DLLAVA_BUILD=OFF}" "$@" >"$log" 2>&1 &
pid=$!
trap 'kill "$pid" 2>/dev/null' INT TERM
start=$SECONDS
while kill -0 "$pid" 2>/dev/null; do
  sleep 1
  step=$(tr '\r' '\n' <"$log" | grep -E '^(Collecting|Building|  Building|Installing|Downloading|  Downloading)' | tail -n 1 | cut -c1-60)
  if [ -t 1 ]; then
    printf '\r\033[K%s, %d:%02d  %s' "$title" $(((SECONDS-start)/60)) $(((SECONDS-start)%60)) "$step"
  elif [ $(((SECONDS-start) % 30)) -eq 0 ]; then
    printf '%s, %d:%02d  %s\n' "$title" $(((SECONDS-start)/60)) $(((SECONDS-start)%60)) "$step"
  fi
done
wait "$pid"; code=$?
[ -t 1 ] && printf '\n'
if [ $code -ne 0 ]; then cat "$log"; echo "$title failed; the log above is kept in $log. Nothing else was changed."; else echo "$title done after $((SECONDS-start)) s"; fi
exit $code
