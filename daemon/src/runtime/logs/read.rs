//! Reading: containers' logs, as containerd's CRI writes them, read back as the container wrote them, over all the files
//! that are kept of an attempt.
//!
//! A line of the file is `<time> <stdout|stderr> <P|F>[:…] <text>`: `P` for a part of a line that was too long, `F`
//! for its end (Kubernetes' CRI log format). Parts are joined, and only whole lines are handed out.

use super::joiner::Joiner;
use super::plan::{LogName, Part};
use super::unpack::Unpacking;
use crate::runtime::identity::log_folder;
use berth_model::{Attempt, ContainerName, Incarnation, PodId};
use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::mpsc;

/// How often a file that is followed is looked at.
const FOLLOW_POLL: Duration = Duration::from_millis(250);
/// Chunks that wait for a slow reader.
const QUEUE_LIMIT: usize = 16;
/// A chunk is handed out when it is this large, or when there is no more for now.
const CHUNK_BYTES: usize = 64 << 10;
/// How often the files may be renamed while they are being opened.
const OPEN_TRIES: usize = 5;
/// Most lines that `tail` keeps in memory.
const TAIL_LIMIT_LINES: u32 = 100_000;

/// Whether to stay at the end of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Until the reader goes.
    Yes,
    /// What is there now.
    No,
}

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogQuery {
    /// Where all pods' log folders are ([`RuntimePaths::logs`](crate::runtime::RuntimePaths::logs)).
    pub root: PathBuf,
    /// Whose.
    pub pod: PodId,
    /// Of which placement.
    pub incarnation: Incarnation,
    /// Of which container.
    pub container: ContainerName,
    /// Of which of its successors.
    pub attempt: Attempt,
    /// Only so many lines from the end; all of them if none.
    pub tail_lines: Option<u32>,
    /// Whether to stay.
    pub follow: Follow,
}

impl LogQuery {
    fn folder(&self) -> PathBuf {
        self.root.join(log_folder(&self.pod, self.incarnation)).join(self.container.as_str())
    }

    /// The file that containerd writes to while the container runs.
    fn path(&self) -> PathBuf {
        self.folder().join(LogName::current(self.attempt).to_string())
    }

    /// Those that it wrote before, the oldest first.
    fn ended(&self) -> io::Result<Vec<LogName>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.folder())? {
            let name = entry?.file_name().into_string();
            names.extend(name.ok().and_then(|name| LogName::parse(&name)));
        }
        names.retain(|name| name.attempt == self.attempt && name.part != Part::Current);
        names.sort();
        // While one is packed it is there twice, for a moment.
        names.dedup_by_key(|name| name.packed());
        Ok(names)
    }
}

/// A log could not be read.
#[derive(Debug, thiserror::Error)]
#[error("read log {path}")]
pub struct LogError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Reads a log, in chunks of whole lines. Following ends when the receiver is dropped.
///
/// # Errors
/// When there is no such file. What goes wrong later is the last item.
pub async fn read_logs(query: LogQuery) -> Result<mpsc::Receiver<Result<Vec<u8>, LogError>>, LogError> {
    let path = query.path();
    let files = open_all(&query).await.map_err(|source| LogError { path: path.clone(), source })?;
    let (sender, receiver) = mpsc::channel(QUEUE_LIMIT);
    tokio::spawn(async move {
        let ended = Reader::new(files, sender.clone()).run(&query).await;
        if let Err(source) = ended {
            // The reader may be gone by now, and then nobody wants to know.
            drop(sender.send(Err(LogError { path: query.path(), source })).await);
        }
    });
    Ok(receiver)
}

/// A pod cannot plant a link here, and if one is there it is not followed.
async fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path).await
}

/// An open file of a log.
#[derive(Debug)]
struct Opened {
    file: File,
    is_packed: bool,
    /// Its place in the attempt's log. The current file has the number that it will have once it is ended.
    number: u32,
}

/// All files, the oldest first, the current one last. What is renamed meanwhile is looked for again.
async fn open_all(query: &LogQuery) -> io::Result<VecDeque<Opened>> {
    let mut tries = 1..=OPEN_TRIES;
    loop {
        match open_after(query, 0).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries.next().is_some() => {
                // Between a rename and containerd's beginning anew there is none.
                tokio::time::sleep(FOLLOW_POLL).await;
            }
            opened => return opened,
        }
    }
}

/// The files whose number is larger than `after`.
async fn open_after(query: &LogQuery, after: u32) -> io::Result<VecDeque<Opened>> {
    let mut files = VecDeque::new();
    let ended = query.ended()?;
    for name in &ended {
        if let Part::Ended { number, packed } = name.part
            && number > after
        {
            let file = open(&query.folder().join(name.to_string())).await?;
            files.push_back(Opened { file, is_packed: packed, number });
        }
    }
    let last = last_number(&ended);
    files.push_back(Opened { file: open(&query.path()).await?, is_packed: false, number: last + 1 });
    // Had the current one been renamed since the folder was read, it would be missing in between.
    match last_number(&query.ended()?) == last {
        true => Ok(files),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

fn last_number(ended: &[LogName]) -> u32 {
    let numbers = ended.iter().filter_map(|name| match name.part {
        Part::Ended { number, .. } => Some(number),
        Part::Current => None,
    });
    numbers.max().unwrap_or(0)
}

type Input = BufReader<Box<dyn AsyncRead + Send + Sync + Unpin>>;

async fn input(opened: Opened) -> Input {
    let input: Box<dyn AsyncRead + Send + Sync + Unpin> = match opened.is_packed {
        false => Box::new(opened.file),
        true => Box::new(Unpacking::begin(opened.file.into_std().await)),
    };
    BufReader::with_capacity(CHUNK_BYTES, input)
}

struct Reader {
    /// Files that come after the one that is read.
    later: VecDeque<Opened>,
    input: Input,
    /// The inode and the number of the file that is read.
    inode: u64,
    number: u32,
    /// Whether another file was seen already: containerd may still have been writing to this one then.
    is_ended: bool,
    joiner: Joiner,
    /// An unfinished line of the file itself.
    partial: Vec<u8>,
    sender: mpsc::Sender<Result<Vec<u8>, LogError>>,
}

impl Reader {
    fn new(later: VecDeque<Opened>, sender: mpsc::Sender<Result<Vec<u8>, LogError>>) -> Self {
        let nothing: Box<dyn AsyncRead + Send + Sync + Unpin> = Box::new(tokio::io::empty());
        Self {
            later,
            input: BufReader::new(nothing),
            inode: 0,
            number: 0,
            is_ended: false,
            joiner: Joiner::default(),
            partial: Vec::new(),
            sender,
        }
    }

    async fn run(mut self, query: &LogQuery) -> io::Result<()> {
        if let Some(lines) = query.tail_lines {
            self.send_tail(lines.min(TAIL_LIMIT_LINES) as usize).await?;
        }
        loop {
            let more = self.send_rest().await?;
            if query.follow == Follow::No || !more {
                return Ok(());
            }
            tokio::select! {
                // Both only wait: nothing is lost when the other comes first.
                () = self.sender.closed() => return Ok(()),
                () = tokio::time::sleep(FOLLOW_POLL) => {}
            }
            self.look_for_another(query).await?;
        }
    }

    /// Whether containerd has begun another file. It does so before it has written the last to the one before, which is
    /// therefore read to its end once more, a while later.
    async fn look_for_another(&mut self, query: &LogQuery) -> io::Result<()> {
        let current = match open(&query.path()).await {
            Ok(file) => file.metadata().await?.ino(),
            // Renamed, and not begun anew yet; or gone with its pod.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if current == self.inode {
            return Ok(());
        }
        if !std::mem::replace(&mut self.is_ended, true) {
            return Ok(());
        }
        let later = match open_after(query, self.number).await {
            // Renamed just now: the next look finds them all.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            later => later?,
        };
        if later.front().is_some_and(|next| next.number > self.number + 1) {
            return Err(io::Error::other("it was removed before it was all read: the reader is too slow"));
        }
        self.later = later;
        Ok(())
    }

    /// The last lines of what is there now.
    async fn send_tail(&mut self, lines: usize) -> io::Result<()> {
        let mut last = VecDeque::new();
        while let Some(line) = self.next_line().await? {
            last.push_back(line);
            if last.len() > lines {
                last.pop_front();
            }
        }
        let mut chunk = Vec::new();
        for line in last {
            chunk.extend(line);
            if chunk.len() >= CHUNK_BYTES && !self.send(std::mem::take(&mut chunk)).await {
                return Ok(());
            }
        }
        self.send(chunk).await;
        Ok(())
    }

    /// Everything up to the end for now; false when nobody reads any more.
    async fn send_rest(&mut self) -> io::Result<bool> {
        let mut chunk = Vec::new();
        while let Some(line) = self.next_line().await? {
            chunk.extend(line);
            if chunk.len() >= CHUNK_BYTES && !self.send(std::mem::take(&mut chunk)).await {
                return Ok(false);
            }
        }
        Ok(self.send(chunk).await)
    }

    async fn send(&self, chunk: Vec<u8>) -> bool {
        if chunk.is_empty() {
            return !self.sender.is_closed();
        }
        self.sender.send(Ok(chunk)).await.is_ok()
    }

    /// The next whole line that the container wrote, with its line break; none at the end for now.
    async fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let read = self.input.read_until(b'\n', &mut self.partial).await?;
            if self.partial.ends_with(b"\n") {
                let line = std::mem::take(&mut self.partial);
                if let Some(joined) = self.joiner.take(&line) {
                    return Ok(Some(joined));
                }
            } else if read == 0 {
                // The end, or a line that is still being written: it is taken up with what is written next.
                let Some(next) = self.later.pop_front() else { return Ok(None) };
                (self.inode, self.number, self.is_ended) =
                    (next.file.metadata().await?.ino(), next.number, false);
                self.partial.clear();
                self.input = input(next).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn query(root: &Path, tail_lines: Option<u32>, follow: Follow) -> LogQuery {
        LogQuery {
            root: root.to_owned(),
            pod: PodId::new("shop", "web").unwrap(),
            incarnation: Incarnation(1),
            container: ContainerName::new("app").unwrap(),
            attempt: Attempt(1),
            tail_lines,
            follow,
        }
    }

    const FILE: &str = "2026-01-01T00:00:00.000000001Z stdout F first line\n\
                        2026-01-01T00:00:00.000000002Z stdout P sec\n\
                        2026-01-01T00:00:00.000000003Z stderr F aside\n\
                        2026-01-01T00:00:00.000000004Z stdout F ond\n\
                        2026-01-01T00:00:00.000000005Z stdout F \n\
                        2026-01-01T00:00:00.000000006Z stdout P never end";

    fn write(query: &LogQuery, text: &str) -> std::fs::File {
        std::fs::create_dir_all(query.path().parent().unwrap()).unwrap();
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(query.path()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    async fn read_all(query: LogQuery) -> String {
        let mut chunks = read_logs(query).await.unwrap();
        let mut text = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            text.extend(chunk.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn parts_are_joined_and_only_whole_lines_come_out() {
        let root = tempfile::tempdir().unwrap();
        for (tail, expected) in [
            (None, "first line\naside\nsecond\n\n"),
            (Some(2), "second\n\n"),
            (Some(0), ""),
            (Some(9), "first line\naside\nsecond\n\n"),
        ] {
            let query = query(root.path(), tail, Follow::No);
            if !query.path().exists() {
                write(&query, FILE);
            }
            assert_eq!(read_all(query).await, expected, "{tail:?}");
        }
    }

    #[tokio::test]
    async fn following_finishes_a_line_that_was_half_written() {
        let root = tempfile::tempdir().unwrap();
        let query = query(root.path(), Some(1), Follow::Yes);
        let mut file = write(&query, FILE);
        let mut chunks = read_logs(query).await.unwrap();
        assert_eq!(chunks.recv().await.unwrap().unwrap(), b"\n");
        file.write_all(b"ing\n2026-01-01T00:00:00.000000007Z stdout F  story\n").unwrap();
        let deadline = Duration::from_secs(20);
        let chunk = tokio::time::timeout(deadline, chunks.recv()).await.unwrap().unwrap().unwrap();
        assert_eq!(chunk, b"never ending story\n");
    }

    #[tokio::test]
    async fn a_missing_log_and_a_link_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let query = query(root.path(), None, Follow::No);
        assert!(read_logs(query.clone()).await.is_err());
        std::fs::create_dir_all(query.path().parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", query.path()).unwrap();
        assert!(read_logs(query).await.is_err());
    }

    fn line(number: u32) -> String {
        format!("2026-01-01T00:00:00.000000001Z stdout F line {number}\n")
    }

    fn pack(query: &LogQuery, name: &str, text: &str) {
        let file = std::fs::File::create(query.folder().join(name)).unwrap();
        let mut packing = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        packing.write_all(text.as_bytes()).unwrap();
        packing.finish().unwrap();
    }

    #[tokio::test]
    async fn all_files_of_an_attempt_are_read_in_their_order() {
        let root = tempfile::tempdir().unwrap();
        let all = query(root.path(), None, Follow::No);
        write(&all, &line(4));
        pack(&all, "1.log.9.gz", &(line(1) + "2026-01-01T00:00:00.000000001Z stdout P line \n"));
        std::fs::write(
            all.folder().join("1.log.10"),
            "2026-01-01T00:00:00.000000001Z stdout F 2\n".to_owned() + &line(3),
        )
        .unwrap();
        pack(&all, "1.log.10.gz.new", "half");
        std::fs::write(all.folder().join("2.log.1"), line(9)).unwrap();
        assert_eq!(read_all(all).await, "line 1\nline 2\nline 3\nline 4\n");
        let tail = query(root.path(), Some(3), Follow::No);
        assert_eq!(read_all(tail).await, "line 2\nline 3\nline 4\n");
    }

    #[tokio::test]
    async fn following_goes_on_in_the_next_file() {
        let root = tempfile::tempdir().unwrap();
        let query = query(root.path(), None, Follow::Yes);
        let mut file = write(&query, &line(1));
        let mut chunks = read_logs(query.clone()).await.unwrap();
        assert_eq!(chunks.recv().await.unwrap().unwrap(), b"line 1\n");
        // As a rotation does it: the next one is begun while something is still written to the one before.
        std::fs::rename(query.path(), query.folder().join("1.log.1")).unwrap();
        write(&query, &line(3));
        tokio::time::sleep(FOLLOW_POLL * 3 / 2).await;
        file.write_all(line(2).as_bytes()).unwrap();
        // And twice more before anybody looks.
        std::fs::rename(query.path(), query.folder().join("1.log.2")).unwrap();
        pack(&query, "1.log.3.gz", &line(4));
        write(&query, &line(5));
        let mut text = Vec::new();
        while !text.ends_with(b"line 5\n") {
            let chunk = tokio::time::timeout(Duration::from_secs(20), chunks.recv()).await.unwrap();
            text.extend(chunk.unwrap().unwrap());
        }
        assert_eq!(String::from_utf8(text).unwrap(), "line 2\nline 3\nline 4\nline 5\n");
    }

    #[tokio::test]
    async fn whoever_reads_too_slowly_is_told() {
        let root = tempfile::tempdir().unwrap();
        let query = query(root.path(), None, Follow::Yes);
        write(&query, &line(1));
        let mut chunks = read_logs(query.clone()).await.unwrap();
        assert_eq!(chunks.recv().await.unwrap().unwrap(), b"line 1\n");
        std::fs::rename(query.path(), query.folder().join("1.log.1")).unwrap();
        std::fs::write(query.folder().join("1.log.3"), line(3)).unwrap();
        std::fs::remove_file(query.folder().join("1.log.1")).unwrap();
        write(&query, &line(4));
        let told = tokio::time::timeout(Duration::from_secs(20), chunks.recv()).await.unwrap().unwrap();
        assert!(crate::report::chain(&told.unwrap_err()).contains("too slow"));
    }
}
