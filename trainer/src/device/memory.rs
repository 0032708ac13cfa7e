//! How much memory a device has, where anybody says so.

use std::fs;

/// The machine's memory in bytes.
///
/// Source: `proc_meminfo(5)`.
pub(super) fn of_the_machine() -> Option<u64> {
    total(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The memory in bytes of the card at a PCI address such as `0000:3b:00.0`: NVIDIA's driver says it, and that of AMD.
///
/// Source: NVML's `nvmlDeviceGetMemoryInfo`; Linux, `Documentation/gpu/amdgpu/driver-misc.rst`, `mem_info_vram_total`.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(super) fn of_card(address: &str) -> Option<u64> {
    let nvidia = || {
        let nvml = nvml_wrapper::Nvml::init().ok()?;
        Some(nvml.device_by_pci_bus_id(address).ok()?.memory_info().ok()?.total)
    };
    let amd = || {
        let bytes = fs::read_to_string(format!("/sys/bus/pci/devices/{address}/mem_info_vram_total")).ok()?;
        bytes.trim().parse().ok()
    };
    nvidia().or_else(amd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_how_much_memory_there_is() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       24000000 kB\n"), Some(24_576_000_000));
        assert_eq!(total("MemTotal: many\n"), None);
        assert!(of_the_machine().is_some_and(|bytes| bytes > 0));
    }
}
