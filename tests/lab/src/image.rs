//! Guest images: a Debian root disk made from packages, and the kernel and initial RAM disk to boot it with.

use crate::command::{rooted, succeed};
use crate::{cache, network};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A Debian release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Suite {
    /// containerd 1.6, systemd 252.
    Bookworm,
    /// containerd 1.7, systemd 257.
    #[default]
    Trixie,
    /// containerd 2.1, systemd 262.
    Forky,
}

impl Suite {
    /// Whether its ssh server (from OpenSSH 9.8 on) knows `PerSourcePenalties`.
    fn has_ssh_penalties(self) -> bool {
        match self {
            Self::Bookworm => false,
            Self::Trixie | Self::Forky => true,
        }
    }

    /// Whether its archives say of themselves until when they hold, and so are refused by whoever has an older mirror,
    /// or a clock that runs ahead. A lab's hosts see no network but their own, and may be made of old packages.
    fn expires(self) -> bool {
        match self {
            Self::Bookworm | Self::Trixie => false,
            Self::Forky => true,
        }
    }

    /// The release's code name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Forky => "forky",
        }
    }
}

/// What a Debian host has that is to run pods; Berth is installed later, from its packages.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,udev,linux-image-cloud-amd64,containerd,runc,\
    containernetworking-plugins,iproute2,nftables,iptables,openssh-server,ca-certificates,kmod,procps,util-linux,\
    e2fsprogs,xfsprogs,apparmor,iputils-ping,iputils-arping,stress-ng";
/// Project quotas on the root disk need their module before it is mounted.
const INITRAMFS_HOOK: &str = r#"--essential-hook=mkdir -p "$1/etc/initramfs-tools/hooks"; printf '%s\n' '#!/bin/sh' '[ "$1" = prereqs ] && exit 0' '. /usr/share/initramfs-tools/hook-functions' 'manual_add_modules quota_v2' 'force_load quota_v2' > "$1/etc/initramfs-tools/hooks/lab"; chmod 755 "$1/etc/initramfs-tools/hooks/lab""#;
/// Installs a second kernel.
const OLDER_KERNEL: &str = include_str!("image/older-kernel");
/// Size of the root disk; the file is sparse.
const ROOT_DISK: &str = "12G";
/// Size of the second disk, which is mounted at `/data`.
const DATA_DISK: &str = "4G";
/// Size of the third disk, which is empty: no file system is on it.
const SPARE_DISK: &str = "2G";

/// Makes disks, kernels and initial RAM disks of what was bootstrapped; the kernels' versions decide which is which.
const BUILD: &str = r#"set -e; cd "$1"; mkdir root; tar -C root -xpf root.tar; cp -a files/. root/
chown -R 0:0 root/root/.ssh root/etc/ssh; chmod 600 root/etc/ssh/ssh_host_ed25519_key; mkdir -p root/data
versions=$(cd root/boot; ls vmlinuz-* | sed s/vmlinuz-// | sort -V)
for which in oldest newest; do
    case $which in oldest) version=$(echo "$versions" | head -n 1);; newest) version=$(echo "$versions" | tail -n 1);; esac
    cp "root/boot/vmlinuz-$version" vmlinuz-$which; cp "root/boot/initrd.img-$version" initrd.img-$which
    chmod 644 vmlinuz-$which initrd.img-$which
done
mke2fs -q -F -t ext4 -O project,quota -E quotatype=prjquota,lazy_itable_init=0 -d root root.raw "$2"
mke2fs -q -F -t ext4 -O project,quota -E quotatype=prjquota data.raw "$3"
truncate -s "$4" spare.raw
rm -rf root root.tar files older-kernel"#;

/// Files written into the image over what the packages bring.
const FILES: [(&str, &str); 6] = [
    ("etc/fstab", "/dev/vda / ext4 defaults,prjquota 0 1\n/dev/vdb /data ext4 defaults,prjquota 0 2\n"),
    (
        "etc/ssh/sshd_config.d/lab.conf",
        "UseDNS no\nPermitRootLogin prohibit-password\nMaxSessions 100\nLoginGraceTime 0\n",
    ),
    ("etc/systemd/system/lab-network.service", include_str!("image/lab-network.service")),
    ("usr/local/sbin/lab-network", include_str!("image/lab-network")),
    ("etc/systemd/journald.conf.d/lab.conf", "[Journal]\nStorage=volatile\nRuntimeMaxUse=64M\n"),
    ("etc/systemd/system.conf.d/lab.conf", "[Manager]\nDefaultTimeoutStartSec=300s\n"),
];
/// Units that would only cost time in an emulated guest: profiles of programs that are not there, file systems and modules
/// that nothing uses. And one that fails for want of a program that nothing needs: ext4 and xfs turn project quotas on by
/// their mount options.
const MASKED: [&str; 31] = [
    "apparmor.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "modprobe@configfs.service",
    "modprobe@drm.service",
    "modprobe@efi_pstore.service",
    "modprobe@fuse.service",
    "proc-sys-fs-binfmt_misc.automount",
    "proc-sys-fs-binfmt_misc.mount",
    "quotaon-root.service",
    "quotaon@.service",
    "serial-getty@ttyS0.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-pstore.service",
    "systemd-quotacheck-root.service",
    "systemd-quotacheck@.service",
    "systemd-random-seed.service",
    "systemd-udev-load-credentials.service",
    "systemd-update-utmp.service",
];
/// Programs that systemd runs at boot and at each daemon-reload to find units that are not here: of disks that are
/// encrypted or found by their partition tables, of consoles, of init scripts.
const MASKED_GENERATORS: [&str; 13] = [
    "cryptsetup",
    "debug",
    "getty",
    "gpt-auto",
    "hibernate-resume",
    "integritysetup",
    "rc-local",
    "run",
    "ssh",
    "system-update",
    "sysv",
    "tpm2",
    "veritysetup",
];

/// One of the kernels in a guest's image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Kernel {
    /// The newest that the release's archives have: its security updates.
    #[default]
    Newest,
    /// The oldest that they still have: the release as it came out. Not every release has two.
    Oldest,
}

impl Kernel {
    /// What stands between a file's name and the end of it in the image's directory.
    fn suffix(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Oldest => "oldest",
        }
    }
}

/// Newer servers refuse for a while whoever has broken off a handshake, as a lab does that waits for a slow guest.
const NO_PENALTIES: &str = "PerSourcePenalties no\n";

/// A guest image, as files.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) directory: PathBuf,
}

impl Image {
    /// The kernel and its initial RAM disk.
    pub(crate) fn boot_files(&self, kernel: Kernel) -> [PathBuf; 2] {
        ["vmlinuz", "initrd.img"].map(|name| self.directory.join(format!("{name}-{}", kernel.suffix())))
    }
    /// A disk as it is before the first boot.
    pub(crate) fn disk(&self, disk: &str) -> PathBuf {
        self.directory.join(format!("{disk}.raw"))
    }
    /// The key that every guest of the image lets in.
    pub(crate) fn ssh_key(&self) -> PathBuf {
        self.directory.join("ssh-key")
    }
}

/// The image of a suite, made now if it is not in the cache.
pub(crate) fn get(suite: Suite) -> Result<Image> {
    let recipe = format!(
        "{} {PACKAGES} {INITRAMFS_HOOK} {OLDER_KERNEL} {ROOT_DISK} {DATA_DISK} {SPARE_DISK} {FILES:?} {MASKED:?} \
         {MASKED_GENERATORS:?} {BUILD} {NO_PENALTIES} {}",
        suite.name(),
        hosts_toml()
    );
    let directory = cache::directory(&format!("guest-{}", suite.name()), &recipe, |dir| build(suite, dir))?;
    Ok(Image { directory })
}

fn build(suite: Suite, dir: &Path) -> Result<()> {
    let archive = dir.join("root.tar");
    let older_kernel = dir.join("older-kernel");
    fs::write(&older_kernel, OLDER_KERNEL).context("write the script that installs a second kernel")?;
    let mut bootstrap = Command::new("mmdebstrap");
    bootstrap.arg(format!("--customize-hook=sh {} \"$1\"", older_kernel.display())).args([
        INITRAMFS_HOOK,
        "--variant=minbase",
        &format!("--include={PACKAGES}"),
        "--aptopt=Acquire::Languages \"none\"",
    ]);
    if suite.expires() {
        bootstrap.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
    }
    for path in ["man", "doc", "locale", "info"] {
        bootstrap.arg(format!("--dpkgopt=path-exclude=/usr/share/{path}/*"));
    }
    succeed(bootstrap.arg(suite.name()).arg(&archive))?;
    succeed(
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.join("ssh-key")),
    )?;
    succeed(
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.join("host-key")),
    )?;
    let files = dir.join("files");
    write_files(&files, dir)?;
    if suite.has_ssh_penalties() {
        let path = files.join("etc/ssh/sshd_config.d/lab-penalties.conf");
        fs::write(&path, NO_PENALTIES).with_context(|| format!("write {}", path.display()))?;
    }
    // One shell, so that without root all of it happens in one user namespace.
    succeed(rooted("sh").args(["-c", BUILD, "sh"]).arg(dir).args([ROOT_DISK, DATA_DISK, SPARE_DISK]))
        .map(drop)
}

fn hosts_toml() -> String {
    let registry = network::REGISTRY;
    format!(
        "server = \"http://{registry}\"\n[host.\"http://{registry}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
    )
}

fn write_files(files: &Path, dir: &Path) -> Result<()> {
    let put = |path: &str, content: &[u8]| -> Result<()> {
        let path = files.join(path);
        let parent = path.parent().context("a file in the image has a directory")?;
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))
    };
    for (path, content) in FILES {
        put(path, content.as_bytes())?;
    }
    put(&format!("etc/containerd/certs.d/{}/hosts.toml", network::REGISTRY), hosts_toml().as_bytes())?;
    let read = |name: &str| fs::read(dir.join(name)).with_context(|| format!("read {name}"));
    put("root/.ssh/authorized_keys", &read("ssh-key.pub")?)?;
    put("etc/ssh/ssh_host_ed25519_key", &read("host-key")?)?;
    put("etc/ssh/ssh_host_ed25519_key.pub", &read("host-key.pub")?)?;
    link_units(files)?;
    let script = files.join("usr/local/sbin/lab-network");
    succeed(Command::new("chmod").arg("755").arg(script)).map(drop)
}

fn link_units(files: &Path) -> Result<()> {
    let units = files.join("etc/systemd/system");
    let link = |target: &str, name: &str| -> Result<()> {
        let path = units.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&units))?;
        std::os::unix::fs::symlink(target, &path).with_context(|| format!("link {}", path.display()))
    };
    for unit in MASKED {
        link("/dev/null", unit)?;
    }
    for name in MASKED_GENERATORS {
        link("/dev/null", &format!("../system-generators/systemd-{name}-generator"))?;
    }
    link("/etc/systemd/system/lab-network.service", "multi-user.target.wants/lab-network.service")
}
