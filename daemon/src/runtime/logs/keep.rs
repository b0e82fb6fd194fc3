//! Keeping logs within their limits: the loop, and its effects.

use super::plan::{Chore, LogLimits, LogName, chores, unfinished};
use crate::report::chain;
use crate::runtime::RuntimeError;
use crate::runtime::client::Client;
use crate::runtime::cri::CriState;
use crate::runtime::error::{permanent, transient};
use crate::runtime::identity::{Role, Tag, any_pod_filter, is_log_folder, log_folder};
use berth_model::{Attempt, Incarnation, PodId};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::time::sleep;
use tracing::{debug, warn};

/// How often the folders are looked at, as kubelet does (`containerLogMonitorInterval`).
const ROUND: Duration = Duration::from_secs(10);
/// How long the logs of a pod that is gone are kept after their last line.
const GONE_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Keeps containers' logs within limits.
#[derive(Debug)]
pub struct Keeper {
    client: Client,
    root: PathBuf,
    limits: LogLimits,
}

/// The folder of a container's logs, below the root: its pod's, and its own in there.
type Place = (String, String);
/// Runtime ids of containers, by place and attempt.
type Ids = BTreeMap<(String, String, Attempt), String>;

impl Keeper {
    /// Of the logs below `root`.
    pub(in crate::runtime) fn new(client: Client, root: PathBuf, limits: LogLimits) -> Self {
        Self { client, root, limits }
    }

    /// Does so for ever. `pods` says which there are.
    pub async fn run(self, pods: impl Fn() -> Vec<(PodId, Incarnation)>) -> Infallible {
        loop {
            sleep(ROUND).await;
            // While the runtime is away nothing is written, either.
            if let Err(error) = self.round(&pods()).await {
                debug!("logs are not looked after: {}", chain(&error));
            }
        }
    }

    async fn round(&self, pods: &[(PodId, Incarnation)]) -> Result<(), RuntimeError> {
        let mut known: BTreeSet<String> =
            pods.iter().map(|(pod, incarnation)| log_folder(pod, *incarnation)).collect();
        let mut ids = Ids::new();
        for record in self.client.list_records(any_pod_filter()).await? {
            let Some(tag) = Tag::from_labels(record.labels()) else { continue };
            let folder = log_folder(&tag.pod, tag.incarnation);
            known.insert(folder.clone());
            if let Role::Container { name, .. } = &tag.role {
                ids.insert((folder, name.to_string(), tag.attempt), record.id().to_owned());
            }
        }
        for (place, chores) in self.look(known).await? {
            for chore in chores {
                if let Err(error) = self.carry_out(&place, &chore, &ids).await {
                    let (folder, container) = &place;
                    warn!(folder, container, "{chore:?}: {}", chain(&error));
                }
            }
        }
        Ok(())
    }

    async fn carry_out(&self, place: &Place, chore: &Chore, ids: &Ids) -> Result<(), RuntimeError> {
        let (folder, container) = place;
        let path = self.root.join(folder).join(container);
        let id = |attempt| ids.get(&(folder.clone(), container.clone(), attempt));
        match chore {
            Chore::Rotate { attempt, to } => {
                self.rotate(id(*attempt), &path, LogName::current(*attempt), *to).await
            }
            Chore::Reopen { attempt, last } => {
                self.reopen(id(*attempt), &path, *last, LogName::current(*attempt)).await
            }
            Chore::Pack(name) => self.pack(&path, *name).await,
            Chore::Remove(name) => self.remove(path.join(name)).await,
        }
    }

    /// What is to be done where; folders of pods that are gone for long are removed.
    async fn look(&self, known: BTreeSet<String>) -> Result<Vec<(Place, Vec<Chore>)>, RuntimeError> {
        let (root, limits) = (self.root.clone(), self.limits);
        let what = || format!("look at the logs in {}", self.root.display());
        let looked =
            tokio::task::spawn_blocking(move || look(&root, limits, &known, SystemTime::now())).await;
        looked.map_err(|error| transient(what(), error))?.map_err(|error| transient(what(), error))
    }

    async fn rotate(
        &self,
        id: Option<&String>,
        folder: &Path,
        from: LogName,
        to: LogName,
    ) -> Result<(), RuntimeError> {
        match id {
            Some(id) if self.runs(id).await? => {
                rename(folder, from, to).await?;
                self.client.reopen_log(id).await
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A container that ended while its log was rotated has not begun anew, and never will.
    async fn reopen(
        &self,
        id: Option<&String>,
        folder: &Path,
        last: LogName,
        current: LogName,
    ) -> Result<(), RuntimeError> {
        match id {
            Some(id) if self.runs(id).await? => self.client.reopen_log(id).await,
            Some(_) | None => rename(folder, last, current).await,
        }
    }

    async fn runs(&self, id: &str) -> Result<bool, RuntimeError> {
        let status = self.client.cri_status(id).await?;
        Ok(matches!(CriState::of(status.as_ref()), CriState::Running { .. }))
    }

    async fn pack(&self, folder: &Path, name: LogName) -> Result<(), RuntimeError> {
        let what = format!("pack {}", folder.join(name.to_string()).display());
        let folder = folder.to_owned();
        let packed = tokio::task::spawn_blocking(move || pack(&folder, name)).await;
        packed.map_err(|error| transient(&what, error))?.map_err(|error| permanent(&what, error))
    }

    async fn remove(&self, path: PathBuf) -> Result<(), RuntimeError> {
        let removed = tokio::fs::remove_file(&path).await;
        removed.map_err(|error| permanent(format!("remove {}", path.display()), error))
    }
}

async fn rename(folder: &Path, from: LogName, to: LogName) -> Result<(), RuntimeError> {
    let (from, to) = (folder.join(from.to_string()), folder.join(to.to_string()));
    let renamed = tokio::fs::rename(&from, &to).await;
    renamed.map_err(|error| permanent(format!("rename {} to {}", from.display(), to.display()), error))
}

/// What is wrong with one folder keeps nobody from the others.
fn look(
    root: &Path,
    limits: LogLimits,
    known: &BTreeSet<String>,
    now: SystemTime,
) -> io::Result<Vec<(Place, Vec<Chore>)>> {
    let mut todo = Vec::new();
    // Somebody else's folders are nobody's business here.
    for folder in folders_in(root)?.into_iter().filter(|folder| is_log_folder(folder)) {
        match look_at(root, limits, known.contains(&folder), &folder, now) {
            Ok(found) => todo.extend(found),
            Err(error) => warn!(folder, "logs in {folder} are not looked after: {error}"),
        }
    }
    Ok(todo)
}

fn look_at(
    root: &Path,
    limits: LogLimits,
    is_known: bool,
    folder: &str,
    now: SystemTime,
) -> io::Result<Vec<(Place, Vec<Chore>)>> {
    let path = root.join(folder);
    if !is_known && last_written(&path)?.is_some_and(|at| at + GONE_KEPT < now) {
        std::fs::remove_dir_all(&path)?;
        return Ok(Vec::new());
    }
    let mut todo = Vec::new();
    for container in folders_in(&path)? {
        let chores = chores(&files_in(&path.join(&container))?, limits);
        if !chores.is_empty() {
            todo.push(((folder.to_owned(), container), chores));
        }
    }
    Ok(todo)
}

/// Names that are no UTF-8 are nobody's of ours. What goes away meanwhile was not there.
fn folders_in(path: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in entries(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(entry.file_name().into_string());
        }
    }
    Ok(found)
}

fn files_in(path: &Path) -> io::Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for entry in entries(path)? {
        let entry = entry?;
        if let (Ok(name), Ok(metadata)) = (entry.file_name().into_string(), entry.metadata())
            && metadata.is_file()
        {
            found.insert(name, metadata.len());
        }
    }
    Ok(found)
}

fn entries(path: &Path) -> io::Result<impl Iterator<Item = io::Result<std::fs::DirEntry>> + use<>> {
    match std::fs::read_dir(path) {
        Ok(entries) => Ok(Some(entries).into_iter().flatten()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        Err(error) => Err(error),
    }
}

/// When anything below a pod's folder was last written, the folder itself included.
fn last_written(path: &Path) -> io::Result<Option<SystemTime>> {
    let mut last = path.symlink_metadata().and_then(|metadata| metadata.modified()).ok();
    for container in folders_in(path)? {
        for entry in entries(&path.join(container))? {
            last = last.max(entry?.metadata().and_then(|metadata| metadata.modified()).ok());
        }
    }
    Ok(last)
}

/// Packs a file; it is there whole, packed or not, at every moment.
fn pack(folder: &Path, name: LogName) -> io::Result<()> {
    let from = folder.join(name.to_string());
    let beside = folder.join(unfinished(name.packed()));
    if let Err(error) = pack_beside(&from, &beside) {
        // On a full disk it would be in the way.
        drop(std::fs::remove_file(&beside));
        return Err(error);
    }
    std::fs::rename(&beside, folder.join(name.packed().to_string()))?;
    File::open(folder)?.sync_all()?;
    std::fs::remove_file(&from)
}

fn pack_beside(from: &Path, beside: &Path) -> io::Result<()> {
    let mut input = OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(from)?;
    let output = OpenOptions::new().write(true).create_new(true).mode(0o640).open(beside)?;
    let mut packing = GzEncoder::new(output, Compression::fast());
    io::copy(&mut input, &mut packing)?;
    packing.finish()?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read;

    const LIMITS: LogLimits = LogLimits { max_bytes: 10, files: 3 };

    fn write(root: &Path, path: &str, text: &str) -> PathBuf {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    fn folder_of(incarnation: u64) -> String {
        log_folder(&PodId::new("shop", "web").unwrap(), Incarnation(incarnation))
    }

    #[test]
    fn what_is_packed_is_what_was_there() {
        let root = tempfile::tempdir().unwrap();
        let text = "a line\n".repeat(10_000);
        write(root.path(), "1.log.4", &text);
        pack(root.path(), LogName::parse("1.log.4").unwrap()).unwrap();
        let names = files_in(root.path()).unwrap();
        assert_eq!(names.keys().collect::<Vec<_>>(), ["1.log.4.gz"]);
        assert!(names["1.log.4.gz"] < 1_000, "{names:?}");
        let mut unpacked = String::new();
        GzDecoder::new(File::open(root.path().join("1.log.4.gz")).unwrap())
            .read_to_string(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, text);
    }

    #[test]
    fn only_folders_of_pods_that_are_gone_for_long_go() {
        let root = tempfile::tempdir().unwrap();
        let (known, gone) = (folder_of(1), folder_of(2));
        write(root.path(), &format!("{known}/app/1.log"), "more than ten");
        write(root.path(), &format!("{gone}/app/1.log"), "few");
        write(root.path(), "lost+found/1", "of the file system");
        write(root.path(), "a file", "of somebody");
        let all = BTreeSet::from([known.clone()]);
        let look = |after: Duration| look(root.path(), LIMITS, &all, SystemTime::now() + after).unwrap();
        let rotate = Chore::Rotate { attempt: Attempt(1), to: LogName::parse("1.log.1").unwrap() };
        let expected = vec![((known.clone(), "app".to_owned()), vec![rotate])];
        assert_eq!(look(GONE_KEPT / 2), expected);
        assert!(root.path().join(&gone).exists());
        assert_eq!(look(GONE_KEPT * 2), expected);
        let mut left = folders_in(root.path()).unwrap();
        left.sort();
        assert_eq!(left, ["lost+found".to_owned(), known]);
        assert!(root.path().join("a file").exists());
    }

    #[test]
    fn without_any_log_there_is_nothing_to_do() {
        let none = look(Path::new("/nonexistent/berth"), LIMITS, &BTreeSet::new(), SystemTime::now());
        assert_eq!(none.unwrap(), []);
    }
}
