//! What is durable in the journal is brought into the tables and body files, some seconds' worth at a time
//! and out of the way of commits: by a thread of its own, and once when the store opens, for what a crash
//! left in the journal.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use fjall::PersistMode;
use tidings_store::StoreError;

use crate::bodies::BodyFiles;
use crate::commit::failed;
use crate::directory::{Directory, OpenError};
use crate::journal::{self, Segment};
use crate::keys;
use crate::layers::Layer;
use crate::pace::{Hurry, Pace};
use crate::priority;
use crate::queue::Answer;
use crate::rows;
use crate::settings::Settings;
use crate::stop::Stop;
use crate::tables::{Tables, place};
use crate::upgrade;

/// A layer that takes no more, with all that goes once it is in the tables.
pub(crate) struct Closed {
    pub(crate) layer: Arc<Layer>,
    /// How long it was open.
    pub(crate) filled_in: Duration,
    pub(crate) segment: Segment,
    pub(crate) files: Vec<Arc<File>>,
}

/// Something for the applying thread, which does things in their order.
pub(crate) enum Task {
    Apply(Box<Closed>),
    /// To be told when everything before it is applied.
    Tell(Answer<(), StoreError>),
}

/// The committer's end: layers go out, segments to go on with come back.
pub(crate) struct Applying {
    tasks: SyncSender<Task>,
    segments: Receiver<Segment>,
    hurry: Hurry,
}

/// The part of the time in which a layer was filled that there is to apply it.
const TIME_FOR_IT: f64 = 0.75;
/// Tasks that wait; the committer waits beyond.
const TASKS_MAX: usize = 64;

/// The thread's end.
pub(crate) struct Inbox {
    tasks: Receiver<Task>,
    free: SyncSender<Segment>,
    folder: PathBuf,
    next_segment: u64,
    hurry: Hurry,
}

/// What the thread works with.
pub(crate) struct Applier {
    pub(crate) inbox: Inbox,
    pub(crate) tables: Tables,
    /// Rows committed to the tables since fjall's last journal began.
    pub(crate) journal_rows: Arc<AtomicU64>,
    pub(crate) stop: Arc<Stop>,
}

impl Applying {
    /// A segment to begin with, and the two ends, with another segment to go on with.
    pub(crate) fn begin(folder: PathBuf, first: u64) -> io::Result<(Segment, Applying, Inbox)> {
        let (tasks, waiting) = sync_channel(TASKS_MAX);
        let (free, segments) = sync_channel(2);
        let active = Segment::create(&folder, first)?;
        let spare = Segment::create(&folder, first + 1)?;
        // There is room for it.
        let _ = free.send(spare);
        let hurry = Hurry::default();
        let inbox = Inbox {
            tasks: waiting,
            free,
            folder,
            next_segment: first + 2,
            hurry: hurry.clone(),
        };
        let applying = Applying {
            tasks,
            segments,
            hurry,
        };
        Ok((active, applying, inbox))
    }

    /// A segment to go on with, if one is ready. If not, the thread is to make haste.
    pub(crate) fn free_segment(&self) -> Option<Segment> {
        let segment = self.segments.try_recv().ok();
        self.hurry.set(segment.is_none());
        segment
    }

    /// The same, waiting for one. `None` if the thread has ended: the store has stopped.
    pub(crate) fn wait_for_segment(&self) -> Option<Segment> {
        self.hurry.set(true);
        let segment = self.segments.recv().ok();
        self.hurry.set(false);
        segment
    }

    /// Somebody waits until everything up to now is applied.
    pub(crate) fn make_haste(&self) {
        self.hurry.set(true);
    }

    /// Hands a task over. If the thread has ended it is dropped, which answers it.
    pub(crate) fn hand_over(&self, task: Task) {
        let _ = self.tasks.send(task);
    }
}

impl Applier {
    /// Applies until the committer is gone.
    pub(crate) fn run(mut self) {
        priority::lower();
        while let Ok(task) = self.inbox.tasks.recv() {
            match task {
                Task::Tell(answer) => {
                    // Who asked may have gone away.
                    let _ = answer.send(Ok(()));
                }
                Task::Apply(closed) => match self.apply(*closed) {
                    Ok(segment) => {
                        // There is room for it, and if the committer is gone it is needed no more.
                        let _ = self.inbox.free.send(segment);
                    }
                    Err(error) => return self.stop.fatal(&error.to_string()),
                },
            }
        }
    }

    fn apply(&mut self, closed: Closed) -> Result<Segment, StoreError> {
        let rows = closed.layer.rows();
        let zeros = closed.segment.rows_to_zero();
        let time = closed.filled_in.mul_f64(TIME_FOR_IT);
        let all = rows + closed.layer.rows_to_give_back() + zeros;
        let mut pace = Pace::over(time, all, &self.inbox.hurry);
        for file in &closed.files {
            file.sync_data().map_err(|error| failed(&error))?;
        }
        let rows = to_tables(&self.tables, &closed.layer, closed.segment.id, &mut pace)?;
        self.journal_rows.fetch_add(rows, Ordering::Relaxed);
        self.tables.layers.remove(&closed.layer);
        closed.layer.give_back(|rows| pace.step(rows));
        let id = self.inbox.next_segment;
        self.inbox.next_segment += 1;
        closed
            .segment
            .recycle(&self.inbox.folder, id, &mut pace)
            .map_err(|error| failed(&error))
    }
}

/// Brings the rows of a layer into the tables, and then the number of the last segment that is in them. Answers
/// how many of them a start-up after a crash would find in fjall's journal.
///
/// The tables that get many rows are written directly; what the others get is committed in a batch. A crash in
/// between leaves some tables ahead of others: then the segment is replayed, and rows are absolute values.
fn to_tables(
    tables: &Tables,
    layer: &Layer,
    segment: u64,
    pace: &mut Pace,
) -> Result<u64, StoreError> {
    let all = tables.all();
    let mut batch = tables.database.batch();
    layer.for_each_table(|number, rows| {
        let Some((_, table)) = all.get(usize::from(number)) else {
            return Ok(());
        };
        if rows.size.bytes >= tables.direct_bytes_min {
            return table
                .write_directly(&rows, pace)
                .map_err(|error| failed(&error));
        }
        for (key, value) in rows.iter() {
            match value {
                Some(value) => batch.insert(table.stored(), key, value),
                None => batch.remove(table.stored(), key),
            }
        }
        Ok(())
    })?;
    batch.insert(
        tables.upkeep.stored(),
        keys::LAST_SEGMENT,
        rows::encode_number(segment),
    );
    let rows = batch.len() as u64;
    batch
        .durability(Some(PersistMode::SyncData))
        .commit()
        .map_err(|error| failed(&error))?;
    Ok(rows)
}

/// The tables and body files of a directory with everything that was committed to it, and the id of the
/// next segment.
pub(crate) struct Opened {
    pub(crate) tables: Tables,
    pub(crate) files: Arc<BodyFiles>,
    pub(crate) next_segment: u64,
}

/// Opens the tables of a directory and brings them level with its journal, which is empty afterwards.
pub(crate) fn open(directory: &Directory, settings: &Settings) -> Result<Opened, OpenError> {
    let broken = |what: String| OpenError::Damaged {
        path: directory.path.clone(),
        what,
    };
    // Its threads are started here.
    let tables = priority::with_lower(|| Tables::open(&directory.rows(), settings))
        .map_err(|_| broken("the tables could not be opened".to_owned()))?
        .map_err(|error| match error {
            fjall::Error::Io(error) => OpenError::Io {
                path: directory.path.clone(),
                error,
            },
            error => broken(error.to_string()),
        })?;
    let files = Arc::new(BodyFiles::new(directory.bodies()));
    let next_segment = replay(&tables, &files, &directory.journal()).map_err(|error| {
        match error.kind() {
            io::ErrorKind::InvalidData => {
                broken(format!("its journal cannot be replayed: {error}"))
            }
            // No space, too many open files: nothing is lost.
            _ => OpenError::Io {
                path: directory.path.clone(),
                error,
            },
        }
    })?;
    if directory.is_older {
        upgrade::to_format_3(&tables).map_err(|error| {
            broken(format!(
                "its format is an older one, and it could not be brought up to date: {error}"
            ))
        })?;
        directory.finish()?;
    }
    Ok(Opened {
        tables,
        files,
        next_segment,
    })
}

fn replay(tables: &Tables, files: &BodyFiles, folder: &Path) -> io::Result<u64> {
    let other = |error: StoreError| io::Error::other(error.to_string());
    let last = tables.upkeep.get(&keys::LAST_SEGMENT).map_err(other)?;
    let applied = last.map_or(Ok(0), |bytes| rows::decode_number(&bytes));
    let applied =
        applied.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    let segments = journal::segments(folder)?;
    let (layer, mut unsynced) = (Layer::default(), HashMap::new());
    let (mut records, mut newest, mut torn) = (0, applied, None);
    for &id in segments.iter().filter(|id| **id > applied) {
        newest = id;
        let replayed = journal::replay(folder, id, |record| {
            for body in &record.bodies {
                if let Some(file) = files.write_again(body)? {
                    unsynced.insert(body.file, file);
                }
            }
            let taken = layer.take(record.changes, place);
            taken.map_err(io::Error::other)
        })?;
        // Nothing is begun after a commit that was not written whole.
        if let Some(torn) = torn.filter(|_| replayed.records > 0) {
            let what = format!("segment {torn} breaks off, but segment {id} goes on");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        records += replayed.records;
        torn = torn.or((!replayed.is_clean).then_some(id));
    }
    for file in unsynced.into_values() {
        file.sync_data()?;
    }
    if records > 0 {
        tracing::info!(records, "commits were replayed from the journal");
        to_tables(tables, &layer, newest, &mut Pace::full()).map_err(other)?;
    }
    for id in segments {
        journal::delete(folder, id)?;
    }
    Ok(newest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::{Change, Changes};

    fn write(segment: &mut Segment, key: &[u8]) {
        let mut changes = Changes::default();
        changes.push(Change {
            table: 9,
            key,
            value: Some(b"value"),
        });
        segment.write(&[], changes.bytes().unwrap()).unwrap();
    }

    #[test]
    fn a_journal_with_a_hole_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let tables = Tables::open(&folder.path().join("rows"), &Settings::default()).unwrap();
        let files = BodyFiles::new(folder.path().join("bodies"));
        let journal = folder.path().join("journal");
        std::fs::create_dir(&journal).unwrap();
        let mut segments: Vec<Segment> = (1..=3)
            .map(|id| Segment::create(&journal, id).unwrap())
            .collect();
        write(&mut segments[0], b"one");
        write(&mut segments[0], b"two");
        write(&mut segments[1], b"three");
        let path = journal.join("0000000000000001.journal");
        let whole = std::fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        damaged[40] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        let refused = replay(&tables, &files, &journal).unwrap_err().to_string();
        assert_eq!(refused, "segment 1 breaks off, but segment 2 goes on");
        assert_eq!(journal::segments(&journal).unwrap(), [1, 2, 3]);
        assert_eq!(tables.documents.get(b"three").unwrap(), None);

        std::fs::write(&path, whole).unwrap();
        assert_eq!(replay(&tables, &files, &journal).unwrap(), 4);
        for key in [&b"one"[..], b"two", b"three"] {
            assert!(tables.documents.get(key).unwrap().is_some());
        }
        assert_eq!(journal::segments(&journal).unwrap(), [0; 0]);
    }
}
