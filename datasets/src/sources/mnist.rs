//! MNIST and its relatives by name.

use super::Idx;
use super::published::{Asked, Origin, Published, Remote};
use crate::dataset::MapDataset;
use crate::options::Options;
use crate::progress::Progress;
use crate::source::{Index, OpenError, Source};
use crate::spec::SpecError;

/// The kinds `mnist`, `fashion-mnist`, `kmnist` and `emnist`: torchvision's `MNIST`, `FashionMNIST`, `KMNIST` and
/// `EMNIST`.
///
/// Options: `root`, the folder that holds all sets; `train`, the training samples (default) or those to test with;
/// `download`, whether to fetch what is missing (default false); `mirror`, the address of a folder to fetch it from
/// instead of the published ones, for a site without a way out: it holds the files under their published names.
/// `emnist` needs `split` as well: "byclass", "bymerge", "balanced", "letters", "digits" or "mnist".
///
/// Files: as torchvision leaves them, `MNIST/raw/train-images-idx3-ubyte` and so on below `root`, in `FashionMNIST`,
/// `KMNIST` and `EMNIST` for the others; or compressed, with `.gz`, as they are published and as `download` leaves
/// them. Only those are fetched that the stream reads; the archive of EMNIST (0.6 GB) stays in `EMNIST/raw`, so that
/// the other splits need not be fetched again.
///
/// Shapes: `image`: [28, 28, 1], u8; `label`: [], i64. The images of `emnist` are as published and as torchvision gives
/// them: rows and columns are swapped, letters lie on their side. The labels of its split "letters" begin at 1; class
/// 0 is "N/A".
///
/// Source: <http://yann.lecun.com/exdb/mnist/>, <https://github.com/zalandoresearch/fashion-mnist>,
/// <http://codh.rois.ac.jp/kmnist/>, <https://www.nist.gov/itl/products-and-services/emnist-dataset>; classes,
/// addresses and checksums are torchvision's.
#[derive(Clone, Debug)]
pub struct Mnist {
    files: Published,
    classes: Vec<String>,
}

/// One of the sets that are published as four files.
struct Set {
    folder: &'static str,
    classes: [&'static str; 10],
    files: &'static [Remote<'static>; 4],
}

/// The names of the four files: images and labels to train with, then those to test with.
const NAMES: [&str; 4] = [
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
];

const fn remotes(mirrors: &'static [&'static str], md5: [&'static str; 4]) -> [Remote<'static>; 4] {
    [
        Remote { name: NAMES[0], md5: md5[0], mirrors },
        Remote { name: NAMES[1], md5: md5[1], mirrors },
        Remote { name: NAMES[2], md5: md5[2], mirrors },
        Remote { name: NAMES[3], md5: md5[3], mirrors },
    ]
}

const MNIST: Set = Set {
    folder: "MNIST/raw",
    classes: [
        "0 - zero",
        "1 - one",
        "2 - two",
        "3 - three",
        "4 - four",
        "5 - five",
        "6 - six",
        "7 - seven",
        "8 - eight",
        "9 - nine",
    ],
    // The author's own site often refuses.
    files: &remotes(
        &["https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"],
        [
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ],
    ),
};

const FASHION: Set = Set {
    folder: "FashionMNIST/raw",
    classes: ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"],
    files: &remotes(
        &["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"],
        [
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ],
    ),
};

const KUZUSHIJI: Set = Set {
    folder: "KMNIST/raw",
    classes: ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"],
    files: &remotes(
        &["http://codh.rois.ac.jp/kmnist/dataset/kmnist/"],
        [
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ],
    ),
};

const EMNIST: Origin = Origin::Archive {
    archive: Remote {
        name: "gzip.zip",
        md5: "58c8d27c78d21e728a6bc7b3cc06412e",
        mirrors: &[
            "https://biometrics.nist.gov/cs_links/EMNIST/",
            "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/",
        ],
    },
    inner: "gzip",
};

/// The splits of EMNIST, with the characters that are its classes.
const SPLITS: [(&str, (&str, &str)); 6] = [
    ("byclass", ("byclass", "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")),
    ("bymerge", ("bymerge", MERGED)),
    ("balanced", ("balanced", MERGED)),
    ("letters", ("letters", "abcdefghijklmnopqrstuvwxyz")),
    ("digits", ("digits", "0123456789")),
    ("mnist", ("mnist", "0123456789")),
];

/// Letters whose lower case looks like their upper case have no class of their own.
const MERGED: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt";

impl Mnist {
    /// Reads the options of `mnist`.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        Self::of(&MNIST, options)
    }

    /// Reads the options of `fashion-mnist`.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn fashion(options: &mut Options) -> Result<Self, SpecError> {
        Self::of(&FASHION, options)
    }

    /// Reads the options of `kmnist`.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn kuzushiji(options: &mut Options) -> Result<Self, SpecError> {
        Self::of(&KUZUSHIJI, options)
    }

    /// Reads the options of `emnist`.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn extended(options: &mut Options) -> Result<Self, SpecError> {
        let asked = Asked::from_options(options)?;
        let (split, characters) = options.one_of("split", &SPLITS)?;
        let part = if asked.train { "train" } else { "test" };
        let names = ["images-idx3", "labels-idx1"].map(|what| format!("emnist-{split}-{part}-{what}-ubyte.gz"));
        let unused = (split == "letters").then(|| "N/A".to_owned());
        Ok(Self {
            files: Published::new(asked, "EMNIST/raw", "EMNIST/raw", names, EMNIST),
            classes: unused.into_iter().chain(characters.chars().map(String::from)).collect(),
        })
    }

    fn of(set: &Set, options: &mut Options) -> Result<Self, SpecError> {
        let asked = Asked::from_options(options)?;
        let names = if asked.train { &NAMES[..2] } else { &NAMES[2..] };
        Ok(Self {
            files: Published::new(asked, set.folder, set.folder, names.iter().copied(), Origin::Files(set.files)),
            classes: set.classes.map(str::to_owned).into(),
        })
    }

    /// The two files, under the classes' names.
    fn idx(&self) -> Result<Idx, OpenError> {
        let mut files = self.files.find()?.into_iter();
        let mut next = || files.next().expect("two names were asked for");
        Ok(Idx::new(next(), next(), self.classes.clone()))
    }
}

impl Source for Mnist {
    fn prepare(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), OpenError> {
        self.files.prepare(progress)
    }

    fn index(&self) -> Result<Vec<u8>, OpenError> {
        self.idx()?.index()
    }

    fn open(self: Box<Self>, index: Index) -> Result<Box<dyn MapDataset>, OpenError> {
        Box::new(self.idx()?).open(index)
    }
}
