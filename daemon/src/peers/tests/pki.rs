//! Identities of nodes of a test.

use crate::link::PkiFiles;
use berth_access::Authority;
use std::path::Path;

/// Stores an identity, as joining does; `name` is all of it, `spiffe://…`.
pub(super) fn identify(authority: &Authority, folder: &Path, name: &str) -> PkiFiles {
    let issued = authority.client(&[name]);
    let files = PkiFiles::below(folder);
    std::fs::create_dir_all(&files.folder).unwrap();
    std::fs::write(files.node(), issued.certificate_pem + &issued.key_pem).unwrap();
    std::fs::write(files.authority(), authority.certificate_pem()).unwrap();
    files
}
