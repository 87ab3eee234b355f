#!/bin/sh
# Puts what package-lock.json names beside it, and touches the file STAMP: install.sh STAMP
# Without npm, or a node that is new enough (18.3), it does nothing: the tests that need them say so.
set -eu

node -e 'process.exit("parseArgs" in require("util") ? 0 : 1)' 2>/dev/null || exit 0
command -v npm >/dev/null || exit 0

npm ci --prefix "$(dirname "$0")" >/dev/null || {
    echo "npm could not install the packages of tests/node/package-lock.json; its message is above" >&2
    exit 1
}
touch "$1"
