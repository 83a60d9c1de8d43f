#!/usr/bin/env bash
# Runs the browser tests of ui/e2e against a demo that is started for them, and against an empty backend.
# usage: tests/browser.sh PHAROS_BINARY
set -euo pipefail
pharos=$(realpath "$1")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
pids=()
trap 'kill -INT "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT

# Starts `pharos ARGUMENTS` on free ports; sets `url` to that of its UI once it is ready.
start() {
    local output="$work/$1.out"
    "$pharos" "$@" --data-dir "$work/$1" --listen-ui 127.0.0.1:0 --listen-prometheus 127.0.0.1:0 \
        --listen-otlp-grpc 127.0.0.1:0 --listen-otlp-http 127.0.0.1:0 --listen-zipkin 127.0.0.1:0 \
        --listen-jaeger 127.0.0.1:0 >"$output" &
    pids+=($!)
    for _ in $(seq 300); do
        if grep -q '^ready' "$output"; then
            url="http://$(awk '$1 == "listening" && $2 == "ui" { print $3 }' "$output")"
            return
        fi
        kill -0 "${pids[-1]}" 2>/dev/null || { cat "$output"; return 1; }
        sleep 0.2
    done
    cat "$output"
    echo "pharos $1 was not ready within a minute" >&2
    return 1
}

start serve
export PHAROS_EMPTY_URL=$url
start demo --network 127.0.80
export PHAROS_URL=$url
npm --prefix ui run e2e
