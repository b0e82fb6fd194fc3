//! Configuration files of containers: each container has folders of its own, whose files are hard links into a store that
//! is addressed by content, so that what many containers are given is on the disk once.
//!
//! Beneath the agent's state folder:
//! | path | what it is |
//! | --- | --- |
//! | `config/<sha256>-<mode>` | a content; its number of links says whether anybody has it |
//! | `pods/<hash>/config/<container>.<incarnation>.<attempt>/<n>/` | the n-th folder of one container, as long as that container is there |
//!
//! Nothing is changed once a container can see it: another content is another file, for another container.

use super::identity::pod_hash;
use crate::crash_point::Deed;
use berth_model::{Attempt, ConfigFile, ConfigFolder, ContainerName, Incarnation, PodId};
use k8s_cri::v1::{Mount, MountPropagation};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Everybody may look into a folder: a container's user may be anybody, and what leads to it is root's alone.
const FOLDER_MODE: u32 = 0o755;
/// What is being written, and nobody's if it is still there.
const NEW: &str = "new";

/// One container's folders on the node, by name: no other container of its pod has had the same.
pub(super) fn folder_name(container: &ContainerName, incarnation: Incarnation, attempt: Attempt) -> String {
    // A label holds no dot.
    format!("{container}.{}.{}", incarnation.0, attempt.0)
}

/// Whose folders beside its own are left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Others {
    /// Those of these containers, since there are no others.
    These(BTreeSet<String>),
    /// All: which containers there are cannot be told.
    All,
}

/// All contents of the node.
#[derive(Debug)]
pub(super) struct ConfigStore {
    state: PathBuf,
    /// Held while links are made or counted: what nobody links is removed.
    links: Mutex<()>,
}

impl ConfigStore {
    pub(super) fn new(state: &Path) -> Self {
        Self { state: state.to_owned(), links: Mutex::default() }
    }

    /// Makes the container's folders anew, and removes those of containers that are not there any more; answers what to
    /// mount. What a power cut takes of it is of a container that the cut has ended, and its successor has folders of
    /// its own: nothing needs to be on the disk.
    ///
    /// # Errors
    /// When a file cannot be written, with its path; trying again begins anew.
    pub(super) fn make(
        &self,
        pod: &PodId,
        container: &str,
        config: &[ConfigFolder],
        others: &Others,
    ) -> io::Result<Vec<Mount>> {
        Deed::WriteConfig.between_now(|| {
            let _links = self.lock();
            let of_pod = self.of_pod(pod);
            self.remove_stale(&of_pod, container, others)?;
            if config.is_empty() {
                return Ok(Vec::new());
            }
            self.fill(&of_pod.join(container), config)?;
            Ok(mounts(&of_pod.join(container), config))
        })
    }

    /// Removes all that containers of a pod had, and contents that nobody has then. None of them is there any more.
    ///
    /// # Errors
    /// When the pod's own cannot be removed, with its path.
    pub(super) fn remove(&self, pod: &PodId) -> io::Result<()> {
        Deed::RemoveFiles.between_now(|| {
            let _links = self.lock();
            remove_folder(&self.of_pod(pod))?;
            self.remove_unlinked();
            Ok(())
        })
    }

    /// Removes contents that nobody has.
    pub(super) fn sweep(&self) {
        Deed::RemoveFiles.between_now(|| {
            let _links = self.lock();
            self.remove_unlinked();
        });
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn contents(&self) -> PathBuf {
        self.state.join("config")
    }

    fn of_pod(&self, pod: &PodId) -> PathBuf {
        self.state.join("pods").join(pod_hash(pod)).join("config")
    }

    fn remove_stale(&self, of_pod: &Path, own: &str, others: &Others) -> io::Result<()> {
        let is_stale = |name: &str| match others {
            Others::These(names) => !names.contains(name),
            Others::All => name == own,
        };
        let stale: Vec<_> = names(of_pod)?.into_iter().filter(|name| is_stale(name)).collect();
        if stale.is_empty() {
            return Ok(());
        }
        stale.iter().try_for_each(|name| remove_folder(&of_pod.join(name)))?;
        self.remove_unlinked();
        Ok(())
    }

    /// One that cannot be removed is in nobody's way.
    fn remove_unlinked(&self) {
        let remove = |path: &Path| match fs::symlink_metadata(path)?.nlink() {
            1 => fs::remove_file(path),
            _ => Ok(()),
        };
        let contents = self.contents();
        for path in names(&contents).unwrap_or_default().iter().map(|name| contents.join(name)) {
            if let Err(error) = remove(&path) {
                tracing::warn!("configuration {}, which nobody has, is not removed: {error}", path.display());
            }
        }
    }

    fn fill(&self, of_container: &Path, config: &[ConfigFolder]) -> io::Result<()> {
        make_folder(&self.contents(), 0o700)?;
        for (number, folder) in config.iter().enumerate() {
            let path = of_container.join(number.to_string());
            make_folder(&path, FOLDER_MODE)?;
            folder.files.iter().try_for_each(|file| self.link(file, &path.join(&file.name)))?;
        }
        Ok(())
    }

    fn link(&self, file: &ConfigFile, path: &Path) -> io::Result<()> {
        let content = self.contents().join(content_name(file));
        if !is_there(&content, file)? {
            self.write(&content, file)?;
        }
        match fs::hard_link(&content, path) {
            // It has as many names as a file system gives one: those stay with it, and another takes its place.
            Err(error) if error.kind() == io::ErrorKind::TooManyLinks => {
                self.write(&content, file)?;
                fs::hard_link(&content, path).map_err(|error| at(path, &error))
            }
            linked => linked.map_err(|error| at(path, &error)),
        }
    }

    /// Whole or not at all. What has the name already keeps what links it has.
    fn write(&self, content: &Path, file: &ConfigFile) -> io::Result<()> {
        let new = self.contents().join(NEW);
        let write = || {
            let mut options = OpenOptions::new();
            let mut written = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            written.write_all(&file.content)?;
            written.set_permissions(Permissions::from_mode(file.mode.bits()))?;
            fs::rename(&new, content)
        };
        write().map_err(|error| at(&new, &error))
    }
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Whether what is there is what its name says: a disk may have lost it, and an administrator's editor may have been.
fn is_there(content: &Path, file: &ConfigFile) -> io::Result<bool> {
    let found = match fs::symlink_metadata(content) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(at(content, &error)),
    };
    let like = found.is_file()
        && found.permissions().mode() & 0o7777 == file.mode.bits()
        && found.len() == file.content.len() as u64;
    Ok(like && fs::read(content).map_err(|error| at(content, &error))? == file.content)
}

fn content_name(file: &ConfigFile) -> String {
    let digest = Sha256::digest(&file.content);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}-{:04o}", file.mode.bits())
}

fn mounts(of_container: &Path, config: &[ConfigFolder]) -> Vec<Mount> {
    let mount = |(number, folder): (usize, &ConfigFolder)| Mount {
        container_path: folder.path.clone(),
        host_path: of_container.join(number.to_string()).to_string_lossy().into_owned(),
        readonly: true,
        propagation: MountPropagation::PropagationPrivate.into(),
        ..Mount::default()
    };
    config.iter().enumerate().map(mount).collect()
}

/// What is in a folder; nothing if it is not there. We make no name that is no text.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Ok(entries) => {
            let name =
                |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
            entries.map(name).collect::<io::Result<_>>().map_err(|error| at(folder, &error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(at(folder, &error)),
    }
}

fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    // Whatever the umask is.
    made.and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(|error| at(path, &error))
}

fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::ConfigMode;

    struct Node {
        state: tempfile::TempDir,
        store: ConfigStore,
    }

    fn node() -> Node {
        let state = tempfile::tempdir().unwrap();
        let store = ConfigStore::new(state.path());
        Node { state, store }
    }

    fn id(name: &str) -> PodId {
        PodId::new("shop", name).unwrap()
    }

    fn folder(path: &str, files: &[(&str, &str)]) -> ConfigFolder {
        let file = |(name, content): &(&str, &str)| ConfigFile {
            name: (*name).to_owned(),
            content: content.as_bytes().to_vec(),
            mode: ConfigMode::DEFAULT,
        };
        ConfigFolder { path: path.to_owned(), files: files.iter().map(file).collect() }
    }

    impl Node {
        fn make(&self, pod: &str, container: &str, config: &[ConfigFolder], others: &[&str]) -> Vec<Mount> {
            let others = Others::These(others.iter().map(|name| (*name).to_owned()).collect());
            self.store.make(&id(pod), container, config, &others).unwrap()
        }

        fn remove(&self, pod: &str) {
            self.store.remove(&id(pod)).unwrap();
        }

        /// The folders of a pod's containers.
        fn folders(&self, pod: &str) -> Vec<String> {
            let mut folders = names(&self.store.of_pod(&id(pod))).unwrap();
            folders.sort();
            folders
        }

        fn contents(&self) -> usize {
            names(&self.state.path().join("config")).unwrap().len()
        }

        /// What is in the files that are mounted at a path.
        fn read(mounts: &[Mount], path: &str, file: &str) -> String {
            let mount = mounts.iter().find(|mount| mount.container_path == path).unwrap();
            assert!(mount.readonly);
            fs::read_to_string(Path::new(&mount.host_path).join(file)).unwrap()
        }
    }

    #[test]
    fn what_many_have_is_there_once_and_ends_with_the_last() {
        let node = node();
        let config =
            [folder("/etc/web", &[("a", "same"), ("b", "same")]), folder("/etc/log", &[("c", "other")])];
        let one = node.make("one", "web.1", &config, &[]);
        let two = node.make("two", "web.1", &config, &[]);
        for mounts in [&one, &two] {
            assert_eq!(Node::read(mounts, "/etc/web", "a"), "same");
            assert_eq!(Node::read(mounts, "/etc/web", "b"), "same");
            assert_eq!(Node::read(mounts, "/etc/log", "c"), "other");
        }
        assert_eq!(node.contents(), 2);
        node.remove("one");
        assert_eq!((node.contents(), Node::read(&two, "/etc/web", "a").as_str()), (2, "same"));
        node.remove("two");
        node.remove("two");
        assert_eq!(node.contents(), 0);
    }

    #[test]
    fn a_successor_has_its_own_and_takes_none_from_those_that_live() {
        let node = node();
        let old = node.make("one", "web.1", &[folder("/c", &[("f", "old")])], &[]);
        let new = node.make("one", "web.2", &[folder("/c", &[("f", "new")])], &["web.1"]);
        assert_eq!((Node::read(&old, "/c", "f"), Node::read(&new, "/c", "f")), ("old".into(), "new".into()));
        let last = node.make("one", "web.3", &[folder("/c", &[("f", "last")])], &["web.2"]);
        assert!(!Path::new(&old[0].host_path).exists(), "its container is gone");
        assert_eq!(
            (Node::read(&new, "/c", "f"), Node::read(&last, "/c", "f")),
            ("new".into(), "last".into())
        );
        assert_eq!(node.make("one", "web.4", &[], &[]), []);
        assert_eq!((node.folders("one").len(), node.contents()), (0, 0));
    }

    #[test]
    fn who_is_there_cannot_always_be_told() {
        let node = node();
        let config = [folder("/c", &[("f", "x")])];
        node.make("one", "web.1", &config, &[]);
        fs::write(node.store.of_pod(&id("one")).join("web.1/0/stray"), "").unwrap();
        node.store.make(&id("one"), "web.2", &config, &Others::All).unwrap();
        node.store.make(&id("one"), "web.1", &config, &Others::All).unwrap();
        assert_eq!(node.folders("one"), ["web.1", "web.2"]);
        assert!(!node.store.of_pod(&id("one")).join("web.1/0/stray").exists(), "its own is made anew");
    }

    #[test]
    fn what_a_crash_or_an_editor_left_is_made_good() {
        let node = node();
        let config = [folder("/c", &[("f", "good")])];
        // Whoever has it keeps it, so that it is still there when the next one comes.
        let elder = node.make("elder", "web.1", &config, &[]);
        let content = node.store.contents().join(content_name(&config[0].files[0]));
        for damage in ["", "bad!", "longer than it was"] {
            fs::set_permissions(&content, Permissions::from_mode(0o644)).unwrap();
            fs::write(&content, damage).unwrap();
            fs::set_permissions(&content, Permissions::from_mode(0o444)).unwrap();
            fs::write(node.store.contents().join(NEW), "half").unwrap();
            let mounts = node.make("one", "web.1", &config, &[]);
            assert_eq!(Node::read(&mounts, "/c", "f"), "good", "{damage:?}");
            assert_eq!(Node::read(&elder, "/c", "f"), damage, "what is mounted is not touched");
            node.remove("one");
            let again = node.make("elder", "web.1", &config, &[]);
            assert_eq!(Node::read(&again, "/c", "f"), "good");
        }
        fs::set_permissions(&content, Permissions::from_mode(0o600)).unwrap();
        let mounts = node.make("one", "web.1", &config, &[]);
        let mode = fs::metadata(Path::new(&mounts[0].host_path).join("f")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o444);
        fs::write(node.store.contents().join(NEW), "half").unwrap();
        node.store.sweep();
        assert!(!node.store.contents().join(NEW).exists());
    }

    #[test]
    fn files_have_their_mode_and_folders_are_everybodys() {
        let node = node();
        let mut config = [folder("/c", &[("f", "x")])];
        config[0].files[0].mode = ConfigMode::new(0o500).unwrap();
        let mounts = node.make("one", "web.1", &config, &[]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let folder = Path::new(&mounts[0].host_path);
        assert_eq!((mode(folder), mode(&folder.join("f"))), (0o755, 0o500));
        // The same content with another mode is another file.
        config[0].files[0].mode = ConfigMode::DEFAULT;
        let other = node.make("one", "web.2", &config, &["web.1"]);
        assert_eq!((mode(&folder.join("f")), node.contents()), (0o500, 2));
        assert_eq!(mode(&Path::new(&other[0].host_path).join("f")), 0o444);
    }
}
