# Debian roots for tests and packages; sourced by bash.

# make_root SUITE TAR PACKAGES: makes the archive of a root, unless it is there with these packages.
make_root() {
    local suite=$1 tar=$2 packages=$3 mirror key=/usr/share/keyrings/debian-archive-keyring.gpg
    [ ! -f "$tar" ] || [ "$(cat "$tar.packages" 2>/dev/null)" != "$packages" ] || return 0
    mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/*.sources 2>/dev/null || true)
    [ -n "$mirror" ] || mirror=$(awk '$1 == "deb" {print $2; exit}' /etc/apt/sources.list)
    [ -n "$mirror" ] || return 1
    mkdir -p "$(dirname "$tar")"
    mmdebstrap --quiet --format=tar --variant=minbase --include="$packages" --keyring=$key \
        --aptopt='Acquire::Check-Valid-Until "false"' \
        "$suite" "$tar.new" "deb $mirror $suite main" || return 1
    mv "$tar.new" "$tar"
    echo "$packages" >"$tar.packages"
}

# unpack_root TAR ROOT: a fresh root, without device nodes.
unpack_root() {
    rm -rf "$2"
    mkdir -p "$2"
    tar -C "$2" -xf "$1" --exclude='./dev/*'
}
