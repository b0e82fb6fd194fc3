//! Application images of real software, made from Debian packages, and the registry that they are pushed to.

use crate::command::{rooted, succeed};
use crate::oci::{self, Config};
use crate::{cache, network};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The release that applications come from, whatever the guests run.
const SUITE: &str = "trixie";
/// A registry answers within this time.
const REGISTRY_LIMIT: Duration = Duration::from_secs(30);

struct App {
    name: &'static str,
    packages: &'static str,
    /// Run below the image's root, as root, once the packages are unpacked.
    finish: &'static str,
    config: Config,
}

/// Every image has busybox, for its shell and tools.
const LINK_BUSYBOX: &str = "for tool in $(./bin/busybox --list); do \
    [ -e \"bin/$tool\" ] || ln -s busybox \"bin/$tool\"; done; mkdir -p tmp etc var; chmod 1777 tmp;";

const POSTGRESQL_ENTRY: &str = r#"#!/bin/sh
# Makes a database cluster where there is none, and serves it.
set -e
bin=$(echo /usr/lib/postgresql/*/bin)
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    "$bin/initdb" --no-locale --encoding=UTF8 --auth=trust --no-sync >/dev/null
    echo "host all all 10.89.0.0/16 trust" >> "$PGDATA/pg_hba.conf"
fi
exec "$bin/postgres" -c listen_addresses='*' -c unix_socket_directories=/tmp
"#;

fn apps() -> [App; 3] {
    let config = |entrypoint: &[&'static str], command: &[&'static str]| Config {
        entrypoint: entrypoint.to_vec(),
        command: command.to_vec(),
        user: "",
        env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    };
    let postgresql = Config {
        user: "101:101",
        env: vec![
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PGDATA=/var/lib/postgresql/data",
        ],
        ..config(&["/entry"], &[])
    };
    [
        App { name: "busybox", packages: "busybox-static", finish: "", config: config(&[], &["sh"]) },
        App {
            name: "redis",
            packages: "busybox-static,redis-server,redis-tools",
            finish: "mkdir -p data;",
            config: config(&["redis-server"], &["--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""]),
        },
        App {
            name: "postgresql",
            packages: "busybox-static,postgresql,postgresql-client,tzdata",
            // Debian's psql is a wrapper in Perl, which the image does without.
            finish: "ln -sf ../lib/postgresql/$(ls usr/lib/postgresql)/bin/psql usr/bin/psql; \
                mkdir -p var/lib/postgresql/data; chown -R 101:101 var/lib/postgresql; \
                chmod 700 var/lib/postgresql/data; mv ../entry entry; chmod 755 entry;",
            config: postgresql,
        },
    ]
}

/// Makes every application's image that is not in the cache.
pub(crate) fn get_all() -> Result<()> {
    registry_program()?;
    apps().iter().try_for_each(|app| layout(app).map(drop))
}

/// The layout of an application's image.
fn layout(app: &App) -> Result<PathBuf> {
    let recipe =
        format!("{SUITE} {} {} {LINK_BUSYBOX} {POSTGRESQL_ENTRY} {:?}", app.packages, app.finish, app.config);
    cache::directory(&format!("app-{}", app.name), &recipe, |dir| build(app, dir))
}

fn build(app: &App, dir: &Path) -> Result<()> {
    let archive = dir.join("packages.tar");
    let mut bootstrap = Command::new("mmdebstrap");
    // Unpacked only: no maintainer script runs, so the image holds files and nothing else.
    bootstrap.args(["--variant=extract", &format!("--include=base-files,{}", app.packages)]);
    bootstrap.arg("--aptopt=Acquire::Languages \"none\"");
    succeed(bootstrap.arg(SUITE).arg(&archive))?;
    fs::write(dir.join("entry"), POSTGRESQL_ENTRY).context("write the entry point")?;
    let passwd = "root:x:0:0:root:/:/bin/sh\npostgres:x:101:101::/var/lib/postgresql:/bin/sh\n";
    fs::write(dir.join("passwd"), passwd).context("write the user database")?;
    let script = format!(
        "set -e; cd \"$1\"; mkdir root; tar -C root --exclude=./dev -xpf packages.tar; cd root; \
         rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/perl* usr/lib/*/perl* usr/lib/*/libLLVM* \
         usr/lib/llvm* usr/lib/postgresql/*/lib/bitcode; \
         {LINK_BUSYBOX} {} cp ../passwd etc/passwd; printf 'root:x:0:\\npostgres:x:101:\\n' > etc/group",
        app.finish
    );
    succeed(rooted("sh").args(["-c", &script, "sh"]).arg(dir))?;
    oci::write_layout(&dir.join("root"), &app.config, &dir.join("layout"))?;
    succeed(
        rooted("rm").arg("-rf").args(["root", "packages.tar", "entry", "passwd"].map(|name| dir.join(name))),
    )
    .map(drop)
}

/// Pushes every image to the lab's registry, unless it is there.
pub(crate) fn push_all() -> Result<()> {
    let answers = || Ok(std::net::TcpStream::connect(network::REGISTRY).ok());
    crate::wait_until("the registry", REGISTRY_LIMIT, answers)?;
    for app in apps() {
        let layout = layout(&app)?.join("layout");
        let pushed =
            registry_storage().join(format!("pushed-{}", cache::hash(&layout.display().to_string())));
        if pushed.exists() {
            continue;
        }
        let mut copy = Command::new("skopeo");
        copy.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
        copy.arg(format!("oci:{}:1", layout.display()));
        succeed(copy.arg(format!("docker://{}/library/{}:1", network::REGISTRY, app.name)))?;
        fs::write(&pushed, "").with_context(|| format!("note {}", pushed.display()))?;
    }
    Ok(())
}

fn registry_storage() -> PathBuf {
    cache::root().join("registry")
}

/// The registry's configuration.
pub(crate) fn registry_config() -> String {
    format!(
        "version: 0.1\nlog: {{level: warn}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp: {{addr: {}}}\n",
        registry_storage().display(),
        network::REGISTRY
    )
}

/// Debian's registry, unpacked and not installed, so that no service of the machine's own is made or started.
pub(crate) fn registry_program() -> Result<PathBuf> {
    let directory = cache::directory("docker-registry", "docker-registry", |dir| {
        succeed(Command::new("apt-get").args(["download", "--quiet", "docker-registry"]).current_dir(dir))?;
        succeed(Command::new("sh").args(["-c", "dpkg-deb -x docker-registry_*.deb ."]).current_dir(dir))
            .map(drop)
    })?;
    fs::create_dir_all(registry_storage()).context("make the registry's directory")?;
    Ok(directory.join("usr/bin/docker-registry"))
}
