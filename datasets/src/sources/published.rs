//! Published sets: which files they are, where these lie below `root`, and how they get there.

#![cfg_attr(not(feature = "download"), expect(dead_code, reason = "nothing is fetched"))]

use std::path::{Path, PathBuf};

#[cfg(feature = "download")]
use crate::download::{Downloader, Member, unpack};
use crate::options::Options;
use crate::progress::Progress;
use crate::source::OpenError;
use crate::spec::SpecError;

/// A file as it is published.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote<'a> {
    pub(crate) name: &'a str,
    /// In lower-case hexadecimal digits.
    pub(crate) md5: &'a str,
    /// The folders that hold it, each with its last slash, best first.
    pub(crate) mirrors: &'a [&'a str],
}

#[cfg(feature = "download")]
impl Remote<'_> {
    /// Its address at one of the mirrors.
    pub(crate) fn address(&self, mirror: &str) -> String {
        format!("{mirror}{}", self.name)
    }
}

/// How the files of a set are published.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// One by one.
    Files(&'static [Remote<'static>]),
    /// All in an archive, where they stand in `inner`.
    Archive { archive: Remote<'static>, inner: &'static str },
}

/// The options of every published set.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) root: PathBuf,
    pub(super) train: bool,
    download: bool,
    mirror: Option<String>,
}

impl Asked {
    /// Reads `root`, `train`, `download` and `mirror`.
    pub(super) fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let root = options.path("root")?;
        let train = options.optional_boolean("train")?.unwrap_or(true);
        let download = options.optional_boolean("download")?.unwrap_or(false);
        if download && !cfg!(feature = "download") {
            let reason = "is true, but this program was built without the feature `download`; fetch the files yourself";
            return Err(options.error("download", reason));
        }
        let mut mirror = options.optional_string("mirror")?;
        if let Some(mirror) = &mut mirror {
            if !["http://", "https://"].iter().any(|scheme| mirror.starts_with(scheme)) {
                let reason = format!("is {mirror:?}, not the address of a folder such as \"http://host/mnist/\"");
                return Err(options.error("mirror", reason));
            }
            if !mirror.ends_with('/') {
                mirror.push('/');
            }
        }
        Ok(Self { root, train, download, mirror })
    }
}

/// The files of a published set that one stream reads.
#[derive(Clone, Debug)]
pub(super) struct Published {
    /// Where they lie.
    folder: PathBuf,
    /// Where an archive lies.
    archives: PathBuf,
    names: Vec<String>,
    origin: Origin,
    download: bool,
    mirror: Option<String>,
}

impl Published {
    /// The files `names`, as they are published, in `folder` below the root; an archive goes to `archives` below it.
    pub(super) fn new(
        asked: Asked,
        folder: &str,
        archives: &str,
        names: impl IntoIterator<Item = impl Into<String>>,
        origin: Origin,
    ) -> Self {
        let Asked { root, download, mirror, .. } = asked;
        let (folder, archives) = (root.join(folder), root.join(archives));
        Self { folder, archives, names: names.into_iter().map(Into::into).collect(), origin, download, mirror }
    }

    /// The files, in the order of their names.
    ///
    /// # Errors
    /// [`OpenError::File`] with the one that is missing.
    pub(super) fn find(&self) -> Result<Vec<PathBuf>, OpenError> {
        let find = |name: &String| {
            found(&self.folder, name).ok_or_else(|| {
                let remedy = if self.download { "it should have been fetched" } else { "`download = true` fetches it" };
                OpenError::file(self.folder.join(name), format!("does not exist; {remedy}"))
            })
        };
        self.names.iter().map(find).collect()
    }

    /// Fetches those that are missing, if the user wants that.
    ///
    /// # Errors
    /// [`OpenError`] with address and file.
    pub(super) fn prepare(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), OpenError> {
        let missing: Vec<&str> =
            self.names.iter().map(String::as_str).filter(|name| found(&self.folder, name).is_none()).collect();
        if missing.is_empty() || !self.download {
            return Ok(());
        }
        self.fetch(&missing, progress)
    }

    #[cfg(feature = "download")]
    fn fetch(&self, missing: &[&str], progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), OpenError> {
        let downloader = Downloader::default();
        let own = self.mirror.as_deref().map(|mirror| [mirror]);
        let mirrored =
            |remote: &Remote<'static>| Remote { mirrors: own.as_ref().map_or(remote.mirrors, |own| own), ..*remote };
        match &self.origin {
            Origin::Files(remotes) => {
                for remote in remotes.iter().filter(|remote| missing.contains(&remote.name)) {
                    downloader.fetch(&mirrored(remote), &self.folder, progress)?;
                }
                Ok(())
            }
            Origin::Archive { archive, inner } => {
                let archive = downloader.fetch(&mirrored(archive), &self.archives, progress)?;
                let member = |name: &&str| Member { path: format!("{inner}/{name}"), file: self.folder.join(name) };
                unpack(&archive, &missing.iter().map(member).collect::<Vec<_>>(), progress)
            }
        }
    }

    /// Whoever wants it was refused when the options were read.
    #[cfg(not(feature = "download"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the feature's counterpart uses both")]
    fn fetch(&self, _: &[&str], _: &mut dyn FnMut(Progress<'_>)) -> Result<(), OpenError> {
        Ok(())
    }
}

/// A file of `folder`; one that is published compressed may be there without that.
fn found(folder: &Path, name: &str) -> Option<PathBuf> {
    let names = name.strip_suffix(".gz").into_iter().chain([name]);
    names.map(|name| folder.join(name)).find(|file| file.is_file())
}

#[cfg(feature = "download")]
#[cfg(test)]
mod tests {
    use std::fs;

    use expect_test::expect;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use md5::{Digest, Md5};

    use super::*;
    use crate::download::server::{Reply, Server};
    use crate::quarantine::report;
    use crate::registry::Registry;
    use crate::spec::StreamSpec;

    /// Opens the stream whose dataset has these options; an error as the user reads it.
    fn index(registry: &Registry, folder: &Path, dataset: &str) -> Result<usize, String> {
        let table = format!("dataset = {{ {dataset} }}").parse().unwrap();
        let spec = StreamSpec::from_table("train", table, folder).unwrap();
        let index = registry.index(&spec).map_err(|error| report(&error))?;
        Ok(index.len())
    }

    #[test]
    fn nothing_is_asked_for_once_the_files_are_there() {
        let (server, folder) = (Server::new(b"", &[Reply::Rest]), tempfile::tempdir().unwrap());
        let raw = folder.path().join("MNIST/raw");
        fs::create_dir_all(&raw).unwrap();
        fs::write(raw.join("t10k-images-idx3-ubyte"), [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 5]).unwrap();
        fs::write(raw.join("t10k-labels-idx1-ubyte.gz"), [0, 0, 8, 1, 0, 0, 0, 1, 9]).unwrap();
        // Some archives unpack to a folder of the file's name.
        fs::create_dir(raw.join("t10k-labels-idx1-ubyte")).unwrap();
        let mirror = server.folder("mnist");
        let dataset = format!("kind = 'mnist', root = '.', train = false, download = true, mirror = '{mirror}'");
        assert_eq!(index(&crate::builtin(), folder.path(), &dataset).err(), None);
        assert_eq!(server.requests(), [""; 0]);
        // The others are not.
        let dataset = dataset.replace("false", "true");
        let error = server.without_port(&index(&crate::builtin(), folder.path(), &dataset).unwrap_err());
        expect!["fetch http://127.0.0.1:PORT/mnist/train-images-idx3-ubyte.gz: it sent 0 bytes with the MD5 d41d8cd98f00b204e9800998ecf8427e, expected f68b3c2dcbeaaa9fbdd348bbdeb94873"].assert_eq(&error);
        assert_eq!(server.requests(), ["GET /mnist/train-images-idx3-ubyte.gz"]);
    }

    #[test]
    fn a_set_in_an_archive_is_fetched_once_and_unpacked_once() {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        for name in ["one", "two"] {
            let mut header = tar::Header::new_gnu();
            header.set_size(3);
            header.set_mode(0o644);
            builder.append_data(&mut header, format!("inner/{name}"), name.as_bytes()).unwrap();
        }
        let archive = builder.into_inner().unwrap().finish().unwrap();
        let md5 = Md5::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect::<String>().leak();
        let (server, folder) = (Server::new(&archive, &[Reply::Rest]), tempfile::tempdir().unwrap());
        let own = server.folder("kept");
        let published = |name: &str, download| {
            let asked = Asked { root: folder.path().into(), train: true, download, mirror: Some(own.clone()) };
            let remote = Remote { name: "set.tar.gz", md5, mirrors: &["http://unused.invalid/"] };
            Published::new(asked, "set", "archives", [name], Origin::Archive { archive: remote, inner: "inner" })
        };
        let mut told = Vec::new();
        let mut prepare = |published: Published| {
            published.prepare(&mut |progress| told.push(progress.to_string())).unwrap();
            published.find().map_err(|error| report(&error).replace(&folder.path().display().to_string(), "~"))
        };
        expect!["~/set/one: does not exist; `download = true` fetches it"]
            .assert_eq(&prepare(published("one", false)).unwrap_err());
        for name in ["one", "one", "two"] {
            let files = prepare(published(name, true)).unwrap();
            assert_eq!(files, [folder.path().join("set").join(name)]);
            assert_eq!(fs::read(&files[0]).unwrap(), name.as_bytes());
        }
        assert_eq!(server.requests(), ["GET /kept/set.tar.gz"]);
        told.retain(|line| !line.starts_with("fetching"));
        let expected = ["fetched set.tar.gz: 0.0 MB", "unpacking one from set.tar.gz", "unpacking two from set.tar.gz"];
        assert_eq!(told, expected);
    }
}
