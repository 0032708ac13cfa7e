//! Finds the image files below a folder, in the order of torchvision's `make_dataset`.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::source::OpenError;
use crate::sources::image_files::table::{FileEntry, FileList};

/// Where to look, and for what. Paths are relative to the root; the root's own is empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk<'a> {
    pub(super) root: &'a Path,
    /// What files of images end in, behind a dot, in small letters.
    pub(super) extensions: &'a [String],
}

/// A folder that is being visited: device and number, which no other has.
type FolderId = (u64, u64);

/// What stands in a folder, by name.
#[derive(Debug, Default)]
struct Entries {
    folders: Vec<String>,
    images: Vec<String>,
}

impl Walk<'_> {
    /// The names of the folders in the root, sorted.
    ///
    /// # Errors
    /// [`OpenError`], naming what cannot be looked at.
    pub(super) fn folders(&self) -> Result<Vec<String>, OpenError> {
        let mut folders = self.entries(self.root)?.folders;
        folders.sort_unstable();
        Ok(folders)
    }

    /// Adds all images below `folder`, at any depth.
    ///
    /// # Errors
    /// [`OpenError`], naming what cannot be looked at, is no file, or has a name that is not UTF-8.
    pub(super) fn images(&self, folder: &str, files: &mut FileList) -> Result<(), OpenError> {
        let mut found = Vec::new();
        let mut ancestors = Vec::new();
        if !folder.is_empty() {
            ancestors.push(folder_id(self.root)?);
        }
        self.visit(folder, &mut ancestors, &mut found)?;
        // As there: the paths of all folders are compared as texts, in which `a-b` is before `a/b`.
        found.sort_unstable();
        for (folder, names) in found {
            for name in names {
                let path = join(&folder, &name);
                let file = self.root.join(&path);
                let metadata = fs::metadata(&file).map_err(|error| OpenError::read(&file, error))?;
                if !metadata.is_file() {
                    return Err(OpenError::file(&file, "is no file, but is called as an image is; remove it"));
                }
                files.push(&FileEntry::new(&path, &metadata));
            }
        }
        Ok(())
    }

    /// Collects the sorted names of the images of a folder, and of those below it; `ancestors` are those above.
    fn visit(
        &self,
        folder: &str,
        ancestors: &mut Vec<FolderId>,
        found: &mut Vec<(String, Vec<String>)>,
    ) -> Result<(), OpenError> {
        let path = self.root.join(folder);
        let id = folder_id(&path)?;
        if ancestors.contains(&id) {
            return Err(OpenError::file(&path, "leads back, by a link, to a folder that it lies in; remove the link"));
        }
        let Entries { folders, mut images } = self.entries(&path)?;
        images.sort_unstable();
        found.push((folder.to_owned(), images));
        ancestors.push(id);
        for name in folders {
            self.visit(&join(folder, &name), ancestors, found)?;
        }
        ancestors.pop();
        Ok(())
    }

    /// What is in a folder, links followed, without what is hidden.
    fn entries(&self, folder: &Path) -> Result<Entries, OpenError> {
        let mut entries = Entries::default();
        for entry in fs::read_dir(folder).map_err(|error| OpenError::read(folder, error))? {
            let entry = entry.map_err(|error| OpenError::read(folder, error))?;
            let (name, path) = (entry.file_name(), entry.path());
            if name.as_bytes().starts_with(b".") {
                continue;
            }
            let mut file_type = entry.file_type().map_err(|error| OpenError::read(&path, error))?;
            if file_type.is_symlink() {
                file_type = fs::metadata(&path).map_err(|error| link_error(&path, error))?.file_type();
            }
            let is_image = self.is_image(&name.to_string_lossy());
            let names = match file_type.is_dir() {
                true => &mut entries.folders,
                false if is_image => &mut entries.images,
                false => continue,
            };
            names.push(name.into_string().map_err(|_| OpenError::file(path, "the name is not UTF-8; rename it"))?);
        }
        Ok(entries)
    }

    fn is_image(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        let mut extensions = self.extensions.iter();
        extensions.any(|extension| name.strip_suffix(&**extension).is_some_and(|stem| stem.ends_with('.')))
    }
}

/// A link may have been to a folder full of images: it is not left out in silence.
fn link_error(path: &Path, error: io::Error) -> OpenError {
    match error.kind() {
        io::ErrorKind::NotFound => OpenError::file(path, "is a link to what does not exist; mend or remove it"),
        _ => OpenError::read(path, error),
    }
}

fn folder_id(folder: &Path) -> Result<FolderId, OpenError> {
    let metadata = fs::metadata(folder).map_err(|error| OpenError::read(folder, error))?;
    Ok((metadata.dev(), metadata.ino()))
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
