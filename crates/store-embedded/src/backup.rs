//! Backups.
use std::path::Path;

use tidings_store::StoreError;

use crate::read::Reader;

/// Why.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store.
    #[error(transparent)]
    Store(StoreError),
}

/// What.
#[derive(Debug)]
pub struct BackupReport {}

pub(crate) fn copy(_reader: &Reader, _destination: &Path) -> Result<BackupReport, BackupError> {
    Ok(BackupReport {})
}

/// New.
pub fn new_generation(_path: &Path) -> Result<(), StoreError> {
    Ok(())
}
