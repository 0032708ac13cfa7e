# What every script does first: find the tools, build the programs. To be sourced, from the repository's root.

# Where cargo puts what it builds.
target=${CARGO_TARGET_DIR:-target}

# Stops the script with one sentence.
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Finds Rust and the two programs that libjpeg-turbo is built with; installs those where it may.
prepare() {
    command -v cargo >/dev/null || fail "cargo is missing: install Rust 1.95 or newer from https://rustup.rs"
    local missing=()
    command -v cc >/dev/null || missing+=(gcc)
    command -v cmake >/dev/null || missing+=(cmake)
    command -v nasm >/dev/null || missing+=(nasm)
    [ ${#missing[@]} -gt 0 ] || return 0
    local remedy="apt-get install -y ${missing[*]}"
    command -v apt-get >/dev/null || fail "${missing[*]} missing: install with your system's package manager"
    if [ "$(id -u)" = 0 ]; then
        echo "installing ${missing[*]}"
        { apt-get update && DEBIAN_FRONTEND=noninteractive $remedy; } >/dev/null || fail "this did not work: $remedy"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        echo "installing ${missing[*]}"
        { sudo apt-get update && sudo DEBIAN_FRONTEND=noninteractive $remedy; } >/dev/null ||
            fail "this did not work: sudo $remedy"
    else
        fail "${missing[*]} missing: run  sudo $remedy  and start again"
    fi
}

# Builds loader and trainer. The first time this takes minutes: burn is large.
build() {
    cargo build --release --package batchmill-loader --package batchmill-trainer "$@"
}
