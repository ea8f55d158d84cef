//! Logs through `tracing`, on standard error: a line for people or a JSON object. Never the content of
//! messages, tokens or passwords, which is why of a panic only its place is told and such words as stand
//! in the source.

use std::io::IsTerminal;
use std::sync::Arc;

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogSettings};
use crate::metrics::Metrics;

pub(super) fn start(settings: &LogSettings, metrics: Arc<Metrics>) {
    let (filter, wrong) = match EnvFilter::try_new(&settings.filter) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let started = match settings.format {
        LogFormat::Human => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if let Err(error) = started {
        eprintln!("tidings: logging could not be started: {error}");
    }
    if let Some(error) = wrong {
        tracing::warn!(%error, "the setting log.filter is wrong; logging at info");
    }
    std::panic::set_hook(Box::new(move |panic| {
        metrics.panicked();
        let words = panic.payload().downcast_ref::<&'static str>();
        tracing::error!(
            place = panic.location().map(tracing::field::display),
            words,
            backtrace = %std::backtrace::Backtrace::capture(),
            "a bug: panic"
        );
    }));
}
