//! The program `tidings`.

use std::process::ExitCode;

/// Much of what one thread allocates another frees: this allocator takes no lock for it
/// (docs/decisions/allocator.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidings_server::cli::main()
}
