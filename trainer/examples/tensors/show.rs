//! Tensors as PyTorch prints them; burn's own `Display` adds shape, device and kind.

use burn::tensor::{DType, TensorData};

/// Gives `tensor([[1., 2.],\n        [3., 4.]])`, for tensors that PyTorch would print whole and without exponents.
pub(crate) fn show(data: &TensorData) -> String {
    let numbers: Vec<f64> = data.iter::<f64>().collect();
    let are_whole = numbers.iter().all(|number| number.fract() == 0.0);
    let write = |number: &f64| match data.dtype() {
        DType::Bool(_) => if *number == 0.0 { "False" } else { "True" }.to_owned(),
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 if are_whole => format!("{number:.0}."),
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => format!("{number:.4}"),
        _ => format!("{number:.0}"),
    };
    let texts: Vec<String> = numbers.iter().map(write).collect();
    let width = texts.iter().map(String::len).max().unwrap_or(0);
    let texts: Vec<String> = texts.iter().map(|text| format!("{text:>width$}")).collect();
    format!("tensor({})", nested(&texts, data.shape().as_slice(), "tensor(".len()))
}

/// Brackets around `texts`, those of the inner axes indented by one more than the outer ones.
fn nested(texts: &[String], shape: &[usize], indent: usize) -> String {
    match shape {
        [] => texts.concat(),
        [_] => format!("[{}]", texts.join(", ")),
        [outer, inner @ ..] => {
            let rows = texts.chunks((texts.len() / outer).max(1)).map(|row| nested(row, inner, indent + 1));
            let between = format!(",{}{}", "\n".repeat(inner.len()), " ".repeat(indent + 1));
            format!("[{}]", rows.collect::<Vec<_>>().join(&between))
        }
    }
}
