//! The files of a platform's certificate.

use berth_access::{Authority, Credentials};
use std::fs;
use std::path::{Path, PathBuf};

/// Writes what `berth` needs into `dir`, and returns its configuration file.
pub fn write_config(dir: &Path, server: &str, authority: &Authority, shown: &Credentials) -> PathBuf {
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    write("ca.crt", authority.certificate_pem());
    write("client.crt", &shown.certificate_pem);
    write("client.key", &shown.key_pem);
    let text = format!("server = '{server}'\nca = 'ca.crt'\ncert = 'client.crt'\nkey = 'client.key'\n");
    write("config.toml", &text);
    dir.join("config.toml")
}
