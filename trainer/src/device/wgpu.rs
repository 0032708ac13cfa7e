//! The graphics adapters that wgpu reaches, in the order in which `wgpu:N` counts them.

use burn::tensor::wgpu::WgpuInitError;
use burn::tensor::{Device, DeviceKind, DeviceType};

use super::guard;
use super::list::Description;

/// One of them.
#[derive(Debug)]
pub(super) struct Adapter {
    /// To compute on. Nothing is opened before its first tensor.
    pub device: Device,
    /// `None` is what wgpu knows no kind of, as a GPU that is reached through OpenGL.
    kind: Option<DeviceKind>,
}

/// Every adapter of the graphics API that wgpu settles on, each once: discrete GPUs, integrated ones, those of a virtual
/// machine, unknown ones, and last the software that takes the place of one.
pub(super) fn adapters() -> Vec<Adapter> {
    // A Vulkan driver that cannot even list its devices is as good as none.
    let devices = guard::hear(|| Device::enumerate(DeviceType::Wgpu).into_vec()).unwrap_or_default();
    let count = devices.len();
    let adapter = |device| Adapter { kind: kind_of(&device, count), device };
    let mut adapters: Vec<Adapter> = devices.into_iter().map(adapter).collect();
    adapters.sort_by_key(Adapter::rank);
    adapters
}

/// Burn lists devices without their kind, and makes them of a kind: the one that makes this one is its kind. `count`
/// is how many there are.
fn kind_of(device: &Device, count: usize) -> Option<DeviceKind> {
    let indexed = [DeviceKind::DiscreteGpu, DeviceKind::IntegratedGpu, DeviceKind::VirtualGpu];
    let kinds = indexed.into_iter().flat_map(|kind| (0..count).map(kind)).chain([DeviceKind::Cpu]);
    kinds.into_iter().find(|kind| Device::wgpu(kind.clone()) == *device)
}

impl Adapter {
    /// Whether it is a program that does on the CPU what a GPU would.
    pub(super) fn is_software(&self) -> bool {
        self.kind == Some(DeviceKind::Cpu)
    }

    /// The place of its kind among the others.
    fn rank(&self) -> u8 {
        match self.kind {
            Some(DeviceKind::DiscreteGpu(_)) => 0,
            Some(DeviceKind::IntegratedGpu(_)) => 1,
            Some(DeviceKind::VirtualGpu(_)) => 2,
            Some(DeviceKind::Cpu) => 4,
            _ => 3,
        }
    }

    /// Asks it who it is. Opens it; one that this process has opened before does not say what drives it.
    ///
    /// # Errors
    /// What it says of why it cannot be opened.
    pub(super) fn describe(&self) -> Result<Description, String> {
        let options = Device::wgpu_options().device_kind(self.kind.clone().unwrap_or_default());
        match self.kind.as_ref().map(|_| guard::hear(|| options.init_with_setup())).transpose()? {
            Some(Ok((_, setup))) => {
                let info = setup.adapter.get_info();
                let versions = [info.driver, info.driver_info].into_iter().filter(|part| !part.is_empty());
                let driver = [format!("{:?}", info.backend)].into_iter().chain(versions).collect::<Vec<_>>().join(", ");
                let pci_address = Some(info.device_pci_bus_id).filter(|address| !address.is_empty());
                Ok(Description { name: info.name, driver, pci_address })
            }
            // It is open already, or it has no kind to be opened by.
            Some(Err(WgpuInitError::Registration { .. })) | None => Description::of(&self.device, "wgpu"),
            Some(Err(error)) => Err(guard::reason_of(&error.to_string())),
        }
    }
}
