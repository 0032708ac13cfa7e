//! A tensor that a layer keeps up to date in its forward pass, such as the running mean of a batch norm.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::module::{Content, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Tensor};

/// One number per feature, which is not learned.
///
/// `burn::module::RunningState` shows visitors the value of one update ago, so that a checkpoint would miss the last
/// batch; and its clones share one value. This is exact, and a clone is a copy.
#[derive(Debug)]
pub struct Running {
    id: ParamId,
    value: Mutex<Tensor<1>>,
}

impl Running {
    /// Begins with `value`.
    pub fn new(value: Tensor<1>) -> Self {
        Self { id: ParamId::new(), value: Mutex::new(value) }
    }

    /// What it is now.
    pub fn value(&self) -> Tensor<1> {
        self.lock().clone()
    }

    /// Makes it `momentum` parts of `batch` and the rest of what it was.
    pub fn approach(&self, batch: Tensor<1>, momentum: f64) {
        let mut value = self.lock();
        *value = value.clone() * (1.0 - momentum) + batch.detach() * momentum;
    }

    // A tensor is replaced in one step: what a panic elsewhere left behind is whole.
    fn lock(&self) -> MutexGuard<'_, Tensor<1>> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(&self, change: impl FnOnce(Tensor<1>) -> Tensor<1>) -> Self {
        Self { id: self.id, value: Mutex::new(change(self.value())) }
    }
}

impl Clone for Running {
    fn clone(&self) -> Self {
        self.with(|value| value)
    }
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Running")
    }
}

impl ModuleDisplayDefault for Running {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(&"Running").optional()
    }
}

impl ModuleDisplay for Running {}

impl Module for Running {
    fn collect_devices(&self, mut devices: Vec<Device>) -> Vec<Device> {
        let device = self.lock().device();
        if !devices.contains(&device) {
            devices.push(device);
        }
        devices
    }

    fn fork(self, device: &Device) -> Self {
        self.to_device(device)
    }

    fn to_device(self, device: &Device) -> Self {
        self.with(|value| value.to_device(device))
    }

    fn train(self) -> Self {
        self.with(Tensor::from_inner)
    }

    fn valid(&self) -> Self {
        self.with(Tensor::without_autodiff)
    }

    fn materialize(self) -> Self {
        self
    }

    fn visit<Visitor: ModuleVisitor>(&self, visitor: &mut Visitor) {
        visitor.visit_float(&Param::initialized(self.id, self.value()));
    }

    fn map<Mapper: ModuleMapper>(self, mapper: &mut Mapper) -> Self {
        // Mappers may change the value, but nothing here is learned.
        self.with(|value| mapper.map_float(Param::initialized(self.id, value)).val().set_require_grad(false))
    }
}
