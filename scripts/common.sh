# What every script does first: find the tools, build the programs. To be sourced, from the repository's root.

# Stops the script with one sentence.
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Finds Rust and the two programs that libjpeg-turbo is built with; installs those where it may, and the packages it is
# given.
prepare() {
    command -v cargo >/dev/null || fail "cargo is missing: install Rust 1.95 or newer from https://rustup.rs"
    local missing=("$@")
    { command -v cc && command -v make; } >/dev/null || missing+=(build-essential)
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

# Prints the packages that tests of `--device wgpu` lack. Any Vulkan driver serves; Mesa's has one that is only software.
vulkan_missing() {
    local loader driver
    loader=$(PATH=$PATH:/usr/sbin:/sbin ldconfig -p | sed -n '/libvulkan\.so\.1 /p')
    [ -n "$loader" ] || echo libvulkan1
    for driver in /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json; do
        [ ! -e "$driver" ] || return 0
    done
    echo mesa-vulkan-drivers
}

# Builds loader and trainer, and says where they are. The first time this takes minutes: burn is large.
build() {
    cargo build --release --package batchmill-loader --package batchmill-trainer
    local target
    target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
    loader=$target/release/loader
    trainer=$target/release/trainer
}
