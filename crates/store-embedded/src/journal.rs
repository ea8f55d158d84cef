//! The journal: what is committed is written and synced here, in one go, before it is anywhere else.
//!
//! ```text
//! segment   magic (8), id (u64), zeros up to 32; then records; then zeros
//! record    length of the payload (u32), checksum (u64), payload
//! payload   number of bodies (u32), each: file (u32), offset (u64), length (u32), bytes;
//!           then changes up to the end (see [`crate::changes`])
//! ```
//!
//! Numbers are little endian. The checksum is XXH3 (64 bits) of the payload, seeded with the segment's
//! id, so that nothing of a segment's earlier life passes for a record. Replaying a record again changes
//! nothing: rows and bodies are what they are, not what is added to them.
//!
//! Segments live for some seconds, until what they hold is in the tables and body files and synced
//! ([`crate::apply`]); then they are overwritten with zeros and used again. They are filled with zeros
//! beforehand so that a commit mostly syncs its own bytes and no growth of a file.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::at;
use crate::bodies::{BodyWrite, sync_folder, write_zeros};
use crate::changes;
use crate::pace::Pace;
use crate::tables;

const MAGIC: &[u8; 8] = b"TIDJRNL1";
const HEADER: u64 = 32;
/// What a new segment is filled up to beforehand. It grows with what is written in a second.
const NEW_BYTES: u64 = 256 * 1024;
/// What it may keep of that.
const KEPT_BYTES: u64 = 32 * 1024 * 1024;
/// What is overwritten with zeros and synced at a time: a commit's own sync stands behind no more.
const ZEROS_BYTES: u64 = 512 * 1024;
/// It takes about as long as so many rows.
const ZEROS_ROWS: usize = 500;
/// Length and checksum.
const RECORD_HEADER: usize = 12;
/// A buffer that grew beyond this is given back.
const BUFFER_KEPT_BYTES: usize = 1024 * 1024;

/// A segment that is being written.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: u64,
    path: PathBuf,
    file: File,
    /// Where the next record begins.
    end: u64,
    /// As far as the file is filled, with records or zeros.
    filled: u64,
    buffer: Vec<u8>,
}

fn path_of(folder: &Path, id: u64) -> PathBuf {
    folder.join(format!("{id:016}.journal"))
}

impl Segment {
    /// Makes a new one.
    pub(crate) fn create(folder: &Path, id: u64) -> io::Result<Segment> {
        let path = path_of(folder, id);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        let mut segment = Segment {
            id,
            path,
            file,
            end: HEADER,
            filled: HEADER,
            buffer: Vec::new(),
        };
        segment.begin(folder)?;
        Ok(segment)
    }

    /// Makes a new one of this, whose records are needed no longer: nothing of them remains.
    pub(crate) fn recycle(
        mut self,
        folder: &Path,
        id: u64,
        pace: &mut Pace,
    ) -> io::Result<Segment> {
        let mut zeroed = HEADER;
        while zeroed < self.end {
            let now = (self.end - zeroed).min(ZEROS_BYTES);
            write_zeros(&self.file, zeroed, now)?;
            self.file.sync_data()?;
            zeroed += now;
            pace.step(ZEROS_ROWS);
        }
        if self.filled > KEPT_BYTES {
            // The zeros are on the disk, so the blocks may be given back.
            self.file.set_len(KEPT_BYTES)?;
            self.filled = KEPT_BYTES;
        }
        let path = path_of(folder, id);
        std::fs::rename(&self.path, &path)?;
        (self.path, self.id, self.end) = (path, id, HEADER);
        self.begin(folder)?;
        Ok(self)
    }

    /// How long it will take to recycle it, in rows.
    pub(crate) fn rows_to_zero(&self) -> usize {
        (self.bytes() / ZEROS_BYTES + 1) as usize * ZEROS_ROWS
    }

    fn begin(&mut self, folder: &Path) -> io::Result<()> {
        let mut header = [0; HEADER as usize];
        header[..8].copy_from_slice(MAGIC);
        header[8..16].copy_from_slice(&self.id.to_le_bytes());
        at::write_all(&self.file, &header, 0)?;
        self.fill(NEW_BYTES)?;
        self.file.sync_all()?;
        sync_folder(folder)
    }

    /// Fills the file with zeros up to a place.
    fn fill(&mut self, up_to: u64) -> io::Result<()> {
        if up_to > self.filled {
            write_zeros(&self.file, self.filled, up_to - self.filled)?;
            self.filled = up_to;
        }
        Ok(())
    }

    /// Writes a commit and syncs it.
    pub(crate) fn write(&mut self, bodies: &[BodyWrite], changes: &[u8]) -> io::Result<()> {
        let buffer = &mut self.buffer;
        buffer.clear();
        buffer.extend_from_slice(&[0; RECORD_HEADER]);
        buffer.extend_from_slice(&(bodies.len() as u32).to_le_bytes());
        for body in bodies {
            buffer.extend_from_slice(&body.file.to_le_bytes());
            buffer.extend_from_slice(&body.offset.to_le_bytes());
            buffer.extend_from_slice(&length_of(&body.bytes)?.to_le_bytes());
            buffer.extend_from_slice(&body.bytes);
        }
        buffer.extend_from_slice(changes);
        let payload = &buffer[RECORD_HEADER..];
        let length = length_of(payload)?.to_le_bytes();
        let checksum = xxh3_64_with_seed(payload, self.id).to_le_bytes();
        buffer[..4].copy_from_slice(&length);
        buffer[4..RECORD_HEADER].copy_from_slice(&checksum);
        at::write_all(&self.file, buffer, self.end)?;
        self.end += buffer.len() as u64;
        if buffer.capacity() > BUFFER_KEPT_BYTES {
            self.buffer = Vec::new();
        }
        if self.end > self.filled {
            self.filled = self.end;
            self.fill(self.end + NEW_BYTES)?;
        }
        self.file.sync_data()?;
        Ok(())
    }

    /// Bytes of its records.
    pub(crate) fn bytes(&self) -> u64 {
        self.end - HEADER
    }
}

fn length_of(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len()).map_err(|_| io::Error::other("a commit of more than 4 GiB"))
}

/// A commit as it is read back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) bodies: Vec<BodyWrite>,
    /// All of them whole, and of tables that there are.
    pub(crate) changes: &'a [u8],
}

/// The ids of the segments in the folder, ascending.
pub(crate) fn segments(folder: &Path) -> io::Result<Vec<u64>> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let id = name
            .to_str()
            .and_then(|name| name.strip_suffix(".journal"))
            .and_then(|id| id.parse::<u64>().ok());
        ids.extend(id);
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Deletes a segment. What was in it is overwritten first: the system keeps the blocks of a deleted file as
/// they are.
pub(crate) fn delete(folder: &Path, id: u64) -> io::Result<()> {
    let path = path_of(folder, id);
    let file = OpenOptions::new().write(true).open(&path)?;
    write_zeros(&file, 0, file.metadata()?.len())?;
    file.sync_data()?;
    std::fs::remove_file(path)
}

/// What was found in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// Whole records.
    pub(crate) records: u64,
    /// Whether there is nothing behind them. If there is, it is a record that was not written whole: never
    /// acknowledged, and the last that was ever begun.
    pub(crate) is_clean: bool,
}

/// Calls `each` with the whole records of a segment in their order.
pub(crate) fn replay(
    folder: &Path,
    id: u64,
    mut each: impl FnMut(Record<'_>) -> io::Result<()>,
) -> io::Result<Replayed> {
    let bytes = std::fs::read(path_of(folder, id))?;
    // A crash came while it was made.
    let is_begun = bytes.get(..8) == Some(MAGIC) && bytes.get(8..16) == Some(&id.to_le_bytes());
    let mut rest = bytes.get(HEADER as usize..).unwrap_or_default();
    let mut records = 0;
    while is_begun && let Some((payload, next)) = whole_record(rest, id) {
        let record = parse(payload).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "record {} of journal segment {id} cannot be understood",
                    records + 1
                ),
            )
        })?;
        each(record)?;
        records += 1;
        rest = next;
    }
    Ok(Replayed {
        records,
        is_clean: !is_begun || rest.iter().all(|byte| *byte == 0),
    })
}

/// The payload of the record at the beginning and what follows it, if there is one and it is whole.
fn whole_record(bytes: &[u8], id: u64) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (checksum, rest) = rest.split_first_chunk()?;
    let length = u32::from_le_bytes(*length);
    let (payload, rest) = rest.split_at_checked(length as usize)?;
    (length > 0 && u64::from_le_bytes(*checksum) == xxh3_64_with_seed(payload, id))
        .then_some((payload, rest))
}

fn parse(payload: &[u8]) -> Option<Record<'_>> {
    let (count, mut rest) = payload.split_first_chunk()?;
    let mut bodies = Vec::new();
    for _ in 0..u32::from_le_bytes(*count) {
        let (file, after) = rest.split_first_chunk()?;
        let (offset, after) = after.split_first_chunk()?;
        let (length, after) = after.split_first_chunk()?;
        let (body, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        bodies.push(BodyWrite {
            file: u32::from_le_bytes(*file),
            offset: u64::from_le_bytes(*offset),
            bytes: body.to_vec(),
        });
        rest = after;
    }
    let changes = rest;
    let mut reading = changes::read(changes);
    let are_of_tables = reading.all(|change| tables::is_table(change.table));
    (are_of_tables && reading.is_at_end()).then_some(Record { bodies, changes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::{Change, Changes};

    /// What a record is of.
    type Written = (Vec<BodyWrite>, Vec<u8>);

    fn record(number: u8) -> Written {
        let body = BodyWrite {
            file: 3,
            offset: u64::from(number) * 10,
            bytes: vec![number; 10],
        };
        let mut changes = Changes::default();
        for (table, key, value) in [
            (1, &[number; 25][..], Some(&[number; 100][..])),
            (2, &[number], None),
            (11, &[number, 0], Some(&[])),
        ] {
            changes.push(Change { table, key, value });
        }
        (vec![body], changes.bytes().unwrap().to_vec())
    }

    fn write(segment: &mut Segment, (bodies, changes): &Written) {
        segment.write(bodies, changes).unwrap();
    }

    fn read(folder: &Path, id: u64) -> Vec<Written> {
        let mut records = Vec::new();
        let replayed = replay(folder, id, |record| {
            records.push((record.bodies, record.changes.to_vec()));
            Ok(())
        });
        assert_eq!(replayed.unwrap().records, records.len() as u64);
        records
    }

    #[test]
    fn records_come_back_up_to_the_first_that_is_not_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut segment = Segment::create(folder.path(), 7).unwrap();
        assert_eq!(read(folder.path(), 7), []);
        let all = [record(1), record(2), record(3)];
        let mut ends = Vec::new();
        for record in &all {
            write(&mut segment, record);
            ends.push(segment.end);
        }
        assert_eq!(read(folder.path(), 7), all);
        assert_eq!(segments(folder.path()).unwrap(), [7]);

        // Any one byte of the second that did not arrive takes it and what is behind it away.
        for place in (ends[0]..ends[1]).step_by(7) {
            let mut byte = [0];
            at::read_exact(&segment.file, &mut byte, place).unwrap();
            at::write_all(&segment.file, &[byte[0] ^ 0x55], place).unwrap();
            assert_eq!(read(folder.path(), 7), all[..1], "{place}");
            at::write_all(&segment.file, &byte, place).unwrap();
        }
        segment.file.set_len(ends[2] - 1).unwrap();
        assert_eq!(read(folder.path(), 7), all[..2]);
    }

    #[test]
    fn nothing_of_an_earlier_life_remains() {
        let folder = tempfile::tempdir().unwrap();
        let mut segment = Segment::create(folder.path(), 1).unwrap();
        let body = BodyWrite {
            file: 1,
            offset: 0,
            bytes: vec![0xab; KEPT_BYTES as usize],
        };
        let large = (vec![body], Vec::new());
        write(&mut segment, &record(1));
        write(&mut segment, &large);
        let mut segment = segment
            .recycle(folder.path(), 5, &mut Pace::full())
            .unwrap();
        assert_eq!(segments(folder.path()).unwrap(), [5]);
        let bytes = std::fs::read(path_of(folder.path(), 5)).unwrap();
        assert_eq!(bytes.len() as u64, KEPT_BYTES);
        assert!(bytes[HEADER as usize..].iter().all(|byte| *byte == 0));
        write(&mut segment, &record(9));
        assert_eq!(read(folder.path(), 5), [record(9)]);
    }

    #[test]
    fn one_that_was_not_finished_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(path_of(folder.path(), 2), b"TIDJ").unwrap();
        assert_eq!(read(folder.path(), 2), []);
        std::fs::write(path_of(folder.path(), 3), [0; 4096]).unwrap();
        assert_eq!(read(folder.path(), 3), []);
    }
}
