//! As far as each conversation was printed: one small file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidings_core::ConversationId;
use tidings_protocol::send::Position;

use crate::private;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Saved {
    positions: BTreeMap<String, Position>,
}

/// The positions, in memory and in the file.
#[derive(Debug)]
pub(super) struct Progress {
    path: PathBuf,
    positions: BTreeMap<ConversationId, Position>,
}

impl Progress {
    /// What an earlier run left; nothing if there was none.
    pub(super) fn read(path: PathBuf) -> io::Result<Progress> {
        let saved: Saved = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Saved::default(),
            Err(error) => return Err(error),
        };
        let positions = saved
            .positions
            .into_iter()
            .filter_map(|(id, position)| Some((id.parse().ok()?, position)));
        Ok(Progress {
            path,
            positions: positions.collect(),
        })
    }

    pub(super) fn get(&self, conversation: ConversationId) -> Option<Position> {
        self.positions.get(&conversation).copied()
    }

    pub(super) fn set(&mut self, conversation: ConversationId, position: Position) {
        self.positions.insert(conversation, position);
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn write(&self) -> io::Result<()> {
        let positions = self
            .positions
            .iter()
            .map(|(id, position)| (id.to_string(), *position))
            .collect();
        private::replace(&self.path, &serde_json::to_vec(&Saved { positions })?)
    }
}
