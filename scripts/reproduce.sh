#!/usr/bin/env bash
# Everything at one scale, from the repository: scripts/reproduce.sh laptop data.root=DIR cifar=cifar10_jpeg
set -euo pipefail
cd "$(dirname "$0")/.."
make .venv/installed
exec .venv/bin/bnrepro reproduce "scale=${1:-quick}" "${@:2}"
