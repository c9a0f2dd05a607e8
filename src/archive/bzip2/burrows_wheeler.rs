//! [`Ring`]: the inverse of the Burrows-Wheeler transform.
//!
//! The rows of the sorted matrix are linked, and what was transformed is read by walking from one to the next. Each step
//! is a jump to anywhere in 3.6 MB, and can begin only when the one before it has ended: a plain walk spends its time
//! waiting for memory. But the links make a ring, which can be entered anywhere. So walks begin at every 4096th row, twelve
//! of them side by side, each goes on until it comes to where another one has begun, and what they have read is joined in
//! the order of the ring.
//!
//! With 8 or 16 walks side by side decoding takes 5 % longer; walks that begin at every 1024th or 2048th row change
//! nothing.

use std::{
    iter::{Chain, StepBy},
    ops::Range,
    option::IntoIter,
};

/// More rows than a block has, and a power of two, so that no index has to be checked.
pub(super) const MAX_ROWS: usize = 1 << 20;

/// Set in rows where a walk begins.
const START: u32 = 1 << 31;

/// Walks begin at all multiples of this.
const SPACING: usize = 4096;

/// What the number of a row is multiplied by, to be above a byte.
const ROW: u32 = 1 << 8;

/// How many walks go side by side.
const LANES: usize = 12;

/// How many rows are linked without asking how many there are to be linked.
const FEW: usize = 4;

/// Steps that a lane may take. Usually it takes a twelfth of the rows, and a little more. No multiple of the size of a
/// page, or all lanes would want the same lines of the cache.
const MAX_STEPS: usize = (1 << 17) + 192;

/// A row where walks begin that is not part of the ring: where lanes are at first.
const READY: usize = MAX_ROWS - 1;

/// A row that leads to itself: where lanes are at last.
const IDLE: usize = MAX_ROWS - 2;

/// What was read along a part of the ring.
#[derive(Clone, Default)]
struct Part {
    /// In [`Ring::read`].
    read: Range<usize>,
    /// The row where the next part begins.
    next: usize,
}

/// A byte, and above it how often it is there.
pub(super) type Run = u32;

/// The linked rows, and memory to walk along them.
pub(super) struct Ring {
    /// For each row of the sorted matrix the byte it begins with, and above it the row that begins one byte later.
    rows: Vec<u32>,
    /// What the lanes read, [`MAX_STEPS`] for each.
    read: Vec<u8>,
    parts: Vec<Part>,
}

impl Ring {
    pub(super) fn new() -> Self {
        Self {
            rows: vec![0; MAX_ROWS],
            read: vec![0; LANES * MAX_STEPS],
            parts: Vec::new(),
        }
    }

    /// Undoes the transform of `runs`, in which there may be `most` bytes, and leaves the result in `plain`. `None` if
    /// there are more, if there is no row `origin`, or if one walk is much longer than all others.
    pub(super) fn invert(
        &mut self,
        runs: &[Run],
        origin: usize,
        most: usize,
        plain: &mut Vec<u8>,
    ) -> Option<()> {
        let length = self.link(runs, most)?;
        if origin >= length {
            return None;
        }
        self.walk(origin, length)?;
        plain.clear();
        let mut at = origin;
        while plain.len() < length {
            let part = self.parts.get(part_from(at))?;
            let read = self.read.get(part.read.clone())?;
            // If what was transformed repeats itself, there are several rings, and this one is walked several times.
            plain.extend_from_slice(&read[..read.len().min(length - plain.len())]);
            at = part.next;
        }
        Some(())
    }

    /// Links the rows; returns how many there are.
    fn link(&mut self, runs: &[Run], most: usize) -> Option<usize> {
        let mut counts = [0; 256];
        for run in runs {
            let (byte, length) = split(*run);
            counts[byte] += length;
        }
        let mut total = 0;
        let ends = counts.map(|count: usize| {
            total += count;
            total
        });
        if total > most.min(IDLE) {
            return None;
        }
        let mut places: [usize; 256] = std::array::from_fn(|byte| ends[byte] - counts[byte]);
        let mut row = 0;
        for run in runs {
            let (byte, length) = split(*run);
            let place = places[byte];
            places[byte] += length;
            let first = row * ROW + run % ROW;
            row += run / ROW;
            if length <= FEW && place + FEW <= ends[byte] {
                // What is too much here is overwritten by the next run of the byte. Saves a branch.
                let few: &mut [u32; FEW] = self.rows.get_mut(place..)?.first_chunk_mut()?;
                *few = [first, first + ROW, first + 2 * ROW, first + 3 * ROW];
            } else {
                let rows = self.rows.get_mut(place..place + length)?;
                for (to, distance) in rows.iter_mut().zip(0..) {
                    *to = first + distance * ROW;
                }
            }
        }
        Some(total)
    }

    /// Walks along the ring in parts.
    fn walk(&mut self, origin: usize, length: usize) -> Option<()> {
        let rows: &mut [u32; MAX_ROWS] = self.rows.first_chunk_mut()?;
        let read: &mut [u8; LANES * MAX_STEPS] = self.read.first_chunk_mut()?;
        for start in (0..length).step_by(SPACING).chain([origin]) {
            rows[start] |= START;
        }
        rows[READY] |= START;
        rows[IDLE] = u32::try_from(IDLE).ok()? * ROW;
        let mut walks = Walks::new(&mut self.parts, origin, length);
        let mut at = [READY; LANES];
        for step in 0..MAX_STEPS {
            let mut entries = at.map(|row| rows[row % MAX_ROWS]);
            if entries.iter().fold(0, |all, entry| all | entry) & START != 0 {
                for (lane, entry) in entries.iter_mut().enumerate() {
                    if *entry & START != 0 {
                        *entry = rows[walks.turn(lane, at[lane], step)] & !START;
                    }
                }
                if walks.busy == 0 {
                    return Some(());
                }
            }
            for (lane, entry) in entries.iter().enumerate() {
                read[lane * MAX_STEPS + step] = entry.to_le_bytes()[0];
                at[lane] = (entry / ROW) as usize;
            }
        }
        None
    }
}

/// Returns the byte of a run and its length.
fn split(run: Run) -> (usize, usize) {
    ((run % ROW) as usize, (run / ROW) as usize)
}

/// Who walks where.
struct Walks<'a> {
    /// What those that have ended have read.
    parts: &'a mut [Part],
    /// Where others are to begin.
    starts: Chain<IntoIter<usize>, StepBy<Range<usize>>>,
    /// For each lane that walks, the row and the step where it began.
    lanes: [Option<(usize, usize)>; LANES],
    /// How many they are.
    busy: usize,
}

impl<'a> Walks<'a> {
    fn new(parts: &'a mut Vec<Part>, origin: usize, length: usize) -> Self {
        parts.clear();
        parts.resize(MAX_ROWS / SPACING + 1, Part::default());
        let irregular = (!origin.is_multiple_of(SPACING)).then_some(origin);
        Self {
            parts,
            starts: irregular.into_iter().chain((0..length).step_by(SPACING)),
            lanes: [None; LANES],
            busy: 0,
        }
    }

    /// Ends the walk of a lane, which has come to `row`, the start of another; returns where it begins its next one.
    #[cold]
    fn turn(&mut self, lane: usize, row: usize, step: usize) -> usize {
        if let Some((start, first)) = self.lanes[lane].take() {
            self.busy -= 1;
            let read = lane * MAX_STEPS + first..lane * MAX_STEPS + step;
            self.parts[part_from(start)] = Part { read, next: row };
        }
        let Some(start) = self.starts.next() else {
            return IDLE;
        };
        self.busy += 1;
        self.lanes[lane] = Some((start, step));
        start
    }
}

/// Returns the number of the part that begins at a row. The last is the one that begins at no regular row.
fn part_from(start: usize) -> usize {
    if start.is_multiple_of(SPACING) {
        start / SPACING
    } else {
        MAX_ROWS / SPACING
    }
}

#[cfg(test)]
mod tests {
    use super::{IDLE, ROW, Ring, Run};

    /// Transforms as the definition says, with all rotations; returns the runs and the row of the original.
    fn transform(plain: &[u8]) -> (Vec<Run>, usize) {
        let mut rows: Vec<usize> = (0..plain.len()).collect();
        rows.sort_by_cached_key(|row| [&plain[*row..], &plain[..*row]].concat());
        let last = |row: &usize| plain[(row + plain.len() - 1) % plain.len()];
        let bytes: Vec<u8> = rows.iter().map(last).collect();
        let runs = bytes
            .chunk_by(|a, b| a == b)
            .map(|run| u32::try_from(run.len()).unwrap() * ROW + Run::from(run[0]));
        let origin = rows.iter().position(|row| *row == 0).unwrap();
        (runs.collect(), origin)
    }

    #[test]
    fn what_was_transformed_comes_back() {
        let mut ring = Ring::new();
        let mut plain = Vec::new();
        let long: Vec<u8> = (0..9000_u32)
            .map(|n| (n * n / 100).to_le_bytes()[0])
            .collect();
        for original in [
            &b"x"[..],
            b"banana",
            b"no run is longer than fourrrrr",
            &b"abc".repeat(2000),
            &b"0000".repeat(5000),
            &[&b"abc".repeat(2500)[..], b"d"].concat(),
            &long,
        ] {
            let (runs, origin) = transform(original);
            let length = original.len();
            ring.invert(&runs, origin, length, &mut plain).unwrap();
            assert!(plain == original, "{length}");
            assert!(ring.invert(&runs, origin, length - 1, &mut plain).is_none());
            assert!(ring.invert(&runs, length, length, &mut plain).is_none());
        }
        let many = [u32::try_from(IDLE).unwrap() * ROW];
        assert!(
            ring.invert(&[many, many].concat(), 0, usize::MAX, &mut plain)
                .is_none()
        );
    }

    #[test]
    fn one_walk_that_is_too_long_is_left_alone() {
        // Each row leads to the next one, but for those where walks begin: these lead to themselves.
        let mut ring = Ring::new();
        let total = 500_000;
        let runs = [total * ROW];
        assert_eq!(ring.link(&runs, 900_000), Some(500_000));
        for row in 0..total {
            let next = if row.is_multiple_of(4096) {
                row
            } else if row % 4096 == 4095 {
                row + 2
            } else {
                row + 1
            };
            ring.rows[row as usize] = next % total * ROW;
        }
        assert!(ring.walk(1, 500_000).is_none());
        assert!(ring.walk(490_000, 500_000).is_some());
    }
}
