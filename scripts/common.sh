# What `run`, `test` and the scripts beside this file share. Sourced, not run.
# shellcheck shell=bash

# Rustup's folder goes first even when another cargo is in PATH: a distribution's toolchain (which
# scripts/check-wasm may install) must not quietly take over the build.
if [ -d "${CARGO_HOME:-$HOME/.cargo}/bin" ]; then
    export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
fi

# Finished tools are kept outside the clone, so that a second clone does not build them again.
# shellcheck disable=SC2034 # Used by the scripts that source this file.
tools_dir="${XDG_CACHE_HOME:-$HOME/.cache}/tidings-tools"

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "error: $*"
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# The oldest Rust that the workspace accepts, from Cargo.toml, its only home.
rust_version() { sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml; }

# True if version $1 is at least version $2.
version_at_least() { [ "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# Whether rustup may download. RUSTUP_AUTO_INSTALL=0 says that it may not.
rustup_may_download() { have rustup && [ "${RUSTUP_AUTO_INSTALL:-1}" != 0 ]; }

# Runs a command as root.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        have sudo || fail "please run this as root: $*"
        sudo "$@"
    fi
}

# Installs Debian packages. Called only once something is known to be missing.
apt_install() {
    have apt-get || fail "this needs $* (Debian's names), and there is no apt-get: please install them by hand"
    say "Installing with apt-get: $*"
    local output install=(as_root env DEBIAN_FRONTEND=noninteractive
        apt-get install --yes --quiet=2 --no-install-recommends -o DPkg::Lock::Timeout=300 "$@")
    # The package lists may be absent or old; refreshing them is the slow half, so only then.
    "${install[@]}" >/dev/null 2>&1 && return
    output=$(as_root apt-get update --quiet=2 2>&1) || say "$output"
    output=$("${install[@]}" 2>&1) || fail "apt-get could not install $*:
$output"
}

# SQLite is bundled as C source, and rustc links through cc.
need_c_compiler() {
    have cc || apt_install gcc libc6-dev
}

# Stops with advice unless there is a Rust that can build the workspace.
need_rust() {
    have cargo || fail "cargo is not installed. Install Rust from https://rustup.rs and try again:
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
    local wanted found
    wanted=$(rust_version)
    found=$(rustc --version | cut -d ' ' -f 2)
    version_at_least "$found" "$wanted" && return
    rustup_may_download || fail "Tidings needs Rust $wanted or newer; this is $found. Try 'rustup update stable'"
    say "Rust $found is older than $wanted: installing $wanted with rustup"
    rustup toolchain install "$wanted" --profile minimal --component clippy --component rustfmt
    export RUSTUP_TOOLCHAIN=$wanted
}

# As need_rust, then prefers exactly that version: a newer rustfmt or clippy has opinions which this
# code has not met yet. Without it a newer one serves.
need_checking_rust() {
    need_rust
    local wanted found toolchain
    wanted=$(rust_version)
    found=$(rustc --version | cut -d ' ' -f 2)
    if [[ $found != "$wanted".* ]] && have rustup; then
        toolchain=$(rustup toolchain list | sed -n "s/^\(${wanted//./\\.}[.-][^ ]*\).*/\1/p" | head -n 1)
        if [ -z "$toolchain" ] && rustup_may_download; then
            say "Installing Rust $wanted with rustup: the checks are written for it, not for $found"
            rustup toolchain install "$wanted" --profile minimal --component clippy --component rustfmt
            toolchain=$wanted
        fi
        if [ -n "$toolchain" ]; then
            export RUSTUP_TOOLCHAIN=$toolchain
        else
            say "note: checking with Rust $found; the lints are written for $wanted and may differ"
        fi
    fi
    if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
        rustup_may_download || fail "cargo fmt or cargo clippy is missing. Try 'rustup component add rustfmt clippy'"
        rustup component add rustfmt clippy
    fi
}
