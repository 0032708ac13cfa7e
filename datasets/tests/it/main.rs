//! The crate from outside: files on disk and `[stream.NAME]` tables in, batches or sentences out.

#![expect(clippy::unwrap_used, reason = "clippy allows it in test functions, not in what they share")]

mod again;
mod allocations;
mod bad_files;
mod bad_samples;
mod collate;
mod composition;
mod composition_parts;
mod csv_rows;
mod csv_table;
mod custom;
mod decode;
mod decode_hostile;
mod decode_mask;
mod fuzz;
mod gather;
mod golden;
mod identity;
mod idx;
mod image_files;
mod image_folder;
mod image_folder_columns;
mod image_folder_csv;
mod image_folder_rows;
mod iterable;
mod jsonl;
mod kept;
mod kept_index;
mod npy;
#[cfg(feature = "parquet")]
mod parquet;
mod photos;
mod pipeline;
mod published;
mod rows;
mod samplers;
mod samplers_refused;
mod spec;
mod support;
mod synthetic;
mod tar_shards;
mod transforms;
mod transforms_color;
mod transforms_geometry;
mod transforms_numbers;
mod transforms_random;
