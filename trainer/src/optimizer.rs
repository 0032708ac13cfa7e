//! How a model learns from its gradients.

use burn::optim::{AdamConfig, ModuleOptimizer, SgdConfig};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// An optimizer with PyTorch's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Plain stochastic gradient descent.
    Sgd,
    /// Adam: betas 0.9 and 0.999, epsilon 1e-8.
    Adam,
}

impl OptimizerKind {
    /// Makes an optimizer that has seen no gradient.
    pub fn init(self) -> ModuleOptimizer {
        match self {
            Self::Sgd => SgdConfig::new().init(),
            // Burn's own epsilon is 1e-5.
            Self::Adam => AdamConfig::new().with_epsilon(1e-8).init(),
        }
    }
}
