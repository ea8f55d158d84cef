//! Body files: where the bodies of entries lie, apart from the rows.
//!
//! A body file is a header and then bodies back to back; the row of each entry says where its body is.
//! Bodies are written here when the rows that name them are committed, and synced a little later: until
//! then they are in the journal as well ([`crate::journal`]), from where a crash brings them back. An
//! erased body is overwritten in place, exactly: nothing that is kept is rewritten, no older copy of it
//! exists once the journal's segment is gone, and a file in which nothing lives any more is deleted. Each
//! file takes the bodies of one retention class (and, unless kept for ever, of one span of time), so that
//! what goes together lies together.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::HashMap;
use tidings_core::Time;
use tidings_core::time::DAY_MILLIS;

use crate::at;
use crate::rows::{BodyPlace, Class, FileRow};

/// What a body file begins with, then its id (4 bytes) and zeros.
const MAGIC: &[u8; 8] = b"TIDBODY1";
/// Bytes of the header.
pub(crate) const HEADER: u64 = 32;
/// Open files that are kept for reading.
const OPEN_MAX: usize = 128;

/// Bodies that lie back to back in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BodyWrite {
    pub(crate) file: u32,
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

/// What [`BodyWriter::write`] wrote.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) bodies: Vec<BodyWrite>,
    /// The rows of body files that changed with it.
    pub(crate) rows: Vec<(u32, FileRow)>,
}

/// The folder of body files, for reading and overwriting.
#[derive(Debug)]
pub(crate) struct BodyFiles {
    folder: PathBuf,
    open: Mutex<HashMap<u32, Arc<File>>>,
}

impl BodyFiles {
    pub(crate) fn new(folder: PathBuf) -> BodyFiles {
        BodyFiles {
            folder,
            open: Mutex::default(),
        }
    }

    pub(crate) fn path(&self, id: u32) -> PathBuf {
        self.folder.join(format!("{id:08}.bodies"))
    }

    fn file(&self, id: u32) -> io::Result<Arc<File>> {
        if let Some(file) = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
        {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(self.path(id))?,
        );
        self.remember(id, &file);
        Ok(file)
    }

    fn remember(&self, id: u32, file: &Arc<File>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= OPEN_MAX {
            open.clear();
        }
        open.insert(id, Arc::clone(file));
    }

    /// The body at a place; `None` if it is not (or no longer) there.
    pub(crate) fn read(&self, place: &BodyPlace) -> io::Result<Option<Vec<u8>>> {
        let file = match self.file(place.file) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut body = vec![0; place.length as usize];
        match at::read_exact(&file, &mut body, place.offset) {
            Ok(()) => Ok((hash(&body) == place.hash).then_some(body)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes bodies again, from the journal, and answers the file, to be synced. `None` if the file was
    /// deleted because nothing in it lived.
    pub(crate) fn write_again(&self, body: &BodyWrite) -> io::Result<Option<Arc<File>>> {
        match self.file(body.file) {
            Ok(file) => {
                at::write_all(&file, &body.bytes, body.offset)?;
                Ok(Some(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Overwrites these places (offset and length) of a file and syncs it. Repeating it is harmless.
    pub(crate) fn overwrite(&self, id: u32, places: &mut [(u64, u64)]) -> io::Result<()> {
        let file = match self.file(id) {
            Ok(file) => file,
            // The file was deleted because nothing in it lived.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        places.sort_unstable();
        let mut places = places.iter().copied().peekable();
        while let Some((offset, mut length)) = places.next() {
            while let Some((_, more)) = places.next_if(|next| next.0 == offset + length) {
                length += more;
            }
            write_zeros(&file, offset, length)?;
        }
        file.sync_data()
    }

    /// Deletes a file.
    pub(crate) fn delete(&self, id: u32) -> io::Result<()> {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
        match std::fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync_folder(&self.folder),
        }
    }

    /// Makes a new file, which must not be there.
    pub(crate) fn create(&self, id: u32) -> io::Result<Arc<File>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.path(id))?;
        let mut header = [0; HEADER as usize];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&id.to_be_bytes());
        at::write_all(&file, &header, 0)?;
        file.sync_all()?;
        sync_folder(&self.folder)?;
        let file = Arc::new(file);
        self.remember(id, &file);
        Ok(file)
    }

    /// Whether the file of this id is there and begins as it should.
    pub(crate) fn has_header(&self, id: u32) -> io::Result<bool> {
        let mut header = [0; 12];
        let file = match self.file(id) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match at::read_exact(&file, &mut header, 0) {
            Ok(()) => Ok(header[..8] == MAGIC[..] && header[8..] == id.to_be_bytes()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The ids of the files in the folder.
    pub(crate) fn list(&self) -> io::Result<Vec<u32>> {
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let id = name
                .to_str()
                .and_then(|name| name.strip_suffix(".bodies"))
                .and_then(|id| id.parse::<u32>().ok());
            ids.extend(id);
        }
        ids.sort_unstable();
        Ok(ids)
    }
}

/// Puts bodies at the ends of body files. Only the committer has one.
#[derive(Debug)]
pub(crate) struct BodyWriter {
    files: Arc<BodyFiles>,
    file_bytes_max: u64,
    next_id: u32,
    rows: HashMap<u32, FileRow>,
    active: HashMap<Class, Active>,
    /// Files whose row changed since the last [`BodyWriter::write`].
    changed: Vec<u32>,
    /// What was written since then.
    written: Vec<BodyWrite>,
    /// Files that are not synced.
    unsynced: HashMap<u32, Arc<File>>,
}

#[derive(Debug)]
struct Active {
    id: u32,
    file: Arc<File>,
    /// Bodies not yet written; they end at the row's `end`.
    buffer: Vec<u8>,
}

impl BodyWriter {
    /// Takes up the files that the rows name: cuts off what was never committed and deletes files that
    /// no row names (a crash came between).
    pub(crate) fn open(
        files: Arc<BodyFiles>,
        rows: HashMap<u32, FileRow>,
        file_bytes_max: u64,
    ) -> io::Result<BodyWriter> {
        let mut next_id = rows.keys().max().map_or(1, |id| id + 1);
        for id in files.list()? {
            if !rows.contains_key(&id) {
                files.delete(id)?;
                next_id = next_id.max(id + 1);
            }
        }
        let mut active = HashMap::default();
        for (&id, row) in rows.iter().filter(|(_, row)| !row.sealed) {
            let file = files.file(id)?;
            if file.metadata()?.len() < row.end {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!(
                        "{} is shorter than what was committed to it",
                        files.path(id).display()
                    ),
                ));
            }
            // Overwritten first: the system keeps the blocks that are cut off as they are.
            let length = file.metadata()?.len();
            write_zeros(&file, row.end, length - row.end)?;
            file.sync_data()?;
            file.set_len(row.end)?;
            file.sync_all()?;
            active.insert(
                row.class,
                Active {
                    id,
                    file,
                    buffer: Vec::new(),
                },
            );
        }
        Ok(BodyWriter {
            files,
            file_bytes_max,
            next_id,
            rows,
            active,
            changed: Vec::new(),
            written: Vec::new(),
            unsynced: HashMap::default(),
        })
    }

    /// Takes a body that belongs to an entry of this time; it is in the file after [`BodyWriter::write`].
    pub(crate) fn put(&mut self, class: Class, at: Time, body: &[u8]) -> io::Result<BodyPlace> {
        let window = window(class, at);
        let fits = self
            .active
            .get(&class)
            .and_then(|active| self.rows.get(&active.id))
            .is_some_and(|row| {
                row.window == window
                    && (row.end + body.len() as u64 <= self.file_bytes_max || row.end == HEADER)
            });
        if !fits {
            self.roll(class, window)?;
        }
        let missing = || io::Error::other("the active body file has no row");
        let active = self.active.get_mut(&class).ok_or_else(missing)?;
        let row = self.rows.get_mut(&active.id).ok_or_else(missing)?;
        let length =
            u32::try_from(body.len()).map_err(|_| io::Error::other("a body of more than 4 GiB"))?;
        let place = BodyPlace {
            file: active.id,
            offset: row.end,
            length,
            hash: hash(body),
        };
        active.buffer.extend_from_slice(body);
        row.end += body.len() as u64;
        // Bodies mostly come one behind the other.
        if self.changed.last() != Some(&active.id) {
            self.changed.push(active.id);
        }
        Ok(place)
    }

    fn roll(&mut self, class: Class, window: u64) -> io::Result<()> {
        self.seal(class)?;
        let id = self.next_id;
        self.next_id += 1;
        let file = self.files.create(id)?;
        self.rows.insert(
            id,
            FileRow {
                class,
                window,
                end: HEADER,
                dead: 0,
                sealed: false,
            },
        );
        self.active.insert(
            class,
            Active {
                id,
                file,
                buffer: Vec::new(),
            },
        );
        self.changed.push(id);
        Ok(())
    }

    /// Takes no more into the active file of a class.
    fn seal(&mut self, class: Class) -> io::Result<()> {
        if let Some(mut old) = self.active.remove(&class)
            && let Some(row) = self.rows.get_mut(&old.id)
        {
            row.sealed = true;
            self.written.extend(old.write(row.end)?);
            self.changed.push(old.id);
            self.unsynced.insert(old.id, old.file);
        }
        Ok(())
    }

    /// Writes what was put, without syncing it. Answers what was written and the rows that changed, to be
    /// committed now.
    pub(crate) fn write(&mut self) -> io::Result<Written> {
        for active in self.active.values_mut() {
            if let Some(row) = self.rows.get(&active.id)
                && let Some(written) = active.write(row.end)?
            {
                self.written.push(written);
                self.unsynced.insert(active.id, Arc::clone(&active.file));
            }
        }
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        let rows = changed
            .into_iter()
            .filter_map(|id| self.rows.get(&id).map(|row| (id, *row)))
            .collect();
        Ok(Written {
            bodies: std::mem::take(&mut self.written),
            rows,
        })
    }

    /// The files that were written to and are to be synced before what is in the journal may go.
    pub(crate) fn unsynced(&self) -> Vec<Arc<File>> {
        self.unsynced.values().cloned().collect()
    }

    /// The same, to be synced now.
    pub(crate) fn take_unsynced(&mut self) -> Vec<Arc<File>> {
        std::mem::take(&mut self.unsynced).into_values().collect()
    }

    /// Counts bytes of a file as overwritten.
    pub(crate) fn add_dead(&mut self, id: u32, bytes: u64) {
        if let Some(row) = self.rows.get_mut(&id) {
            row.dead += bytes;
            self.changed.push(id);
        }
    }

    /// Forgets the sealed files in which nothing lives. Their rows are to be deleted, then the files.
    pub(crate) fn take_dead(&mut self) -> Vec<u32> {
        let dead: Vec<u32> = self
            .rows
            .iter()
            .filter(|(_, row)| row.sealed && HEADER + row.dead >= row.end)
            .map(|(&id, _)| id)
            .collect();
        for id in &dead {
            self.rows.remove(id);
        }
        self.changed.retain(|id| !dead.contains(id));
        dead
    }

    /// Seals files whose span of time is over, so that they can go once nothing in them lives.
    pub(crate) fn seal_past(&mut self, now: Time) -> io::Result<()> {
        let past: Vec<Class> = self
            .active
            .iter()
            .filter(|(class, active)| {
                self.rows
                    .get(&active.id)
                    .is_some_and(|row| row.window < window(**class, now) && row.end > HEADER)
            })
            .map(|(&class, _)| class)
            .collect();
        past.into_iter().try_for_each(|class| self.seal(class))
    }
}

impl Active {
    /// Writes the buffer so that it ends at `end`.
    fn write(&mut self, end: u64) -> io::Result<Option<BodyWrite>> {
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let bytes = std::mem::take(&mut self.buffer);
        let offset = end - bytes.len() as u64;
        at::write_all(&self.file, &bytes, offset)?;
        Ok(Some(BodyWrite {
            file: self.id,
            offset,
            bytes,
        }))
    }
}

/// The number of the span of time that a file of this class takes bodies of: a sixteenth of the days
/// that they are kept, a quarter of a day until delivered.
fn window(class: Class, at: Time) -> u64 {
    match class.kind {
        2 => at.0 / (u64::from(class.days).max(1) * DAY_MILLIS / 16),
        3 => at.0 / (DAY_MILLIS / 4),
        _ => 0,
    }
}

pub(crate) fn hash(body: &[u8]) -> [u8; 8] {
    let mut short = [0; 8];
    short.copy_from_slice(&blake3::hash(body).as_bytes()[..8]);
    short
}

/// Fills a place of a file with zeros.
pub(crate) fn write_zeros(file: &File, mut offset: u64, mut length: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    while length > 0 {
        let now = length.min(ZEROS.len() as u64);
        at::write_all(file, &ZEROS[..now as usize], offset)?;
        offset += now;
        length -= now;
    }
    Ok(())
}

/// Makes files made or deleted in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}
