//! A log of a disk's writes, and what a power cut leaves of them.
//!
//! The format is that of the kernel's dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst), as QEMU's
//! `blklogwrites` writes it: a superblock in the first sector; then for each request one sector that describes it,
//! followed by its data. All numbers are little-endian.
//!
//! A disk has what was flushed. What was written after the last flush it may have, or not, or begun: [`survivors`]
//! decides that by a seed, [`replay`] does it. Nothing here opens a file.

use anyhow::{Context, Result, bail, ensure};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;
/// Sectors of a log that does not say it, bytes; QEMU's own default, too.
const DEFAULT_SECTOR_BYTES: u64 = 512;
/// More than any request of a virtual disk has, sectors: what says more is no entry.
const LARGEST_SECTORS: u64 = 1 << 22;

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where on the disk, sectors.
    sector: u64,
    /// How much, sectors; none for a mere flush.
    sectors: u64,
    flags: u64,
    /// Where in the log its data begins, bytes.
    data_at: u64,
}

impl Entry {
    fn is(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// Whether it changes the disk.
    fn changes(&self) -> bool {
        self.sectors > 0 && !self.is(MARK)
    }
}

/// A log, without its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    sector_bytes: u64,
    entries: Vec<Entry>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// All of it is on the disk.
    Kept,
    /// Its first sectors are, fewer than all.
    Torn {
        /// How many.
        sectors: u64,
    },
    /// Nothing of it is.
    Lost,
}

/// Reads a log whose writer may have been killed.
///
/// Each request gets its place in the log before its sectors are written there, so one that was under way when the
/// writer ended is a hole of zeros, of unknown length: it was never acknowledged to the guest. What comes after it may
/// have been, and is found where the zeros end, since no sector that describes a request is all zeros.
///
/// # Errors
/// When it cannot be read, or is no such log.
pub(crate) fn read(log: &mut (impl Read + Seek)) -> Result<Log> {
    let sector_bytes = sector_size(log)?;
    let mut entries = Vec::new();
    let mut at = sector_bytes;
    while let Some(sector) = read_sector(log, at, sector_bytes)? {
        let found = entry(&sector, at + sector_bytes).with_context(|| format!("the log at byte {at}"))?;
        at += sector_bytes;
        if let Some(found) = found {
            if !found.is(DISCARD) {
                at += found.sectors * sector_bytes;
            }
            entries.push(found);
        }
    }
    Ok(Log { sector_bytes, entries })
}

/// The size of the log's sectors, from its superblock. That is written at the first flush: before, there are zeros.
fn sector_size(log: &mut (impl Read + Seek)) -> Result<u64> {
    let Some(head) = read_sector(log, 0, DEFAULT_SECTOR_BYTES)? else { return Ok(DEFAULT_SECTOR_BYTES) };
    if head.iter().all(|byte| *byte == 0) {
        return Ok(DEFAULT_SECTOR_BYTES);
    }
    let (magic, version) = (number(&head, 0), number(&head, 8));
    ensure!(magic == MAGIC, "the log begins with {magic:#x}, which is no log of writes");
    ensure!(version == VERSION, "the log is of version {version}, which is not known");
    let bytes = number(&head, 24) & u64::from(u32::MAX);
    ensure!(
        bytes.is_power_of_two() && (DEFAULT_SECTOR_BYTES..=4096).contains(&bytes),
        "the log has sectors of {bytes} bytes"
    );
    Ok(bytes)
}

/// A sector of the log; none at its end, or where it breaks off.
fn read_sector(log: &mut (impl Read + Seek), at: u64, bytes: u64) -> Result<Option<Vec<u8>>> {
    let mut sector = vec![0; usize::try_from(bytes).context("a sector's size")?];
    log.seek(SeekFrom::Start(at)).with_context(|| format!("go to byte {at} of the log"))?;
    match log.read_exact(&mut sector) {
        Ok(()) => Ok(Some(sector)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read byte {at} of the log")),
    }
}

/// The request that a sector describes; none when it is all zeros.
fn entry(sector: &[u8], data_at: u64) -> Result<Option<Entry>> {
    let entry =
        Entry { sector: number(sector, 0), sectors: number(sector, 8), flags: number(sector, 16), data_at };
    if sector.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let padded = sector.iter().skip(32).all(|byte| *byte == 0);
    let known = entry.flags & !(FLUSH | FUA | DISCARD | MARK) == 0;
    let sized = entry.sectors <= LARGEST_SECTORS && (entry.sectors > 0 || entry.is(FLUSH) || entry.is(MARK));
    if !(padded && known && sized) {
        bail!("no request is described there: {entry:?}");
    }
    Ok(Some(entry))
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    for (to, from) in number.iter_mut().zip(bytes.iter().skip(at)) {
        *to = *from;
    }
    u64::from_le_bytes(number)
}

impl Log {
    /// How many requests are before the last flush, that one included; all of theirs is on the disk.
    fn flushed(&self) -> usize {
        self.entries.iter().rposition(|entry| entry.is(FLUSH)).map_or(0, |last| last + 1)
    }
}

/// What a power cut leaves of each request, in their order. What was flushed is kept, and what was written through
/// (FUA); of the rest each is kept, torn or lost as the seed has it.
pub(crate) fn survivors(log: &Log, seed: u64) -> Vec<Fate> {
    let flushed = log.flushed();
    let mut random = Random(seed);
    let fate = |(index, entry): (usize, &Entry)| {
        // A flush flag on a write is about what was before it: its own data may still be lost.
        let own_flush = index + 1 == flushed && entry.changes();
        if entry.is(FUA) || (index < flushed && !own_flush) || !entry.changes() {
            return Fate::Kept;
        }
        match random.below(8) {
            0..=3 => Fate::Lost,
            4 if entry.sectors > 1 => Fate::Torn { sectors: 1 + random.below(entry.sectors - 1) },
            _ => Fate::Kept,
        }
    };
    log.entries.iter().enumerate().map(fate).collect()
}

/// Writes to a disk what has survived of a log. What was discarded reads as zeros.
///
/// # Errors
/// When the log cannot be read or the disk cannot be written.
pub(crate) fn replay(
    log: &Log,
    fates: &[Fate],
    source: &mut (impl Read + Seek),
    disk: &mut (impl Write + Seek),
) -> Result<()> {
    for (entry, fate) in log.entries.iter().zip(fates).filter(|(entry, _)| entry.changes()) {
        let sectors = match fate {
            Fate::Kept => entry.sectors,
            Fate::Torn { sectors } => *sectors,
            Fate::Lost => continue,
        };
        let bytes = sectors * log.sector_bytes;
        disk.seek(SeekFrom::Start(entry.sector * log.sector_bytes)).context("go to a sector of the disk")?;
        let written = if entry.is(DISCARD) {
            std::io::copy(&mut std::io::repeat(0).take(bytes), disk)
        } else {
            source.seek(SeekFrom::Start(entry.data_at)).context("go to a request's data")?;
            // Data that the log breaks off in was never acknowledged: what is there of it is a torn write.
            std::io::copy(&mut source.take(bytes), disk)
        };
        written.with_context(|| format!("write sector {} of the disk", entry.sector))?;
    }
    disk.flush().context("write the disk")
}

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is at least 1.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
    use std::io::Cursor;

    const SECTOR: usize = 512;

    /// A request as the writer of a log sees it: where, how much, and the byte that its data repeats.
    #[derive(Debug, Clone, Copy)]
    struct Request {
        sector: u64,
        sectors: u64,
        flags: u64,
        byte: u8,
    }

    fn write(sector: u64, sectors: u64, byte: u8) -> Request {
        Request { sector, sectors, flags: 0, byte }
    }

    fn flush() -> Request {
        Request { sector: 0, sectors: 0, flags: FLUSH, byte: 0 }
    }

    fn padded(numbers: &[u64]) -> Vec<u8> {
        let mut sector: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        sector.resize(SECTOR, 0);
        sector
    }

    fn encode(requests: &[Request]) -> Vec<u8> {
        let mut log = padded(&[MAGIC, VERSION, requests.len() as u64, SECTOR as u64]);
        for request in requests {
            log.extend(padded(&[request.sector, request.sectors, request.flags, 0]));
            if request.flags & DISCARD == 0 {
                log.extend(vec![request.byte; usize::try_from(request.sectors).unwrap() * SECTOR]);
            }
        }
        log
    }

    /// The first byte of each of the disk's eight sectors, after a cut with these fates.
    fn disk_after(bytes: &[u8], fates: &[Fate]) -> String {
        let log = read(&mut Cursor::new(bytes)).unwrap();
        let mut disk = Cursor::new(vec![b'.'; 8 * SECTOR]);
        replay(&log, fates, &mut Cursor::new(bytes), &mut disk).unwrap();
        let first = |sector: &[u8]| char::from(if sector[0] == 0 { b'0' } else { sector[0] });
        disk.into_inner().chunks(SECTOR).map(first).collect()
    }

    fn kept(count: usize) -> Vec<Fate> {
        vec![Fate::Kept; count]
    }

    #[test]
    fn requests_are_replayed_in_order() {
        let discard = Request { flags: DISCARD, ..write(1, 1, 0) };
        let requests = [write(0, 4, b'a'), flush(), write(2, 2, b'b'), discard];
        assert_eq!(disk_after(&encode(&requests), &kept(4)), "a0bb....");
        let torn = [Fate::Torn { sectors: 3 }, Fate::Kept, Fate::Lost, Fate::Lost];
        assert_eq!(disk_after(&encode(&requests), &torn), "aaa.....");
    }

    #[test]
    fn a_request_that_was_never_logged_hides_none_after_it() {
        let mut bytes = encode(&[write(0, 2, b'a'), write(2, 2, b'b'), write(4, 1, b'c'), flush()]);
        let second = SECTOR * (1 + 3)..SECTOR * (1 + 3 + 3);
        bytes[second].fill(0);
        let log = read(&mut Cursor::new(&bytes)).unwrap();
        assert_eq!(log.entries.len(), 3);
        assert_eq!(disk_after(&bytes, &survivors(&log, 1)), "aa..c...");
    }

    #[test]
    fn a_log_may_break_off_anywhere() {
        let whole = encode(&[write(0, 2, b'a'), write(2, 2, b'b')]);
        for length in SECTOR..whole.len() {
            let log = read(&mut Cursor::new(&whole[..length])).unwrap();
            let shown = disk_after(&whole[..length], &kept(log.entries.len()));
            assert!(
                "aabb....".chars().zip(shown.chars()).all(|(full, now)| now == full || now == '.'),
                "{shown}"
            );
        }
    }

    #[test]
    fn before_the_first_flush_there_is_no_superblock() {
        assert_eq!(read(&mut Cursor::new(&[])).unwrap().entries, []);
        let mut bytes = encode(&[write(0, 2, b'a')]);
        bytes[..SECTOR].fill(0);
        assert_eq!(read(&mut Cursor::new(&bytes)).unwrap().entries.len(), 1);
    }

    #[test]
    fn what_is_no_log_is_refused() {
        let check = |bytes: &[u8], expected: &str| {
            let error = format!("{:#}", read(&mut Cursor::new(bytes)).unwrap_err());
            assert!(error.contains(expected), "{error}");
        };
        check(&padded(&[1, VERSION, 0, SECTOR as u64]), "no log of writes");
        check(&padded(&[MAGIC, 2, 0, SECTOR as u64]), "version 2");
        check(&padded(&[MAGIC, VERSION, 0, 100]), "sectors of 100 bytes");
        let mut bytes = encode(&[write(0, 1, b'a')]);
        bytes[SECTOR + 17] = 1;
        check(&bytes, "the log at byte 512: no request");
    }

    fn requests() -> impl Strategy<Value = Vec<Request>> {
        let one = prop_oneof![
            4 => (0_u64..6, 1_u64..=2, any::<u8>(), prop_oneof![4 => Just(0), 1 => Just(FUA), 1 => Just(FLUSH)])
                .prop_map(|(sector, sectors, byte, flags)| Request { sector, sectors, flags, byte }),
            1 => Just(flush()),
        ];
        prop::collection::vec(one, 0..40)
    }

    proptest! {
        #[test]
        fn what_was_flushed_is_kept_and_a_seed_says_the_same_again(requests in requests(), seed: u64) {
            let log = read(&mut Cursor::new(encode(&requests))).unwrap();
            let fates = survivors(&log, seed);
            prop_assert_eq!(&fates, &survivors(&log, seed));
            let last_flush = requests.iter().rposition(|request| request.flags & FLUSH != 0).unwrap_or(0);
            for (index, (request, fate)) in requests.iter().zip(&fates).enumerate() {
                if index < last_flush || request.flags & FUA != 0 {
                    prop_assert_eq!(*fate, Fate::Kept);
                }
                if let Fate::Torn { sectors } = fate {
                    prop_assert!((1..request.sectors).contains(sectors));
                }
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
            let _ = read(&mut Cursor::new(bytes));
        }
    }

    #[test]
    fn every_fate_comes_about() {
        let requests: Vec<_> = (0..64).map(|_| write(0, 2, b'a')).collect();
        let fates = survivors(&read(&mut Cursor::new(encode(&requests))).unwrap(), 7);
        for fate in [Fate::Kept, Fate::Lost, Fate::Torn { sectors: 1 }] {
            assert!(fates.contains(&fate), "{fate:?} in {fates:?}");
        }
    }
}
