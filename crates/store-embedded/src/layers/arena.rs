//! Rows behind one another in large pieces of memory: a layer has hundreds of thousands of them, which live for some
//! seconds. Two blocks of the heap for each row took more memory than the rows, and each cost a visit to memory that
//! was in no cache.
//!
//! ```text
//! row       length of the value (u32; all ones: the row is deleted), room for it (u32), length of the key (u16),
//!           key, room for the value, which ends at a multiple of 16
//! ```

/// Rows begin at multiples of this.
const STEP: usize = 16;
/// Bytes of a piece, but for one with a single row that is longer: what can be counted in steps by 16 bits.
const PIECE: usize = STEP << 16;
const HEADER: usize = 10;
const DELETED: u32 = u32::MAX;

/// Where a row is: the number of its piece, 16 bits, and its first step in there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At(u32);

impl At {
    /// No row is there.
    pub(super) const NONE: At = At(u32::MAX);

    fn new(piece: usize, byte: usize) -> Option<At> {
        let piece = u16::try_from(piece).ok().filter(|n| *n != u16::MAX)?;
        let step = u16::try_from(byte / STEP).ok()?;
        Some(At(u32::from(piece) << 16 | u32::from(step)))
    }

    fn place(self) -> (usize, usize) {
        let (piece, step) = (self.0 >> 16, self.0 & 0xffff);
        (piece as usize, step as usize * STEP)
    }
}

/// A row as it is. `None`: it is deleted.
pub(super) type Row<'a> = (&'a [u8], Option<&'a [u8]>);

/// There is no place for a further row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are too many rows")]
pub(crate) struct Full;

/// Rows, which are found by where they are.
#[derive(Debug, Default)]
pub(super) struct Arena {
    pieces: Vec<Vec<u8>>,
}

impl Arena {
    /// Takes a row in.
    pub(super) fn push(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<At, Full> {
        let bytes = HEADER + key.len() + value.unwrap_or_default().len();
        let bytes = bytes.next_multiple_of(STEP);
        let has_room = |piece: &Vec<u8>| piece.len() + bytes <= PIECE;
        if !self.pieces.last().is_some_and(has_room) {
            self.pieces.push(Vec::with_capacity(bytes.max(PIECE)));
        }
        let number = self.pieces.len() - 1;
        let piece = self.pieces.last_mut().ok_or(Full)?;
        let begin = piece.len();
        let at = At::new(number, begin).ok_or(Full)?;
        let room = u32::try_from(bytes - HEADER - key.len()).map_err(|_| Full)?;
        let key_length = u16::try_from(key.len()).map_err(|_| Full)?;
        piece.extend_from_slice(&length_of(value).to_le_bytes());
        piece.extend_from_slice(&room.to_le_bytes());
        piece.extend_from_slice(&key_length.to_le_bytes());
        piece.extend_from_slice(key);
        piece.extend_from_slice(value.unwrap_or_default());
        piece.resize(begin + bytes, 0);
        Ok(at)
    }

    /// Writes another value in the place of a row's, if there is room for it.
    #[must_use]
    pub(super) fn set(&mut self, at: At, value: Option<&[u8]>) -> bool {
        let (piece, begin) = at.place();
        let row = self.pieces.get_mut(piece).and_then(|p| p.get_mut(begin..));
        let Some((header, rest)) = row.and_then(<[u8]>::split_first_chunk_mut::<HEADER>) else {
            return false;
        };
        let [l0, l1, l2, l3, r0, r1, r2, r3, k0, k1] = header;
        let key = u16::from_le_bytes([*k0, *k1]) as usize;
        let room = u32::from_le_bytes([*r0, *r1, *r2, *r3]) as usize;
        let bytes = value.unwrap_or_default();
        let Some(place) = rest
            .get_mut(key..key + bytes.len())
            .filter(|_| bytes.len() <= room)
        else {
            return false;
        };
        place.copy_from_slice(bytes);
        [*l0, *l1, *l2, *l3] = length_of(value).to_le_bytes();
        true
    }

    /// The row; an empty one that is deleted, if none is there.
    pub(super) fn row(&self, at: At) -> Row<'_> {
        self.find(at).unwrap_or_default()
    }

    fn find(&self, at: At) -> Option<Row<'_>> {
        let (piece, begin) = at.place();
        let (header, rest) = self.pieces.get(piece)?.get(begin..)?.split_first_chunk()?;
        let &[l0, l1, l2, l3, _, _, _, _, k0, k1]: &[u8; HEADER] = header;
        let (key, rest) = rest.split_at_checked(u16::from_le_bytes([k0, k1]).into())?;
        let value = match u32::from_le_bytes([l0, l1, l2, l3]) {
            DELETED => None,
            length => Some(rest.get(..length as usize)?),
        };
        Some((key, value))
    }

    /// How many pieces there are.
    pub(super) fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// Its pieces, to be given back one by one.
    pub(super) fn into_pieces(self) -> Vec<Vec<u8>> {
        self.pieces
    }
}

/// Values are no longer than the journal allows.
fn length_of(value: Option<&[u8]>) -> u32 {
    value.map_or(DELETED, |value| value.len() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_one_of_65535_pieces_and_65536_steps() {
        let last = At::new(65_534, PIECE - STEP).unwrap();
        assert_eq!(last.place(), (65_534, PIECE - STEP));
        assert_ne!(last, At::NONE);
        assert_eq!(At::new(65_535, 0), None);
        assert_eq!(At::new(0, PIECE), None);
    }

    #[test]
    fn rows_are_where_they_were_put_however_long_they_are() {
        let mut arena = Arena::default();
        let lengths = [0, 1, 15, 16, 17, 500, 70_000, PIECE, 3 * PIECE, 2];
        let mut rows = Vec::new();
        for round in 0..40_u8 {
            for length in lengths
                .iter()
                .filter(|length| **length < PIECE || round == 7)
            {
                let (key, value) = (vec![round; usize::from(round)], vec![!round; *length]);
                let at = arena.push(&key, Some(&value)).unwrap();
                rows.push((at, key, value));
            }
        }
        for (at, key, value) in &rows {
            assert_eq!(arena.row(*at), (key.as_slice(), Some(value.as_slice())));
        }
        assert!(arena.pieces.len() > 4);
        assert_eq!(arena.row(At::NONE), (&b""[..], None));

        // What fits is written in place and touches no other row.
        for (at, _, value) in &mut rows {
            value.pop();
            value.fill(0xab);
            assert!(arena.set(*at, Some(value)));
        }
        for (at, key, value) in &rows {
            assert_eq!(arena.row(*at), (key.as_slice(), Some(value.as_slice())));
            assert!(arena.set(*at, None));
            assert_eq!(arena.row(*at), (key.as_slice(), None));
            assert!(!arena.set(*at, Some(&vec![1; value.len() + 2 + STEP])));
            assert!(arena.set(*at, Some(value)));
        }
        for (at, key, value) in &rows {
            assert_eq!(arena.row(*at), (key.as_slice(), Some(value.as_slice())));
        }
    }
}
