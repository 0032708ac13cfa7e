//! A folder of images with a sub-folder for each class.

mod walk;

use std::path::PathBuf;

use self::walk::Walk;
use super::image_files::table::{self, Column, FileList};
use super::image_files::{Field, FieldKind, ImageFiles, LABEL, check_folder};
use super::is_class_name;
use crate::dataset::MapDataset;
use crate::decode::DecodeOptions;
use crate::options::Options;
use crate::source::{Index, OpenError, Source};
use crate::spec::SpecError;

/// What image files are called: torchvision's `IMG_EXTENSIONS`, so that both find the same files.
///
/// PPM and PGM are none that can be decoded, and are refused by name when they are read: better than leaving them out in
/// silence.
const EXTENSIONS_DEFAULT: [&str; 9] = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp"];

/// The kind `image-folder`: torchvision's `ImageFolder`.
///
/// Options: `root`, the folder; `color`, "rgb" (default), "gray" or "rgba"; `exif_orientation`, whether images are
/// turned as their EXIF says (default `false`); `draft`, the pixels that the shorter side of a JPEG must keep, which
/// is then decoded at a half, a fourth or an eighth of its size ([`DecodeOptions::draft`]; default: all);
/// `extensions`, a list of what files of images end in, in capitals or not (default: torchvision's, which is "jpg",
/// "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff" and "webp"); `allow_empty`, whether a class may have no images
/// (default `false`); `labels`, `false` for a folder of images without classes, as for a prediction.
///
/// Each folder in the root is a class, in alphabetical order, and has its images at any depth. Links are followed.
/// Differing from torchvision, files and folders whose name begins with a dot are left out, since they are other
/// programs' (`.ipynb_checkpoints`, `._image.jpg`), and a link to a folder that it lies in is refused, where torchvision
/// does not come to an end.
///
/// Order: by class, in it by folder, in it by file, each by the bytes of its name: torchvision's.
///
/// Shapes: `image`: [height, width, 3, 1 or 4], u8; `label`: [], i64, unless `labels` is `false`.
///
/// Source: `torchvision.datasets.folder.make_dataset`.
#[derive(Clone, Debug)]
pub struct ImageFolder {
    root: PathBuf,
    decoding: DecodeOptions,
    extensions: Vec<String>,
    /// How classes are found; `None` where there are no labels.
    classes: Option<Classes>,
}

#[derive(Clone, Copy, Debug)]
struct Classes {
    allow_empty: bool,
}

impl ImageFolder {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let root = options.path("root")?;
        let decoding = DecodeOptions::from_options(options)?;
        let extensions = match options.optional_strings("extensions")? {
            None => EXTENSIONS_DEFAULT.map(str::to_owned).to_vec(),
            Some(extensions) => extensions.iter().map(|text| text.trim_start_matches('.').to_lowercase()).collect(),
        };
        if extensions.is_empty() || extensions.iter().any(String::is_empty) {
            return Err(options.error("extensions", "must be a list of at least one, such as [\"jpg\", \"png\"]"));
        }
        let allow_empty = options.optional_boolean("allow_empty")?;
        let classes = match (options.optional_boolean("labels")?.unwrap_or(true), allow_empty) {
            (true, allow_empty) => Some(Classes { allow_empty: allow_empty.unwrap_or(false) }),
            (false, None) => None,
            (false, Some(_)) => {
                return Err(options.error("allow_empty", "has no sense with `labels = false`: there are no classes"));
            }
        };
        Ok(Self { root, decoding, extensions, classes })
    }

    /// The names of the classes: those of the folders in the root.
    fn class_names(&self, walk: &Walk<'_>) -> Result<Vec<String>, OpenError> {
        let names = walk.folders()?;
        if names.is_empty() {
            let reason = "no folder in it; expected one for each class, or `labels = false` for images without classes";
            return Err(OpenError::file(&self.root, reason));
        }
        match names.iter().find(|name| !is_class_name(name)) {
            None => Ok(names),
            Some(name) => {
                let reason = "its name cannot be that of a class: it is blank or has a line break; rename it";
                Err(OpenError::file(self.root.join(name.escape_debug().to_string()), reason))
            }
        }
    }

    /// Refuses classes without images.
    fn refuse_empty(&self, classes: &[&str]) -> OpenError {
        const SHOWN: usize = 5;
        let shown: Vec<_> = classes.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
        let more = match classes.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let (noun, verb) = if classes.len() == 1 { ("class", "has") } else { ("classes", "have") };
        let reason = format!("the {noun} {}{more} {verb} no image", shown.join(", "));
        let remedy = "remove the folder, or set `allow_empty = true`";
        OpenError::file(&self.root, format!("{reason} ({}); {remedy}", self.expected()))
    }

    fn expected(&self) -> String {
        format!("a file that ends in .{}", self.extensions.join(", ."))
    }
}

impl Source for ImageFolder {
    fn index(&self) -> Result<Vec<u8>, OpenError> {
        check_folder(&self.root)?;
        let walk = Walk { root: &self.root, extensions: &self.extensions };
        let mut files = FileList::default();
        let mut labels = None;
        match self.classes {
            None => walk.images("", &mut files)?,
            Some(Classes { allow_empty }) => {
                let names = self.class_names(&walk)?;
                let (mut classes, mut empty) = (Vec::new(), Vec::new());
                for (name, class) in names.iter().zip(0..) {
                    let before = files.len();
                    walk.images(name, &mut files)?;
                    classes.resize(files.len(), class);
                    empty.extend((files.len() == before).then_some(&**name));
                }
                if !empty.is_empty() && !allow_empty {
                    return Err(self.refuse_empty(&empty));
                }
                labels = Some(Column::Classes { classes, names });
            }
        }
        if files.len() == 0 {
            return Err(OpenError::file(&self.root, format!("no image in it; expected {}", self.expected())));
        }
        Ok(table::pack(files.len(), [Column::Files(files)].into_iter().chain(labels).collect()))
    }

    fn open(self: Box<Self>, index: Index) -> Result<Box<dyn MapDataset>, OpenError> {
        let Self { root, decoding, classes, .. } = *self;
        // No row is without a class.
        let label = classes.map(|_| Field { name: LABEL.to_owned(), kind: FieldKind::Label { missing: -1 } });
        let list = root.clone();
        Ok(Box::new(ImageFiles::open(root, decoding, label.into_iter().collect(), index, &list)?))
    }
}
