//! The datasets that Batchmill brings along.

mod cifar;
mod csv_columns;
mod csv_file;
mod csv_rows;
mod csv_table;
mod file_patterns;
mod gathering;
mod gzip;
mod idx;
mod image_files;
mod image_folder;
mod image_folder_csv;
mod json_fields;
mod jsonl;
mod kept_index;
mod labels;
mod mnist;
mod npy;
mod packed;
#[cfg(feature = "parquet")]
mod parquet;
mod published;
mod rows;
mod scalar;
mod shard_file;
mod stamp;
mod synthetic;
mod tar_shards;

#[cfg(feature = "parquet")]
pub use self::parquet::Parquet;
pub use cifar::Cifar;
pub use csv_rows::CsvRows;
pub use csv_table::CsvTable;
pub use idx::Idx;
pub use image_folder::ImageFolder;
pub use image_folder_csv::ImageFolderCsv;
pub use jsonl::Jsonl;
pub use mnist::Mnist;
pub use npy::{Npy, Npz};
#[cfg(feature = "download")]
pub(crate) use published::Remote;
pub use synthetic::Synthetic;
pub use tar_shards::TarShards;

use crate::options::Options;
use crate::spec::SpecError;

/// The most bytes of samples that an index takes in: the loader makes it in memory.
const INDEX_BYTES_MAX: u64 = 4 << 30;

/// The names of classes that have none: "0", "1" and so on.
fn numbered_classes(count: usize) -> Vec<String> {
    (0..count).map(|label| label.to_string()).collect()
}

/// The option `classes`: names by label, each once.
fn classes_from_options(options: &mut Options) -> Result<Option<Vec<String>>, SpecError> {
    let Some(classes) = options.optional_strings("classes")? else { return Ok(None) };
    if classes.is_empty() {
        return Err(options.error("classes", "is an empty list; leave it out to take the classes from the labels"));
    }
    for (place, name) in classes.iter().enumerate() {
        if !is_class_name(name) {
            return Err(
                options.error("classes", format_args!("has the name {name:?}, which is blank or has a line break"))
            );
        }
        if classes[..place].contains(name) {
            return Err(options.error("classes", format_args!("has the name `{name}` twice")));
        }
    }
    Ok(Some(classes))
}

/// Whether a class may be called so: indexes and lists keep names by line.
fn is_class_name(name: &str) -> bool {
    !name.trim().is_empty() && !name.contains(['\n', '\r'])
}
