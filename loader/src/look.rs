//! Looking at data: `loader peek` draws a batch, `loader inspect` goes through all samples.

use batchmill_datasets::pipeline::Pipeline;
use batchmill_datasets::registry::Registry;
use batchmill_datasets::spec::StreamSpec;
use batchmill_protocol::client::{Client, Subscription};
use batchmill_protocol::message::{Reply, Request};
use thiserror::Error;

use crate::cli::Looked;
use crate::config;
use crate::error::Failure;

pub(crate) mod inspect;
pub(crate) mod peek;
mod report;

/// Why there is no stream to look at.
#[derive(Debug, Error)]
enum LookError {
    #[error("there is no stream `{name}`: there {}", list(known))]
    Unknown { name: String, known: Vec<String> },
    #[error("say which stream, with --stream NAME: there {}", list(.0))]
    Several(Vec<String>),
}

fn list(names: &[String]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{verb} {}", names.join(", "))
}

/// Opens the stream that was asked for, in this process.
fn open(looked: &Looked, registry: &Registry) -> Result<(StreamSpec, Pipeline), Failure> {
    let described = &looked.described;
    let spec = if described.config.is_some() || described.images.is_some() {
        let mut specs = config::streams(described, registry)?;
        let names = specs.iter().map(|spec| spec.name.clone()).collect();
        specs.swap_remove(chosen(looked.stream.as_deref(), names)?)
    } else {
        served(looked)?
    };
    let pipeline = registry.pipeline(&spec)?;
    Ok((spec, pipeline))
}

/// The spec of a stream that is being served.
fn served(looked: &Looked) -> Result<StreamSpec, Failure> {
    let connect = || Client::connect(looked.address.socket.as_deref());
    let Reply::Status(status) = connect()?.request(&Request::Status)? else {
        return Err("the loader answered something else than was asked".into());
    };
    let mut names: Vec<_> = status.streams.into_iter().map(|stream| stream.name).collect();
    let name = names.swap_remove(chosen(looked.stream.as_deref(), names.clone())?);
    let member = connect()?.attach(&Subscription::new(name))?;
    Ok(serde_json::from_value(member.stream().spec.clone())?)
}

/// The place of the stream that is meant.
fn chosen(name: Option<&str>, known: Vec<String>) -> Result<usize, LookError> {
    match name {
        Some(name) => match known.iter().position(|known| known == name) {
            Some(place) => Ok(place),
            None => Err(LookError::Unknown { name: name.to_owned(), known }),
        },
        None if known.len() == 1 => Ok(0),
        None => Err(LookError::Several(known)),
    }
}
