//! Copying and comparing documents. Versions are the target's own: nobody holds one across a restart.

use std::collections::VecDeque;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tidings_store::{Document, DocumentKind, Movable, PutDocument, PutError, StoreError};

use super::note::MOVING;
use super::{Move, MoveError, Round, source, target};

/// Documents read at once.
const PAGE: usize = 1_000;
/// Documents written side by side.
const PUTS_AT_ONCE: usize = 16;

/// The documents of a kind, in the order of their keys.
struct Documents<'s> {
    store: &'s dyn Movable,
    kind: DocumentKind,
    page: VecDeque<Document>,
    last: Option<Vec<u8>>,
    is_over: bool,
}

impl<'s> Documents<'s> {
    fn of(store: &'s dyn Movable, kind: DocumentKind) -> Documents<'s> {
        Documents {
            store,
            kind,
            page: VecDeque::new(),
            last: None,
            is_over: false,
        }
    }

    /// The next, which stays where it is.
    async fn peek(&mut self) -> Result<Option<&Document>, StoreError> {
        while self.page.is_empty() && !self.is_over {
            let last = self.last.clone();
            let page = self
                .store
                .scan_documents(self.kind, Vec::new(), last, PAGE)
                .await?;
            match page.last() {
                Some(last) => self.last = Some(last.key.clone()),
                None => self.is_over = true,
            }
            self.page.extend(page.into_iter().filter(|document| {
                // This one belongs to the target.
                !(self.kind == DocumentKind::Server && document.key == MOVING)
            }));
        }
        Ok(self.page.front())
    }

    fn take(&mut self) -> Option<Document> {
        self.page.pop_front()
    }
}

impl Move {
    /// Brings the target's documents level with the source's, and compares them.
    pub(super) async fn documents(&self) -> Result<Round, MoveError> {
        let mut round = Round::default();
        // Notices tell servers that run what just happened.
        let kinds = DocumentKind::ALL.into_iter();
        for kind in kinds.filter(|kind| *kind != DocumentKind::Notice) {
            let (_, changes) = self.compare(kind).await?;
            round.documents_changed += changes.len() as u64;
            stream::iter(changes)
                .map(|put| async move {
                    match self.target.put_document(put).await {
                        Ok(_) | Err(PutError::Conflict { .. }) => Ok(()),
                        Err(PutError::Store(error)) => Err(target(error)),
                    }
                })
                .buffer_unordered(PUTS_AT_ONCE)
                .try_collect::<Vec<()>>()
                .await?;
            if !self.is_last {
                continue;
            }
            let (count, changes) = self.compare(kind).await?;
            round.documents += count;
            for put in changes {
                round.differ(|| format!("a document of kind {kind:?} ({} bytes)", put.key.len()));
            }
        }
        Ok(round)
    }

    /// How many documents the source has of a kind, and what has to be written for the target to be equal.
    async fn compare(&self, kind: DocumentKind) -> Result<(u64, Vec<PutDocument>), MoveError> {
        let mut ours = Documents::of(&*self.source, kind);
        let mut theirs = Documents::of(&*self.target, kind);
        let (mut count, mut changes) = (0, Vec::new());
        loop {
            let one = ours.peek().await.map_err(source)?;
            let other = theirs.peek().await.map_err(target)?;
            let put = |key: &[u8], value: Option<&[u8]>| PutDocument {
                kind,
                key: key.to_vec(),
                expected: None,
                value: value.map(<[u8]>::to_vec),
            };
            match (one, other) {
                (None, None) => return Ok((count, changes)),
                (Some(one), Some(other)) if one.key == other.key => {
                    if one.value != other.value {
                        changes.push(put(&one.key, Some(&one.value)));
                    }
                    count += 1;
                    ours.take();
                    theirs.take();
                }
                (Some(one), other) if other.is_none_or(|other| one.key < other.key) => {
                    changes.push(put(&one.key, Some(&one.value)));
                    count += 1;
                    ours.take();
                }
                (_, Some(other)) => {
                    changes.push(put(&other.key, None));
                    theirs.take();
                }
                (Some(_), None) => {}
            }
        }
    }
}
