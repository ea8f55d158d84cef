//! Small documents with compare and set.
//!
//! A document that is deleted leaves a grave for a while: its version and nonce without a value. Without it a
//! request to make the document that slept in a frozen node would find nothing there, and make it again.
//!
//! A document lies in the partition of the first 16 bytes of its key, so that a user's devices, blocks and
//! private map are each one partition. An index lists these fronts for scans over everything; it may list one
//! whose documents are gone.

use std::time::{Duration, Instant};

use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlValue;
use tidings_store::{Document, DocumentKind, PutDocument, PutError, StoreError};

use crate::append::nonce;
use crate::cql::{Conditional, Values, big, blob, tiny};
use crate::rows::{self, Nonce};
use crate::store::{Inner, List};

/// Bytes of a key that choose its partition.
const FRONT: usize = 16;

/// Bytes of a key that choose its part of the index: for ids that begin with the time, seven weeks in one.
const SHARD: usize = 2;

/// How many fronts or shards of the index are read at once.
const INDEX_PAGE: i32 = 500;

/// A document as it is stored, or its grave.
struct Stored {
    version: i64,
    nonce: Nonce,
    /// `None` in a grave.
    value: Option<Vec<u8>>,
}

/// Version, nonce and value; all null where a grave has gone.
type Columns = (Option<i64>, Option<i64>, Option<Vec<u8>>);

impl Stored {
    /// The document's version, 0 if it is not there.
    fn version(&self) -> u64 {
        self.value.as_ref().map_or(0, |_| rows::seq(self.version))
    }
}

impl Inner {
    /// [`tidings_store::Store::document`].
    pub(crate) async fn document(
        &self,
        kind: DocumentKind,
        key: Vec<u8>,
    ) -> Result<Option<Document>, StoreError> {
        let stored = self.stored_document(kind, &key, false).await?;
        Ok(stored.and_then(|stored| {
            Some(Document {
                key,
                version: stored.version(),
                value: stored.value?,
            })
        }))
    }

    async fn stored_document(
        &self,
        kind: DocumentKind,
        key: &[u8],
        serial: bool,
    ) -> Result<Option<Stored>, StoreError> {
        let values = ((kind as u8).cast_signed(), front(key), key);
        let statement = &self.cql.statements.document;
        let row: Option<Columns> = if serial {
            self.cql.first_serial(statement, values).await?
        } else {
            self.cql.first(statement, values).await?
        };
        Ok(row.and_then(|(version, nonce, value)| {
            Some(Stored {
                version: version?,
                nonce: nonce?,
                value,
            })
        }))
    }

    /// [`tidings_store::Store::put_document`].
    pub(crate) async fn put_document(&self, put: PutDocument) -> Result<u64, PutError> {
        let nonce = nonce()?;
        if let (DocumentKind::Notice, Some(value)) = (put.kind, &put.value) {
            return self.put_notice(&put.key, value, nonce).await;
        }
        let end = Instant::now() + self.cql.settings.patience;
        let mut pause = Duration::from_millis(10);
        let mut tries = 0;
        // A try of which nobody knows whether it happened.
        let mut unknown: Option<String> = None;
        if put.value.is_some() {
            self.list_front(put.kind, &put.key).await?;
        }
        loop {
            let stored = self.stored_document(put.kind, &put.key, true).await?;
            let version = stored.as_ref().map_or(0, Stored::version);
            // An earlier try of this very put: it happened.
            if stored.as_ref().is_some_and(|stored| stored.nonce == nonce) {
                return Ok(version);
            }
            if put.expected.is_some_and(|expected| expected != version) {
                return Err(match unknown {
                    // It may have happened before somebody else wrote: that is no conflict.
                    Some(why) => StoreError::Unavailable(why).into(),
                    None => PutError::Conflict { version },
                });
            }
            let next = next_version(stored.as_ref().map_or(0, |stored| stored.version));
            let Some(statement) = self.put_statement(&put, stored.as_ref(), next, nonce) else {
                return Ok(0);
            };
            let outcome = self
                .cql
                .conditional(std::slice::from_ref(&statement), tries)
                .await?;
            let why = match outcome {
                Conditional::Applied if put.value.is_none() => return Ok(0),
                Conditional::Applied => return Ok(rows::seq(next)),
                Conditional::Refused => "somebody else changes it all the time".to_owned(),
                Conditional::Unknown(why) => unknown.insert(why).clone(),
            };
            if Instant::now() + pause >= end {
                return Err(StoreError::Unavailable(why).into());
            }
            tries += 1;
            tokio::time::sleep(pause.mul_f64(0.5 + f64::from(nonce as u8) / 255.0)).await;
            pause = (pause * 2).min(Duration::from_millis(300));
        }
    }

    /// A notice: written once under a key of its own, by many at the same time and side by side, and gone after a
    /// day. No condition (they would contend for one partition), and no index: nobody scans all of them.
    async fn put_notice(&self, key: &[u8], value: &[u8], nonce: Nonce) -> Result<u64, PutError> {
        let kind = (DocumentKind::Notice as u8).cast_signed();
        let version = next_version(0);
        let values = (kind, front(key), key, version, nonce, value);
        self.cql
            .write(&self.cql.statements.put_notice, values)
            .await?;
        Ok(rows::seq(version))
    }

    /// The conditional statement of a put; `None` if what it would delete is not there.
    fn put_statement(
        &self,
        put: &PutDocument,
        stored: Option<&Stored>,
        next: i64,
        nonce: Nonce,
    ) -> Option<(&PreparedStatement, Values)> {
        let statements = &self.cql.statements;
        let place = [
            tiny(put.kind as u8),
            blob(front(&put.key)),
            blob(put.key.clone()),
        ];
        let row = [big(next), big(nonce)];
        let condition = stored.map(|stored| [big(stored.version), big(stored.nonce)]);
        let value = put.value.clone().map(|value| [blob(value)]);
        let statement = match (&value, stored) {
            (Some(_), Some(_)) => &statements.change_document,
            (Some(_), None) => &statements.make_document,
            (None, Some(Stored { value: Some(_), .. })) => &statements.bury_document,
            (None, _) => return None,
        };
        let parts: [&[CqlValue]; 4] = [
            &row,
            value.as_ref().map_or(&[], |value| value),
            &place,
            condition.as_ref().map_or(&[], |condition| condition),
        ];
        Some((statement, parts.concat()))
    }

    /// Writes the index rows that a scan finds the document by; before the document, so that none is missed.
    async fn list_front(&self, kind: DocumentKind, key: &[u8]) -> Result<(), StoreError> {
        let (front, shard) = (front(key), shard(key));
        if self.fronts.is_known(kind, &front) {
            return Ok(());
        }
        let values = ((kind as u8).cast_signed(), &shard, &front);
        self.cql
            .write(&self.cql.statements.put_front, values)
            .await?;
        self.list(
            List::DocumentShards,
            i64::from(kind as u8),
            shard,
            Vec::new(),
            1,
        )
        .await?;
        self.fronts.note(kind, front);
        Ok(())
    }

    /// [`tidings_store::Store::scan_documents`].
    pub(crate) async fn scan_documents(
        &self,
        kind: DocumentKind,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<Vec<Document>, StoreError> {
        let mut scan = Scan {
            kind,
            from: match &after {
                Some(after) if *after >= prefix => after.clone(),
                _ => prefix.clone(),
            },
            is_exclusive: after.as_ref().is_some_and(|after| *after >= prefix),
            prefix,
            limit,
            found: Vec::new(),
        };
        if scan.prefix.len() >= FRONT {
            let front = front(&scan.prefix);
            self.scan_front(&mut scan, front).await?;
            return Ok(scan.found);
        }
        let mut from_shard = shard(&scan.from);
        loop {
            let shards = self
                .listed(
                    List::DocumentShards,
                    i64::from(kind as u8),
                    from_shard,
                    INDEX_PAGE,
                )
                .await?;
            let is_last = shards.len() < INDEX_PAGE as usize;
            let Some(last) = shards.last().map(|(shard, _)| shard.clone()) else {
                return Ok(scan.found);
            };
            for (shard, _) in shards {
                if scan.is_past(&shard) || !self.scan_shard(&mut scan, &shard).await? {
                    return Ok(scan.found);
                }
            }
            if is_last {
                return Ok(scan.found);
            }
            from_shard = [last, vec![0]].concat();
        }
    }

    /// Whether the scan goes on behind this shard.
    async fn scan_shard(&self, scan: &mut Scan, shard: &[u8]) -> Result<bool, StoreError> {
        let mut from = front(&scan.from);
        loop {
            let values = ((scan.kind as u8).cast_signed(), shard, from, INDEX_PAGE);
            let fronts = self
                .cql
                .rows::<(Vec<u8>,)>(&self.cql.statements.fronts, values)
                .await?;
            let is_last = fronts.len() < INDEX_PAGE as usize;
            let Some((last,)) = fronts.last().cloned() else {
                return Ok(true);
            };
            for (front,) in fronts {
                if scan.is_past(&front) {
                    return Ok(false);
                }
                self.scan_front(scan, front).await?;
                if scan.found.len() >= scan.limit {
                    return Ok(false);
                }
            }
            if is_last {
                return Ok(true);
            }
            from = [last, vec![0]].concat();
        }
    }

    async fn scan_front(&self, scan: &mut Scan, front: Vec<u8>) -> Result<(), StoreError> {
        while scan.found.len() < scan.limit {
            let wanted = scan.limit - scan.found.len();
            let statement = if scan.is_exclusive {
                &self.cql.statements.documents_after
            } else {
                &self.cql.statements.documents_up
            };
            let limit = i32::try_from(wanted).unwrap_or(i32::MAX);
            let values = ((scan.kind as u8).cast_signed(), &front, &scan.from, limit);
            let rows = self
                .cql
                .rows::<(Vec<u8>, Option<i64>, Option<Vec<u8>>)>(statement, values)
                .await?;
            let is_last = rows.len() < wanted;
            let last = rows.last().map(|(key, ..)| key.clone());
            let of_prefix = rows
                .into_iter()
                .take_while(|(key, ..)| key.starts_with(&scan.prefix));
            scan.found
                .extend(of_prefix.filter_map(|(key, version, value)| {
                    Some(Document {
                        key,
                        version: rows::seq(version?),
                        value: value?,
                    })
                }));
            match last {
                // Graves took the place of documents.
                Some(last) if !is_last && last.starts_with(&scan.prefix) => {
                    (scan.from, scan.is_exclusive) = (last, true);
                }
                _ => break,
            }
        }
        Ok(())
    }
}

/// A scan under way.
struct Scan {
    kind: DocumentKind,
    prefix: Vec<u8>,
    from: Vec<u8>,
    is_exclusive: bool,
    limit: usize,
    found: Vec<Document>,
}

impl Scan {
    /// Whether keys that begin with `front` lie behind all that begin with the prefix.
    fn is_past(&self, front: &[u8]) -> bool {
        let length = front.len().min(self.prefix.len());
        front[..length] > self.prefix[..length]
    }
}

/// Grows with each write, and is another one for a document made anew: microseconds, if the clock is right, and
/// above the version in the grave in any case.
fn next_version(before: i64) -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.as_micros() as i64);
    now.max(before.saturating_add(1))
}

fn front(key: &[u8]) -> Vec<u8> {
    key[..key.len().min(FRONT)].to_vec()
}

fn shard(key: &[u8]) -> Vec<u8> {
    key[..key.len().min(SHARD)].to_vec()
}
