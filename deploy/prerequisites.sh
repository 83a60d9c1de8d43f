#!/usr/bin/env bash
# Installs the Debian packages named as arguments where they are missing, if this is a Debian and we may; otherwise
# says in one line what to install.
set -euo pipefail

present() {
    case "$1" in
        python3-venv) python3 -c 'import venv, ensurepip' 2>/dev/null ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

missing=()
for package in "$@"; do
    present "$package" || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "please install: ${missing[*]} (Debian: apt-get install ${missing[*]})" >&2
    exit 1
fi

echo "installing ${missing[*]}"
# Only the programs are wanted, not services that start with the machine.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
