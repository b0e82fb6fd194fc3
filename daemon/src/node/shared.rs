//! What the host's administrator shares with containers, and what of it is there to be shared.

use berth_cgroup::parse_mountinfo;
use berth_model::{Access, SharedPaths};
use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long a start waits for the first look.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// What was seen counts for so long: whatever hangs longer is not there for a container either.
const LASTS: Duration = Duration::from_secs(60);

/// What is shared. The administrator's paths may be on a network, and hang: so each has a thread of its own that looks at
/// it, and everybody else goes by what that saw.
#[derive(Debug, Default)]
pub struct Shares {
    configured: SharedPaths,
    /// Folders of the host that nobody else may have anything to do with.
    own: Vec<PathBuf>,
    seen: Mutex<BTreeMap<String, Seen>>,
}

/// One path, at one look.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    at: Instant,
    /// Why it is withheld; none if it is shared.
    fault: Option<String>,
}

impl Shares {
    /// Looks at these, from now on until nobody wants to know any more. `own` are folders of this agent and its runtime.
    pub fn watch(configured: SharedPaths, own: Vec<PathBuf>) -> Arc<Self> {
        let shares = Arc::new(Self { configured, own, ..Self::default() });
        let (looked, first) = mpsc::channel();
        for path in shares.configured.clone().into_keys() {
            let (watched, looked) = (Arc::downgrade(&shares), looked.clone());
            let watch = move || {
                while let Some(shares) = watched.upgrade() {
                    shares.look(Path::new("/"), &path);
                    drop(shares);
                    // Nobody waits for any but the first.
                    let _ = looked.send(());
                    thread::park_timeout(LOOK_EVERY);
                }
            };
            if let Err(error) = thread::Builder::new().name("share".to_owned()).spawn(watch) {
                tracing::error!("a path of host_paths is not shared: no thread can be made: {error}");
            }
        }
        // What does not answer in time is not shared until it does.
        let until = Instant::now() + FIRST_LOOK;
        for _ in shares.configured.keys() {
            if first.recv_timeout(until.saturating_duration_since(Instant::now())).is_err() {
                break;
            }
        }
        shares
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a path is withheld at this moment; none if it is shared.
    fn verdict(seen: Option<&Seen>) -> Option<String> {
        match seen.filter(|seen| seen.at.elapsed() < LASTS) {
            Some(seen) => seen.fault.clone(),
            None => Some("does not answer".to_owned()),
        }
    }

    /// What is shared, and there.
    pub fn there(&self) -> SharedPaths {
        let seen = self.seen();
        let there = self.configured.iter().filter(|(path, _)| Self::verdict(seen.get(*path)).is_none());
        there.map(|(path, access)| (path.clone(), *access)).collect()
    }

    /// What of the configuration is not shared, and why.
    pub fn withheld(&self) -> BTreeMap<String, String> {
        let seen = self.seen();
        let verdict = |path: &String| Some((path.clone(), Self::verdict(seen.get(path))?));
        self.configured.keys().filter_map(verdict).collect()
    }

    fn look(&self, root: &Path, path: &str) {
        let Some(access) = self.configured.get(path) else { return };
        let fault = fault(root, path, *access, &self.own);
        let before = self.seen().insert(path.to_owned(), Seen { at: Instant::now(), fault: fault.clone() });
        match (before.and_then(|before| before.fault), fault) {
            (before, Some(why)) if before.as_ref() != Some(&why) => {
                tracing::warn!("{path} of host_paths {why}: it is not shared");
            }
            (Some(_), None) => tracing::info!("{path} of host_paths is shared again"),
            _ => {}
        }
    }
}

/// Of the host's own mount namespace.
fn mount_points(root: &Path) -> io::Result<Vec<String>> {
    let table = fs::read(root.join("proc/1/mountinfo"))?;
    let mounts = parse_mountinfo(&String::from_utf8_lossy(&table));
    Ok(mounts.into_iter().map(|mount| mount.mount_point).collect())
}

/// Why a path is not shared; none if it is.
fn fault(root: &Path, path: &str, access: Access, own: &[PathBuf]) -> Option<String> {
    let at = beneath(root, Path::new(path));
    let found = fs::metadata(&at).and_then(|found| Ok((found, fs::canonicalize(&at)?)));
    let (found, real) = match found {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some("is not there".to_owned()),
        Err(error) => return Some(format!("cannot be looked at: {error}")),
    };
    let kind = found.file_type();
    let is_device = kind.is_char_device() || kind.is_block_device();
    // Whoever may change a link says where it leads. Those to devices are udev's.
    if real != at && !(is_device && path.starts_with("/dev/")) {
        return Some(format!("leads to {} by a symbolic link: name that", outside(root, &real).display()));
    }
    // These may be links themselves, to a larger disk.
    let own = own.iter().filter_map(|own| fs::canonicalize(beneath(root, own)).ok());
    if let Some(own) = own.into_iter().find(|own| own.starts_with(&real) || real.starts_with(own)) {
        let own = outside(root, &own);
        return Some(format!("has to do with {}, which is this agent's or its runtime's", own.display()));
    }
    if access == Access::ReadOnly && (kind.is_socket() || kind.is_fifo()) {
        return Some(
            "is a socket or a pipe, by which whoever sees it can write: read-write says so".to_owned(),
        );
    }
    if kind.is_dir() && path.starts_with("/dev/") {
        return Some("is a folder of devices, none of which could be opened: name each".to_owned());
    }
    (access == Access::ReadOnly).then(|| mounted_inside(root, path)).flatten()
}

/// A mount for reading reaches no deeper than itself (mount_setattr(2), AT_RECURSIVE, is not what runtimes do).
fn mounted_inside(root: &Path, path: &str) -> Option<String> {
    let mounted = match mount_points(root) {
        Ok(mounted) => mounted,
        Err(error) => return Some(format!("cannot be looked at: the mount table: {error}")),
    };
    let inside = mounted.iter().find(|point| *point != path && Path::new(point).starts_with(path));
    inside.map(|inside| format!("has {inside} mounted inside, which would not be for reading only"))
}

fn beneath(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix("/").map_or_else(|_| root.join(path), |inside| root.join(inside))
}

fn outside(root: &Path, real: &Path) -> PathBuf {
    real.strip_prefix(root).map_or_else(|_| real.to_owned(), |inside| Path::new("/").join(inside))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    /// A host's root with these folders, and `/srv/mounted/inner` as a mount point.
    fn root(folders: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(root.path()).unwrap();
        folders.iter().for_each(|folder| fs::create_dir_all(real.join(folder)).unwrap());
        fs::create_dir_all(real.join("proc/1")).unwrap();
        let line = "30 1 8:1 / /srv/mounted/inner rw,relatime - ext4 /dev/sda1 rw\n";
        fs::write(real.join("proc/1/mountinfo"), line).unwrap();
        root
    }

    fn check(root: &Path, path: &str, access: Access, expected: Option<&str>) {
        let shares = Shares {
            configured: SharedPaths::from([(path.to_owned(), access)]),
            own: vec!["/srv/agent".into()],
            ..Shares::default()
        };
        assert_eq!(shares.withheld()[path], "does not answer");
        shares.look(&fs::canonicalize(root).unwrap(), path);
        let why = shares.withheld().remove(path);
        assert_eq!(shares.there().contains_key(path), expected.is_none(), "{path}: {why:?}");
        assert!(
            why.as_deref().unwrap_or_default().starts_with(expected.unwrap_or_default()),
            "{path}: {why:?}"
        );
    }

    #[test]
    fn what_is_shared_and_what_is_withheld() {
        use Access::{ReadOnly, ReadWrite};
        let root =
            root(&["srv/models", "srv/mounted/inner", "srv/mounted2", "dev/dri", "srv/large/agent/keys"]);
        let root = root.path();
        symlink("models", root.join("srv/link")).unwrap();
        symlink("large/agent", root.join("srv/agent")).unwrap();
        symlink("nowhere", root.join("srv/broken")).unwrap();
        let _listener = UnixListener::bind(root.join("srv/socket")).unwrap();
        check(root, "/srv/models", ReadOnly, None);
        check(root, "/srv/models", ReadWrite, None);
        check(root, "/srv/mounted", ReadOnly, Some("has /srv/mounted/inner mounted inside"));
        check(root, "/srv/mounted", ReadWrite, None);
        check(root, "/srv/mounted/inner", ReadOnly, None);
        check(root, "/srv/mounted2", ReadOnly, None);
        for path in ["/srv/large", "/srv/large/agent", "/srv/large/agent/keys"] {
            check(root, path, ReadWrite, Some("has to do with /srv/large/agent"));
        }
        check(root, "/srv/models/x/y", ReadOnly, Some("is not there"));
        check(root, "/srv/link", ReadOnly, Some("leads to /srv/models by a symbolic link"));
        check(root, "/srv/link/inner", ReadOnly, Some("is not there"));
        check(root, "/srv/broken", ReadOnly, Some("is not there"));
        check(root, "/srv/other", ReadOnly, Some("is not there"));
        check(root, "/srv/socket", ReadOnly, Some("is a socket"));
        check(root, "/srv/socket", ReadWrite, None);
        check(root, "/dev/dri", ReadOnly, Some("is a folder of devices"));
        fs::remove_file(root.join("proc/1/mountinfo")).unwrap();
        check(root, "/srv/models", ReadOnly, Some("cannot be looked at: the mount table"));
    }

    #[test]
    fn what_is_configured_is_looked_at_at_once() {
        let configured = SharedPaths::from([
            ("/dev/null".to_owned(), Access::ReadWrite),
            ("/nonexistent".to_owned(), Access::ReadOnly),
        ]);
        let shares = Shares::watch(configured, Vec::new());
        assert_eq!(shares.there().into_keys().collect::<Vec<_>>(), ["/dev/null"]);
        assert_eq!(shares.withheld()["/nonexistent"], "is not there");
    }
}
