//! What can wait gives way: the threads that bring rows into tables and rewrite tables work through
//! seconds' worth of rows at a time, and commits should not stand behind them for a processor.

/// How much nicer: about a tenth of the share of a thread that is not.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Lowers the priority of this thread and of those that it starts, where threads have priorities of their
/// own.
pub(crate) fn lower() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(%error, "the priority of a thread could not be lowered");
    }
}

/// Runs something on a thread of lower priority: the threads that it starts are of lower priority too.
pub(crate) fn with_lower<T: Send>(run: impl FnOnce() -> T + Send) -> std::thread::Result<T> {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                lower();
                run()
            })
            .join()
    })
}
