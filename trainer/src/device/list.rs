//! `trainer devices`: what there is to compute on.

use std::fs;
use std::thread;

use serde::Serialize;

use super::{DeviceChoice, how_to_build, memory};
use crate::cli::DevicesArgs;
use crate::report::{json, say};

/// A device that can be given to `--device`, or why there is none of its kind.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Found {
    /// What to write after `--device`.
    pub device: String,
    /// As it calls itself.
    pub name: String,
    /// What drives it, with the version as far as it says.
    pub driver: String,
    /// Its memory; `None` when nobody tells.
    pub memory_bytes: Option<u64>,
    /// Whether it is a program that stands in for a GPU on the CPU. It computes what a GPU would, slowly: `auto` never
    /// takes it.
    pub software: bool,
    /// Why it cannot be used, and what to do.
    pub missing: Option<String>,
}

/// What a GPU and its driver say of themselves.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[derive(Debug)]
pub(super) struct Description {
    /// Such as `llvmpipe (LLVM 15.0.6, 256 bits)`.
    pub name: String,
    /// Such as `Vulkan, Mesa 22.3.6`.
    pub driver: String,
    /// Its address on the PCI bus, if it has one.
    pub pci_address: Option<String>,
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl Description {
    /// What burn knows of a device, which it opens for that.
    ///
    /// # Errors
    /// What the device says of why it cannot be opened.
    pub(super) fn of(device: &burn::tensor::Device, driver: &str) -> Result<Self, String> {
        let identity = super::guard::hear(|| device.identity())?;
        let (name, card) = identity.map(|identity| (identity.name, identity.physical)).unwrap_or_default();
        let pci_address = card.and_then(|card| card.pci_address).map(|address| address.to_string());
        Ok(Self { name, driver: driver.to_owned(), pci_address })
    }
}

/// Prints every device, and of each kind that cannot be used how to have it.
pub fn list(args: &DevicesArgs) {
    let found: Vec<Found> = [cpu()].into_iter().chain(wgpu()).chain(cuda()).collect();
    if args.json {
        found.iter().for_each(json);
    } else {
        say(&table(&found));
    }
}

/// A device that is not there.
fn missing(device: impl Into<String>, why: String) -> Found {
    let (name, driver) = (String::new(), String::new());
    Found { device: device.into(), name, driver, memory_bytes: None, software: false, missing: Some(why) }
}

/// A device that is there, if it could be opened.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn found(choice: DeviceChoice, described: Result<Description, String>) -> Found {
    match described {
        Ok(Description { name, driver, pci_address }) => {
            let memory_bytes = pci_address.and_then(|address| memory::of_card(&address));
            Found { device: choice.to_string(), name, driver, memory_bytes, software: false, missing: None }
        }
        Err(reason) => missing(choice.to_string(), format!("cannot be opened: {reason}")),
    }
}

#[cfg(not(all(feature = "wgpu", feature = "cuda")))]
fn not_built_in(feature: &str) -> Vec<Found> {
    vec![missing(feature, format!("not built in: {}", how_to_build(feature)))]
}

fn cpu() -> Found {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let name = fs::read_to_string("/proc/cpuinfo").ok().and_then(|cpuinfo| model_name(&cpuinfo));
    Found {
        device: DeviceChoice::Cpu.to_string(),
        name: format!("{}, {cores} {}", name.as_deref().unwrap_or("CPU"), if cores == 1 { "core" } else { "cores" }),
        driver: "burn-flex".to_owned(),
        memory_bytes: memory::of_the_machine(),
        software: false,
        missing: None,
    }
}

/// Source: `proc_cpuinfo(5)`; not every architecture has the line.
fn model_name(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start().strip_prefix(':')?.trim().to_owned())
}

#[cfg(feature = "wgpu")]
fn wgpu() -> Vec<Found> {
    let describe = |(number, adapter): (usize, super::wgpu::Adapter)| {
        let found = found(DeviceChoice::Wgpu(number), adapter.describe());
        // Software computes in the machine's memory.
        let software = adapter.is_software() && found.missing.is_none();
        if software { Found { software, memory_bytes: memory::of_the_machine(), ..found } } else { found }
    };
    let found: Vec<Found> = super::wgpu::adapters().into_iter().enumerate().map(describe).collect();
    if found.is_empty() {
        vec![missing("wgpu", "no graphics adapter: install a Vulkan driver".to_owned())]
    } else {
        found
    }
}

#[cfg(not(feature = "wgpu"))]
fn wgpu() -> Vec<Found> {
    not_built_in("wgpu")
}

#[cfg(feature = "cuda")]
fn cuda() -> Vec<Found> {
    let describe = |number| {
        let device = burn::tensor::Device::cuda(number);
        found(DeviceChoice::Cuda(number), Description::of(&device, "CUDA"))
    };
    match super::cuda_cards() {
        0 => vec![missing("cuda", "no CUDA device: is an NVIDIA driver installed?".to_owned())],
        count => (0..count).map(describe).collect(),
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Vec<Found> {
    not_built_in("cuda")
}

/// Columns as wide as what is in them.
fn table(found: &[Found]) -> String {
    let cells = |found: &Found| {
        let memory = found.memory_bytes.map_or_else(|| "unknown".to_owned(), gibibytes);
        [found.device.clone(), found.name.clone(), found.driver.clone(), memory]
    };
    let head = ["device", "name", "driver", "memory"].map(ToOwned::to_owned);
    let is_there = |found: &&Found| found.missing.is_none();
    let rows = || [head.clone()].into_iter().chain(found.iter().filter(is_there).map(cells));
    let mut widths = [0; 4];
    for row in rows() {
        for (width, cell) in widths.iter_mut().zip(&row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let row = |[device, name, driver, memory]: [String; 4]| {
        let [first, second, third, fourth] = widths;
        format!("{device:first$}  {name:second$}  {driver:third$}  {memory:>fourth$}")
    };
    let mut lines: Vec<String> = rows().map(row).collect();
    let not_there = found.iter().filter_map(|found| Some((found, found.missing.as_ref()?)));
    lines.extend(not_there.map(|(found, why)| format!("{:width$}  {why}", found.device, width = widths[0])));
    lines.join("\n")
}

/// Bytes as a person reads them.
fn gibibytes(bytes: u64) -> String {
    let tenths = bytes / ((1 << 30) / 10);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn what_is_there_is_a_table_and_what_is_not_says_how_to_have_it() {
        let found = |device: &str, name: &str, driver: &str, memory_bytes| Found {
            name: name.to_owned(),
            driver: driver.to_owned(),
            memory_bytes,
            missing: None,
            ..missing(device, String::new())
        };
        expect![[r"
            device  name                    driver               memory
            cpu     A CPU of 2030, 8 cores  burn-flex          31.1 GiB
            wgpu:0  Größe 9                 Vulkan, Mesa 30.1   unknown
            cuda    not built in: build with `cargo build --release -p batchmill-trainer --features cuda`
        "]]
        .assert_eq(&format!(
            "{}\n",
            table(&[
                found("cpu", "A CPU of 2030, 8 cores", "burn-flex", Some(33_400_000_000)),
                found("wgpu:0", "Größe 9", "Vulkan, Mesa 30.1", None),
                missing("cuda", format!("not built in: {}", how_to_build("cuda"))),
            ])
        ));
    }

    #[test]
    fn the_cpu_is_called_by_its_name() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A CPU @ 2.10GHz\nflags\t: fpu\n";
        assert_eq!(model_name(cpuinfo).as_deref(), Some("A CPU @ 2.10GHz"));
        assert_eq!(model_name("processor\t: 0\n"), None);
        assert_eq!(cpu().device, "cpu");
    }
}
