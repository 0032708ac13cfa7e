//! Layers as trait objects: what burn does with a module through generic visitors, done parameter by parameter.

use std::any::Any;
use std::fmt::Debug;

use burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, Device, Int, Tensor};

use super::{Layer, Misfit, Row};
use crate::shape::{Activation, Extents};

/// A [`Layer`] whose type is forgotten.
pub(super) trait Face: Debug + Send {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit>;
    fn forward(&self, x: Activation) -> Activation;
    fn to_torch(&self) -> String;
    fn multiply_adds(&self, arrives: &Extents) -> u64;
    fn describe(&self, path: &str, arrives: &Extents, rows: &mut Vec<Row>);
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
    fn clone_box(&self) -> Box<dyn Face>;
    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device>;
    fn fork(self: Box<Self>, device: &Device) -> Box<dyn Face>;
    fn to_device(self: Box<Self>, device: &Device) -> Box<dyn Face>;
    fn train(self: Box<Self>) -> Box<dyn Face>;
    fn valid(&self) -> Box<dyn Face>;
    fn materialize(self: Box<Self>) -> Box<dyn Face>;
    fn visit(&self, visitor: &mut dyn Visit);
    fn map(self: Box<Self>, mapper: &mut dyn Map) -> Box<dyn Face>;
}

impl<L: Layer + 'static> Face for L {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        Layer::leaves(self, arrives)
    }

    fn forward(&self, x: Activation) -> Activation {
        Layer::forward(self, x)
    }

    fn to_torch(&self) -> String {
        Layer::to_torch(self)
    }

    fn multiply_adds(&self, arrives: &Extents) -> u64 {
        Layer::multiply_adds(self, arrives)
    }

    fn describe(&self, path: &str, arrives: &Extents, rows: &mut Vec<Row>) {
        Layer::describe(self, path, arrives, rows);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn clone_box(&self) -> Box<dyn Face> {
        Box::new(self.clone())
    }

    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        Module::collect_devices(self, devices)
    }

    fn fork(self: Box<Self>, device: &Device) -> Box<dyn Face> {
        Box::new(Module::fork(*self, device))
    }

    fn to_device(self: Box<Self>, device: &Device) -> Box<dyn Face> {
        Box::new(Module::to_device(*self, device))
    }

    fn train(self: Box<Self>) -> Box<dyn Face> {
        Box::new(Module::train(*self))
    }

    fn valid(&self) -> Box<dyn Face> {
        Box::new(Module::valid(self))
    }

    fn materialize(self: Box<Self>) -> Box<dyn Face> {
        Box::new(Module::materialize(*self))
    }

    fn visit(&self, visitor: &mut dyn Visit) {
        Module::visit(self, &mut Visiting(visitor));
    }

    fn map(self: Box<Self>, mapper: &mut dyn Map) -> Box<dyn Face> {
        Box::new(Module::map(*self, &mut Mapping(mapper)))
    }
}

/// What a layer's parameters are shown to: each a `Param` of a tensor whose rank is to be found out.
pub(super) trait Visit {
    fn float(&mut self, param: &dyn Any);
    fn int(&mut self, param: &dyn Any);
    fn bool(&mut self, param: &dyn Any);
    fn flag(&mut self, flag: &Param<Flag>);
    fn enter(&mut self, name: &str, container: &str);
    fn exit(&mut self, name: &str, container: &str);
}

/// What a layer's parameters are given to, and taken back from with the type they had.
pub(super) trait Map {
    fn float(&mut self, param: Box<dyn Any>) -> Box<dyn Any>;
    fn int(&mut self, param: Box<dyn Any>) -> Box<dyn Any>;
    fn bool(&mut self, param: Box<dyn Any>) -> Box<dyn Any>;
    fn flag(&mut self, flag: Param<Flag>) -> Param<Flag>;
    fn enter(&mut self, name: &str, container: &str);
    fn exit(&mut self, name: &str, container: &str);
}

/// Inside a layer: burn's visitor, which forgets ranks.
struct Visiting<'a>(&'a mut dyn Visit);

impl ModuleVisitor for Visiting<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.float(param);
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.0.int(param);
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.0.bool(param);
    }

    fn visit_flag(&mut self, flag: &Param<Flag>) {
        self.0.flag(flag);
    }

    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.0.enter(name, container_type);
    }

    fn exit_module(&mut self, name: &str, container_type: &str) {
        self.0.exit(name, container_type);
    }
}

/// Inside a layer: burn's mapper, which forgets ranks.
struct Mapping<'a>(&'a mut dyn Map);

/// What came back, which has the type of what was given.
fn same<T: 'static>(param: Box<dyn Any>) -> T {
    *param.downcast().expect("a parameter comes back with its rank")
}

impl ModuleMapper for Mapping<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        same(self.0.float(Box::new(param)))
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        same(self.0.int(Box::new(param)))
    }

    fn map_bool<const D: usize>(&mut self, param: Param<Tensor<D, Bool>>) -> Param<Tensor<D, Bool>> {
        same(self.0.bool(Box::new(param)))
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        self.0.flag(flag)
    }

    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.0.enter(name, container_type);
    }

    fn exit_module(&mut self, name: &str, container_type: &str) {
        self.0.exit(name, container_type);
    }
}

/// Finds the type of a parameter again, and calls `$visitor.$method` with it.
macro_rules! visit_ranked {
    ($visitor:expr, $method:ident, $param:expr, [$($tensor:ty),*]) => {
        $(if let Some(param) = $param.downcast_ref::<Param<$tensor>>() {
            return $visitor.$method(param);
        })*
    };
}

/// As `visit_ranked`, of a parameter that is given and taken back.
macro_rules! map_ranked {
    ($mapper:expr, $method:ident, $param:expr, [$($tensor:ty),*]) => {
        $(if $param.is::<Param<$tensor>>() {
            return Box::new($mapper.$method(same::<Param<$tensor>>($param)));
        })*
    };
}

/// Calls a macro with the tensors of every rank of a kind. Nothing that is learned has more than 6 dimensions.
macro_rules! ranked {
    ($call:ident, $on:expr, $method:ident, $param:expr) => {
        $call!($on, $method, $param, [Tensor<1>, Tensor<2>, Tensor<3>, Tensor<4>, Tensor<5>, Tensor<6>])
    };
    ($call:ident, $on:expr, $method:ident, $param:expr, $kind:ty) => {
        $call!(
            $on,
            $method,
            $param,
            [Tensor<1, $kind>, Tensor<2, $kind>, Tensor<3, $kind>, Tensor<4, $kind>, Tensor<5, $kind>, Tensor<6, $kind>]
        )
    };
}

/// Outside a layer: hands each parameter to burn's visitor `V`.
pub(super) struct VisitEach<'a, V>(pub(super) &'a mut V);

impl<V: ModuleVisitor> Visit for VisitEach<'_, V> {
    fn float(&mut self, param: &dyn Any) {
        ranked!(visit_ranked, self.0, visit_float, param);
    }

    fn int(&mut self, param: &dyn Any) {
        ranked!(visit_ranked, self.0, visit_int, param, Int);
    }

    fn bool(&mut self, param: &dyn Any) {
        ranked!(visit_ranked, self.0, visit_bool, param, Bool);
    }

    fn flag(&mut self, flag: &Param<Flag>) {
        self.0.visit_flag(flag);
    }

    fn enter(&mut self, name: &str, container: &str) {
        self.0.enter_module(name, container);
    }

    fn exit(&mut self, name: &str, container: &str) {
        self.0.exit_module(name, container);
    }
}

/// Outside a layer: hands each parameter to burn's mapper `M`.
pub(super) struct MapEach<'a, M>(pub(super) &'a mut M);

impl<M: ModuleMapper> Map for MapEach<'_, M> {
    fn float(&mut self, param: Box<dyn Any>) -> Box<dyn Any> {
        ranked!(map_ranked, self.0, map_float, param);
        param
    }

    fn int(&mut self, param: Box<dyn Any>) -> Box<dyn Any> {
        ranked!(map_ranked, self.0, map_int, param, Int);
        param
    }

    fn bool(&mut self, param: Box<dyn Any>) -> Box<dyn Any> {
        ranked!(map_ranked, self.0, map_bool, param, Bool);
        param
    }

    fn flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        self.0.map_flag(flag)
    }

    fn enter(&mut self, name: &str, container: &str) {
        self.0.enter_module(name, container);
    }

    fn exit(&mut self, name: &str, container: &str) {
        self.0.exit_module(name, container);
    }
}
