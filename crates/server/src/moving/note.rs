//! What is written down about a move, in documents of the stores: of which deployment it is, and whether it is
//! finished.

use tidings_core::codec::{DecodeError, Reader, Writer};
use tidings_store::{Document, DocumentKind, Movable, PutDocument, PutError, Store, StoreError};

use super::{Move, MoveError, source, target};
use crate::clock::random;

/// Whose data this is: made when a deployment is first moved, and moved with it.
const DEPLOYMENT: &[u8] = b"deployment";
/// In a target: which deployment is moved here, and how far that is.
pub(super) const MOVING: &[u8] = b"moving";

/// What stands in a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Note {
    deployment: [u8; 16],
    is_finished: bool,
}

impl Note {
    fn encode(self) -> Vec<u8> {
        let mut writer = Writer::versioned(1, 18);
        writer.id(&self.deployment);
        writer.flag(self.is_finished);
        writer.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Note, StoreError> {
        let read = || -> Result<Note, DecodeError> {
            let mut reader = Reader::versioned(1, bytes)?;
            let note = Note {
                deployment: reader.id()?,
                is_finished: reader.flag()?,
            };
            reader.finish()?;
            Ok(note)
        };
        read().map_err(|error| StoreError::Damaged(error.to_string()))
    }
}

/// Why a store is not served.
#[derive(Debug, thiserror::Error)]
pub enum NotServed {
    /// Only a part of a deployment is in it.
    #[error(
        "a deployment is being moved into this store, and that is not finished: stop its servers and repeat \
         `tidings move` until it says 0 left"
    )]
    Unfinished,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether a store may be served: not while a deployment is being moved into it. From now on it is a
/// deployment of its own, and no further round of a move goes into it.
///
/// # Errors
/// When it may not, or the store fails.
pub async fn may_serve(store: &dyn Store) -> Result<(), NotServed> {
    let Some(document) = server_document(store, MOVING).await? else {
        return Ok(());
    };
    if !Note::decode(&document.value)?.is_finished {
        return Err(NotServed::Unfinished);
    }
    put(store, MOVING, None, None).await?;
    Ok(())
}

impl Move {
    /// Makes sure that the target is for this move, and writes that down.
    pub(super) async fn begin(&self) -> Result<(), MoveError> {
        let deployment = self.deployment().await?;
        let there = server_document(&*self.target, MOVING).await;
        match there.map_err(target)? {
            Some(document) => {
                let note = Note::decode(&document.value).map_err(target)?;
                if note.deployment != deployment {
                    return Err(MoveError::Occupied("is that of another deployment's move"));
                }
            }
            None if is_empty(&*self.target).await.map_err(target)? => {}
            None => return Err(MoveError::Occupied("holds something already")),
        }
        // Also after a finished move whose target was never served: it goes on.
        self.note(deployment, false).await
    }

    /// Writes down that everything is in the target.
    pub(super) async fn finish(&self) -> Result<(), MoveError> {
        let deployment = self.deployment().await?;
        self.note(deployment, true).await
    }

    async fn note(&self, deployment: [u8; 16], is_finished: bool) -> Result<(), MoveError> {
        let note = Note {
            deployment,
            is_finished,
        };
        let written = put(&*self.target, MOVING, None, Some(note.encode())).await;
        written.map(|_| ()).map_err(target)
    }

    /// The id of what is moved, which it gets now if it has none.
    async fn deployment(&self) -> Result<[u8; 16], MoveError> {
        loop {
            let there = server_document(&*self.source, DEPLOYMENT).await;
            let id = there
                .map_err(source)?
                .and_then(|document| <[u8; 16]>::try_from(document.value.as_slice()).ok());
            if let Some(id) = id {
                return Ok(id);
            }
            let id: [u8; 16] = random();
            put(&*self.source, DEPLOYMENT, Some(0), Some(id.to_vec()))
                .await
                .map_err(source)?;
        }
    }
}

async fn server_document(store: &dyn Store, key: &[u8]) -> Result<Option<Document>, StoreError> {
    store.document(DocumentKind::Server, key.to_vec()).await
}

/// Whether it was written: not if somebody else was first.
async fn put(
    store: &dyn Store,
    key: &[u8],
    expected: Option<u64>,
    value: Option<Vec<u8>>,
) -> Result<bool, StoreError> {
    let put = PutDocument {
        kind: DocumentKind::Server,
        key: key.to_vec(),
        expected,
        value,
    };
    match store.put_document(put).await {
        Ok(_) => Ok(true),
        Err(PutError::Conflict { .. }) => Ok(false),
        Err(PutError::Store(error)) => Err(error),
    }
}

async fn is_empty(store: &dyn Movable) -> Result<bool, StoreError> {
    for kind in DocumentKind::ALL {
        let some = store.scan_documents(kind, Vec::new(), None, 1).await?;
        if !some.is_empty() {
            return Ok(false);
        }
    }
    Ok(store.all_logs().await?.is_empty())
}
