#!/bin/sh
# setup.sh - installs the Debian packages that clipipe needs and that are missing.
#
#     sh pipelines/setup.sh
#
# Does nothing where all are there. Needs root, or sudo, only where something is missing.
set -eu

packages="gcc g++ make pkg-config libc6-dev libgomp1 libarchive-dev libjpeg62-turbo-dev libwebp-dev
libpng-dev libzstd-dev zlib1g-dev libjansson-dev libutf8proc-dev libdnnl-dev libpango1.0-dev
fonts-dejavu-core zstd gnuplot-nox"

missing=
for package in $packages; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo "setup: all packages are installed"
    exit 0
fi

as_root=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "setup: install as root:$missing" >&2
        exit 69
    }
    as_root=sudo
fi
echo "setup: installing$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# shellcheck disable=SC2086 # a list of words
$as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
