#!/usr/bin/env bash
# SNAP, exit and client as three unprivileged processes on one machine, each
# told of the one before it by a ready file. Usage: three-processes.sh [URL]
# It needs snapproxy and curl in PATH.
set -euo pipefail

url=${1:-http://example.com/}
dir=$(mktemp -d)
pids=()
finish() {
	((${#pids[@]} == 0)) || kill "${pids[@]}" 2>/dev/null || true
	wait
	rm -rf "$dir"
}
trap finish EXIT
cd "$dir"

ready() { # FILE: wait for a ready file, or for the end of the role that writes it
	until [ -s "$1" ]; do
		kill -0 "${pids[-1]}" || exit 1
		sleep .1
	done
}

for role in snap exit client; do
	echo "$(snapproxy keygen -o $role.key) $role"
done | tee authorized_keys

snapproxy snap --isd-as 1-ff00:0:110 --listen 127.0.0.1:0 --key snap.key \
	--authorized-keys authorized_keys --ready-file snap.line & pids+=($!)
ready snap.line
# The words of a ready line are the flags of the next role.
# shellcheck disable=SC2046
snapproxy exit $(cat snap.line) --key exit.key --authorized-keys authorized_keys \
	--bind 127.0.0.1:0 --ready-file exit.line & pids+=($!)
ready exit.line
# shellcheck disable=SC2046
snapproxy client $(cat snap.line) $(cat exit.line) --key client.key \
	--socks 0 --http 0 --ready-file client.line & pids+=($!)
ready client.line

read -r socks http <client.line
curl -sS -o /dev/null -w 'SOCKS5: %{http_code}\n' -x "$socks" "$url"
curl -sS -o /dev/null -w 'HTTP:   %{http_code}\n' -x "$http" "$url"
