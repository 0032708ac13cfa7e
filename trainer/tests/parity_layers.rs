//! That every layer computes, and learns, what PyTorch's does: numbers written by golden/layers.py.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use batchmill_trainer::config::ModelSpec;
use batchmill_trainer::layer::Layer;
use batchmill_trainer::model::Sequential;
use batchmill_trainer::shape::{Activation, Extents};
use batchmill_trainer::state::Parameter;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use safetensors::SafeTensors;

/// How far a tensor may be from PyTorch's: its largest difference, as a share of PyTorch's largest number.
const TOLERANCE: f32 = 1e-5;

/// One tensor of the file.
#[derive(Clone, Debug)]
struct Golden {
    shape: Vec<usize>,
    numbers: Vec<f32>,
}

impl Golden {
    fn tensor<const D: usize>(&self, device: &Device) -> Tensor<D> {
        Tensor::from_data(TensorData::new(self.numbers.clone(), self.shape.clone()), device)
    }

    fn difference(&self, found: TensorData) -> f32 {
        assert_eq!(found.shape().as_slice(), self.shape, "the shape is another");
        let found = found.try_into_vec::<f32>().expect("they are f32");
        let largest = |numbers: &mut dyn Iterator<Item = f32>| numbers.fold(0.0, f32::max);
        let apart = largest(&mut found.iter().zip(&self.numbers).map(|(a, b)| (a - b).abs()));
        let scale = largest(&mut self.numbers.iter().map(|number| number.abs()));
        assert!(found.iter().all(|number| number.is_finite()), "not all numbers are finite");
        if scale == 0.0 { apart } else { apart / scale }
    }
}

/// All that the file says of one layer.
struct Case {
    toml: String,
    torch: String,
    tensors: BTreeMap<String, Golden>,
}

fn cases() -> BTreeMap<String, Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/layers.safetensors");
    let bytes = std::fs::read(path).expect("the golden file is there");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("it is a safetensors file");
    let file = SafeTensors::deserialize(&bytes).expect("it is a safetensors file");
    let metadata = header.metadata().clone().expect("it has metadata");
    let mut cases = BTreeMap::new();
    for (key, text) in &metadata {
        let Some(name) = key.strip_suffix("/toml") else { continue };
        let torch = metadata[&format!("{name}/torch")].clone();
        let tensors = file.iter().filter_map(|(key, view)| {
            let key = key.strip_prefix(name)?.strip_prefix('/')?.to_owned();
            let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four bytes"));
            let numbers = view.data().chunks_exact(4).map(number).collect();
            Some((key, Golden { shape: view.shape().to_vec(), numbers }))
        });
        cases.insert(name.to_owned(), Case { toml: text.clone(), torch, tensors: tensors.collect() });
    }
    cases
}

/// Gives each parameter PyTorch's numbers.
struct Load<'a> {
    parameters: std::vec::IntoIter<Parameter>,
    tensors: &'a BTreeMap<String, Golden>,
}

/// The key of a parameter of the only layer of a row.
fn key(parameter: &Parameter) -> &str {
    parameter.name.strip_prefix("0.").expect("it is of layer 0")
}

impl ModuleMapper for Load<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let parameter = self.parameters.next().expect("a mapper sees what a visitor sees");
        if !parameter.trainable {
            return param;
        }
        let golden = self.tensors.get(&format!("param/{}", key(&parameter))).expect("PyTorch has it too");
        assert_eq!(parameter.shape, golden.shape, "{}", parameter.name);
        param.map(|old| {
            let tensor = golden.tensor::<D>(&old.device());
            let tensor = if parameter.transposed { tensor.swap_dims(0, 1) } else { tensor };
            tensor.detach().require_grad()
        })
    }
}

/// Compares what a layer holds with what PyTorch's does.
struct Compare<'a> {
    parameters: std::vec::IntoIter<Parameter>,
    gradients: &'a Gradients,
    tensors: &'a BTreeMap<String, Golden>,
    differences: Differences,
}

impl ModuleVisitor for Compare<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let parameter = self.parameters.next().expect("it was seen before");
        if !parameter.trainable {
            let golden = &self.tensors[&format!("running/{}", key(&parameter))];
            self.differences.running = self.differences.running.max(golden.difference(param.val().into_data()));
            return;
        }
        let gradient = param.val().grad(self.gradients).expect("it has a gradient");
        let gradient = if parameter.transposed { gradient.swap_dims(0, 1) } else { gradient };
        let golden = &self.tensors[&format!("grad/{}", key(&parameter))];
        self.differences.grad_params = self.differences.grad_params.max(golden.difference(gradient.into_data()));
    }
}

/// The largest differences found.
#[derive(Clone, Copy, Debug, Default)]
struct Differences {
    output: f32,
    grad_input: f32,
    grad_params: f32,
    running: f32,
}

impl Differences {
    fn each(self) -> [f32; 4] {
        [self.output, self.grad_input, self.grad_params, self.running]
    }

    fn worse(self, other: Self) -> Self {
        Self {
            output: self.output.max(other.output),
            grad_input: self.grad_input.max(other.grad_input),
            grad_params: self.grad_params.max(other.grad_params),
            running: self.running.max(other.running),
        }
    }
}

/// One forward and backward pass; the numbers that arrive, and their gradient.
fn step(model: &Sequential, batch: &Golden, case: &Case, device: &Device, indices: bool) -> (Gradients, Differences) {
    let golden = |key: &str| &case.tensors[key];
    let mut differences = Differences::default();
    macro_rules! pass {
        ($rank:literal) => {{
            let x = batch.tensor::<$rank>(device).require_grad();
            let gradients = backward(model.forward(x.clone().into()), golden("grad_output"), device);
            let gradient = x.grad(&gradients).expect("what arrives has a gradient");
            differences.grad_input = golden("grad_input").difference(gradient.into_data());
            gradients
        }};
    }
    let gradients = match (indices, batch.shape.len()) {
        (true, _) => {
            let x: Tensor<2, Int> = batch.tensor::<2>(device).int();
            backward(model.forward(Activation::Indices(x)), golden("grad_output"), device)
        }
        (false, 2) => pass!(2),
        (false, 3) => pass!(3),
        (false, _) => pass!(4),
    };
    (gradients, differences)
}

/// The gradients of the sum of `output` times PyTorch's random numbers.
fn backward(output: Activation, weights: &Golden, device: &Device) -> Gradients {
    match output {
        Activation::Flat(x) => (x * weights.tensor(device)).sum().backward(),
        Activation::Sequence(x) => (x * weights.tensor(device)).sum().backward(),
        Activation::Image(x) => (x * weights.tensor(device)).sum().backward(),
        Activation::Indices(_) => panic!("no layer leaves whole numbers"),
    }
}

fn data(x: Activation) -> TensorData {
    match x {
        Activation::Flat(x) => x.into_data(),
        Activation::Sequence(x) => x.into_data(),
        Activation::Image(x) => x.into_data(),
        Activation::Indices(x) => x.into_data(),
    }
}

fn activation(batch: &Golden, device: &Device, indices: bool) -> Activation {
    match (indices, batch.shape.len()) {
        (true, _) => Activation::Indices(batch.tensor::<2>(device).int()),
        (false, 2) => batch.tensor::<2>(device).into(),
        (false, 3) => batch.tensor::<3>(device).into(),
        (false, _) => batch.tensor::<4>(device).into(),
    }
}

fn check(case: &Case) -> Differences {
    let inner = Device::flex();
    let device = inner.clone().autodiff();
    let spec = ModelSpec::parse(&case.toml).expect("it is a model file");
    let indices = !case.tensors.contains_key("grad_input");
    let extents = case.tensors["batch/0"].shape[1..].to_vec();
    let arrives = if indices { Extents::Indices(extents) } else { Extents::Floats(extents) };
    let (model, leaves) = spec.layers.build(&arrives, &device).expect("it fits");
    assert_eq!(model.to_string(), format!("Sequential(\n  (0): {}\n)", case.torch));
    assert_eq!(leaves.as_slice(), &case.tensors["output"].shape[1..]);

    let names: Vec<_> = model.named_parameters().iter().map(|parameter| format!("param/{}", key(parameter))).collect();
    let expected: Vec<_> = case.tensors.keys().filter(|key| key.starts_with("param/")).collect();
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>(), expected.into_iter().collect());
    let parameters = model.parameters().into_iter();
    let model = model.map(&mut Load { parameters, tensors: &case.tensors });

    let batches: Vec<&Golden> = (0..).map_while(|idx| case.tensors.get(&format!("batch/{idx}"))).collect();
    let (last, before) = batches.split_last().expect("there is a batch");
    for batch in before {
        model.forward(activation(batch, &device, indices));
    }
    // The same layer is looked at twice: as it computes, and as it learns.
    let twin = model.clone();
    let output = case.tensors["output"].difference(data(twin.forward(activation(last, &device, indices))));
    let (gradients, differences) = step(&model, last, case, &device, indices);
    let parameters = model.parameters().into_iter();
    let differences = Differences { output, ..differences };
    let mut compare = Compare { parameters, gradients: &gradients, tensors: &case.tensors, differences };
    model.visit(&mut compare);
    let mut differences = compare.differences;
    if let Some(eval) = case.tensors.get("eval") {
        let output = data(model.valid().forward(activation(last, &inner, indices)));
        differences.running = differences.running.max(eval.difference(output));
    }
    differences
}

#[test]
fn every_layer_computes_and_learns_as_in_pytorch() {
    let mut kinds: BTreeMap<String, (usize, Differences)> = BTreeMap::new();
    let mut wrong = String::new();
    for (name, case) in cases() {
        let found = check(&case);
        if found.each().iter().any(|&difference| difference > TOLERANCE) {
            let _ = writeln!(wrong, "{name} ({}): {found:?}", case.torch);
        }
        let (_, kind) = name.split_once(' ').expect("a number, then the kind");
        let (count, worst) = kinds.entry(kind.to_owned()).or_default();
        (*count, *worst) = (*count + 1, worst.worse(found));
    }
    println!("{:<20} cases    output  d/dinput d/dparams   running", "layer");
    for (kind, (count, worst)) in &kinds {
        let [output, input, params, running] = worst.each();
        println!("{kind:<20} {count:>5} {output:>9.1e} {input:>9.1e} {params:>9.1e} {running:>9.1e}");
    }
    assert!(wrong.is_empty(), "further than {TOLERANCE:e} from PyTorch:\n{wrong}");
    assert_eq!(kinds.len(), 22, "a kind of layer has no case");
}
