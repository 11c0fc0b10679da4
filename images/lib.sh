# SPDX-License-Identifier: MIT
# Shared by the recipes and by tests/run.sh: packages, progress, places. Sourced, not run.
#
# Everything made here goes to $PVEMU_CACHE (default: cache/ in the checkout), which git ignores.

set -eu
# The system's own tools first: what is installed by package name is what is used.
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
export PATH
pvemu_top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
: "${PVEMU_CACHE:=$pvemu_top/cache}"
pvemu_step=0

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
# step "text": one line of progress with the seconds so far.
step() {
    pvemu_step=$((pvemu_step + 1))
    printf '[%3d s] %s\n' "$SECONDS" "$*" >&2
}

# Runs a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        die "'$*' needs root, and there is no sudo"
    fi
}

# Runs a command as the user who called sudo, so that files in the checkout stay theirs.
as_user() {
    if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ] && [ "${SUDO_USER}" != root ]; then
        sudo -u "$SUDO_USER" -- env HOME="$(getent passwd "$SUDO_USER" | cut -d: -f6)" PVEMU_CACHE="$PVEMU_CACHE" "$@"
    else
        "$@"
    fi
}

apt_update_once() {
    if [ -z "${PVEMU_APT_UPDATED:-}" ]; then
        as_root apt-get update -qq >&2 || die "apt-get update failed"
        export PVEMU_APT_UPDATED=1
    fi
}

# need PACKAGE...: installs what is not there.
need() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    step "installing ${missing[*]}"
    apt_update_once
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
        die "cannot install: ${missing[*]}"
}

# apt_other i386|trixie PROGRAM ARGUMENT...: apt-get or apt-cache for packages of another architecture or of the next
# Debian, with lists, caches and settings of its own in $PVEMU_CACHE: the system keeps what it has, and nothing is
# installed. Needs no root. The package sources are the system's own.
apt_other() {
    local kind=$1 root=$PVEMU_CACHE/apt-$1 arch=amd64 suite=$1 file
    shift
    if [ "$kind" = i386 ]; then arch=i386 suite=bookworm; fi
    if [ ! -f "$root/apt.conf" ]; then
        rm -rf "$root"
        mkdir -p "$root"/etc/apt/{apt.conf.d,preferences.d,sources.list.d} "$root"/var/lib/apt/lists/partial \
            "$root"/var/cache/apt/archives/partial "$root"/var/lib/dpkg
        : >"$root/var/lib/dpkg/status"
        for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
            if [ -s "$file" ] && grep -q bookworm "$file" && grep -Eq '^(URIs:|deb) .*debian' "$file"; then
                sed "s/bookworm/$suite/g" "$file" >"$root/etc/apt/sources.list.d/$(basename "$file")"
            fi
        done
        {
            apt-config dump | grep -E '^Acquire::(http|https|Retries|Check-)' || true # a proxy, say
            printf '%s;\n' "Dir \"$root\"" "Dir::State::status \"$root/var/lib/dpkg/status\"" \
                'Dir::Etc::trustedparts "/etc/apt/trusted.gpg.d"' "APT::Architecture \"$arch\"" \
                "APT::Architectures { \"$arch\"; }" 'APT::Sandbox::User "root"' 'Acquire::Languages "none"'
        } >"$root/apt.conf.tmp"
        mv "$root/apt.conf.tmp" "$root/apt.conf"
    fi
    APT_CONFIG=$root/apt.conf "$@"
}
apt_i386() { apt_other i386 "$@"; }

# fetch_i386 PACKAGE DIR: unpacks the newest version of an i386 package into a folder.
fetch_i386() {
    local package=$1 dir=$2
    rm -rf "$dir"
    mkdir -p "$dir"
    dir=$(realpath "$dir")
    (cd "$dir" && apt_i386 apt-get download -qq "$package") >&2 || die "cannot fetch $package for i386"
    dpkg-deb -x "$dir"/*.deb "$dir"
    rm -f "$dir"/*.deb
}

# apt_other_update i386|trixie: its package lists, once in a run. A source whose mirror is being renewed is left out.
apt_other_update() {
    local done=PVEMU_APT_${1^^}_UPDATED
    if [ -z "${!done:-}" ]; then
        apt_other "$1" apt-get update -qq >&2 || say "not all package lists for $1 could be read"
        export "$done=1"
    fi
}
apt_i386_update() { apt_other_update i386; }

# What building pvemu needs.
need_build() {
    need gcc meson ninja-build pkg-config python3 libglib2.0-dev libjson-glib-dev libslirp-dev libext2fs-dev \
        zlib1g-dev liblzma-dev libzstd-dev liblz4-dev libbz2-dev libseccomp-dev libxen-dev libc6-dev
}

# build_pvemu: release build in build/, prints the path of the binary.
build_pvemu() {
    local dir="$pvemu_top/build"
    if [ ! -f "$dir/build.ninja" ]; then
        as_user meson setup "$dir" "$pvemu_top" >"${TMPDIR:-/tmp}/pvemu-meson.$$" 2>&1 ||
            { cat "${TMPDIR:-/tmp}/pvemu-meson.$$" >&2; die "meson setup failed"; }
        rm -f "${TMPDIR:-/tmp}/pvemu-meson.$$"
    fi
    as_user ninja -C "$dir" src/pvemu >&2
    echo "$dir/src/pvemu"
}
