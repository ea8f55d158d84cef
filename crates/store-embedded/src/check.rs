//! The check.
use std::path::Path;

use crate::directory::OpenError;

/// Placeholder.
pub fn verify(_path: &Path) -> Result<Vec<String>, OpenError> {
    Ok(Vec::new())
}
