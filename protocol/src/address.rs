//! Where a loader and its clients meet when nobody says where.

use std::env;
use std::path::{Path, PathBuf};

/// The name of the daemon when none is given.
const NAME: &str = "default";

/// Returns `$XDG_RUNTIME_DIR/batchmill/default.sock`, or the same under `/run/user/UID` or, last, `/tmp/batchmill-UID`.
pub fn default_socket() -> PathBuf {
    runtime_folder().join(NAME).with_extension("sock")
}

fn runtime_folder() -> PathBuf {
    if let Some(folder) = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)
        && folder.is_absolute()
    {
        return folder.join("batchmill");
    }
    let uid = rustix::process::getuid().as_raw();
    let folder = Path::new("/run/user").join(uid.to_string());
    if folder.is_dir() { folder.join("batchmill") } else { PathBuf::from(format!("/tmp/batchmill-{uid}")) }
}
