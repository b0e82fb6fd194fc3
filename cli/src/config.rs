//! Where the control plane is and who we are: flags win over the environment, the environment over the file.

use crate::failure::{Failure, Result};
use clap::Args;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// The flags that every command of `berth` takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// Configuration file [default: ~/.config/berth/config.toml]
    #[arg(long, global = true, env = "BERTH_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the control plane
    #[arg(long, global = true, env = "BERTH_SERVER", hide_env_values = true, value_name = "HOST:PORT")]
    pub server: Option<String>,
    /// The fleet's certificate authority, PEM
    #[arg(long, global = true, env = "BERTH_CA", hide_env_values = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Our certificate, PEM
    #[arg(long, global = true, env = "BERTH_CERT", hide_env_values = true, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Our private key, PEM
    #[arg(long, global = true, env = "BERTH_KEY", hide_env_values = true, value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// Where the control plane is and who we are, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connection {
    /// `host:port`.
    pub server: String,
    /// PEM file.
    pub ca: PathBuf,
    /// PEM file.
    pub cert: PathBuf,
    /// PEM file.
    pub key: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    server: Option<String>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

fn default_path() -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let xdg = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).and_then(absolute);
    let config = xdg.or_else(|| env::home_dir().map(|home| home.join(".config")))?;
    Some(config.join("berth/config.toml"))
}

impl Connection {
    /// Puts flags, environment and file together.
    ///
    /// # Errors
    /// A file that cannot be read or understood, or something that nobody says.
    pub(crate) fn resolve(args: &ConnectionArgs) -> Result<Self> {
        let file = match &args.config {
            Some(path) => ConfigFile::read(path)?,
            None => match default_path() {
                Some(path) if path.exists() => ConfigFile::read(&path)?,
                Some(_) | None => ConfigFile::default(),
            },
        };
        Self::merge(args, file)
    }

    fn merge(args: &ConnectionArgs, file: ConfigFile) -> Result<Self> {
        let missing = |what: &str, flag: &str| {
            Failure::usage(format!("{what} is not known")).remedy(format!(
                "give --{flag}, set BERTH_{}, or write `{flag} = \"...\"` into ~/.config/berth/config.toml",
                flag.to_uppercase()
            ))
        };
        let server = args.server.clone().or(file.server);
        let server = server.ok_or_else(|| missing("the control plane's address", "server"))?;
        check_server(&server)?;
        let path = |flag: &Option<PathBuf>, file: Option<PathBuf>| flag.clone().or(file);
        Ok(Self {
            server,
            ca: path(&args.ca, file.ca).ok_or_else(|| missing("the certificate authority", "ca"))?,
            cert: path(&args.cert, file.cert).ok_or_else(|| missing("our certificate", "cert"))?,
            key: path(&args.key, file.key).ok_or_else(|| missing("our private key", "key"))?,
        })
    }
}

fn check_server(server: &str) -> Result<()> {
    let valid = server.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        !host.is_empty() && (bracketed || !host.contains([':', '/'])) && port.parse::<u16>().is_ok()
    });
    if valid {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "server {server:?} is not of the form host:port, such as control.example:7443"
    )))
}

impl ConfigFile {
    fn read(path: &Path) -> Result<Self> {
        let read = |error: io::Error| {
            Failure::usage(format!("cannot read configuration {}: {error}", path.display())).remedy(
                "write it: server, ca, cert and key, each a line such as `server = \"control.example:7443\"`",
            )
        };
        let text = fs::read_to_string(path).map_err(read)?;
        let file: Self = toml::from_str(&text).map_err(|error| {
            Failure::usage(format!("configuration {}: {}", path.display(), error.to_string().trim_end()))
        })?;
        Ok(file.beneath(path.parent().unwrap_or(Path::new(""))))
    }

    /// Relative paths in the file are meant from where the file is.
    fn beneath(self, folder: &Path) -> Self {
        let from = |path: Option<PathBuf>| path.map(|path| folder.join(path));
        Self { server: self.server, ca: from(self.ca), cert: from(self.cert), key: from(self.key) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &ConnectionArgs, text: &str, expected: std::result::Result<&str, &str>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, text).unwrap();
        let args = ConnectionArgs { config: Some(path), ..args.clone() };
        let found = Connection::resolve(&args).map(|connection| {
            assert_eq!(connection.ca, folder.path().join("ca.pem"));
            assert_eq!(connection.key, Path::new("/k.pem"));
            connection.server
        });
        match (found, expected) {
            (Ok(server), Ok(expected)) => assert_eq!(server, expected),
            (Err(failure), Err(expected)) => assert!(failure.to_string().contains(expected), "{failure}"),
            (found, expected) => panic!("{text}: {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn files_and_flags() {
        let none = ConnectionArgs::default();
        let flag = ConnectionArgs { server: Some("[::1]:1".to_owned()), ..none.clone() };
        let files = "ca = 'ca.pem'\ncert = 'c.pem'\nkey = '/k.pem'\n";
        check(&none, &format!("server = 'a.example:7443'\n{files}"), Ok("a.example:7443"));
        check(&flag, &format!("server = 'a.example:7443'\n{files}"), Ok("[::1]:1"));
        check(&flag, files, Ok("[::1]:1"));
        check(&none, files, Err("control plane's address is not known\n  give --server, set BERTH_SERVER"));
        check(&flag, "ca = 'ca.pem'\ncert = 'c.pem'\n", Err("our private key is not known"));
        check(&none, &format!("server = 'a.example'\n{files}"), Err("not of the form host:port"));
        check(&none, &format!("server = 'https://a:1'\n{files}"), Err("not of the form host:port"));
        check(&none, "sever = 'a:1'", Err("unknown field `sever`"));
        check(&none, "server = ", Err("TOML parse error at line 1"));
    }

    #[test]
    fn a_named_file_must_be_there() {
        let args =
            ConnectionArgs { config: Some("/nowhere/config.toml".into()), ..ConnectionArgs::default() };
        let failure = Connection::resolve(&args).unwrap_err();
        assert!(failure.message.starts_with("cannot read configuration /nowhere/config.toml"), "{failure}");
    }
}
