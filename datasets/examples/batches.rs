//! The batches of a stream in one process, without a loader.
//!
//! Reads the first stream of a configuration such as `loader sample-data` writes:
//!
//! ```sh
//! cargo run --release -p batchmill-datasets --example batches -- my/loader.toml
//! ```

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use batchmill_datasets::spec::StreamSpec;

fn main() -> Result<(), Box<dyn Error>> {
    let file = env::args().nth(1).ok_or("usage: batches LOADER.TOML")?;
    let folder = fs::canonicalize(&file)?.parent().unwrap_or(Path::new("/")).to_owned();
    let configuration: toml::Table = fs::read_to_string(&file)?.parse()?;
    let streams =
        configuration.get("stream").and_then(|streams| streams.as_table()).ok_or("it has no [stream.NAME]")?;
    let (name, table) = streams.iter().next().ok_or("it has no [stream.NAME]")?;
    let table = table.as_table().ok_or("a stream is a table")?.clone();

    let spec = StreamSpec::from_table(name, table, &folder)?;
    let pipeline = batchmill_datasets::builtin().pipeline(&spec)?;
    for epoch in 0..2 {
        for batch in pipeline.batches(epoch)? {
            let batch = batch?;
            let fields = batch.fields().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let labels = batch.i64s("label").unwrap_or_default();
            println!(
                "{}: {} rows of {fields}; labels {:?}",
                batch.position(),
                batch.rows(),
                &labels[..labels.len().min(8)]
            );
        }
    }
    Ok(())
}
