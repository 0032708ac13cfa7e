//! PyTorch's tutorial "Tensors" with burn: every step, with its line in Python beside it.
//!
//! ```sh
//! cargo run --release -p batchmill-trainer --example tensors          # on the CPU
//! cargo run --release -p batchmill-trainer --features wgpu --example tensors -- wgpu
//! ```
//!
//! A tensor's type says its rank and what is in it: `Tensor<2>` is a matrix of floats, `Tensor<1, Int>` a list of
//! integers, `Tensor<2, Bool>` a mask. What computes is its device, chosen at run time. Tensors are values: an operation
//! takes its operands, as `+` takes two strings, and who wants to go on using one hands in a `clone()`, which copies no
//! number.
//!
//! Source: <https://docs.pytorch.org/tutorials/beginner/basics/tensorqs_tutorial.html> and
//! <https://docs.pytorch.org/tutorials/beginner/basics/autogradqs_tutorial.html>.

mod show;

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

use batchmill_datasets::spec::StreamSpec;
use batchmill_trainer::device::DeviceChoice;
use burn::tensor::{Bool, Device, Distribution, Int, Tensor, TensorData, s};

use self::show::show;

/// What a step of the tutorial returns: its text is written to `out`.
type Done = Result<(), Box<dyn Error>>;

fn main() -> Done {
    // torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"
    let device = env::args().nth(1).unwrap_or_else(|| "cpu".to_owned());
    tutorial(&mut io::stdout().lock(), device.parse()?)
}

/// All steps.
fn tutorial(out: &mut impl Write, choice: DeviceChoice) -> Done {
    let (choice, device) = choice.resolve()?;
    // torch.manual_seed(0)
    device.seed(0);
    initializing(out, &device)?;
    attributes(out, choice, &device)?;
    slicing(out, &device)?;
    joining(out, &device)?;
    arithmetic(out, &device)?;
    single_elements(out, &device)?;
    in_place(out, &device)?;
    bridge(out, &device)?;
    moving(out, &device)?;
    autograd(out, &device)
}

/// "Initializing a Tensor".
fn initializing(out: &mut impl Write, device: &Device) -> Done {
    writeln!(out, "# Initializing a tensor\n")?;
    // data = [[1, 2], [3, 4]]
    // x_data = torch.tensor(data)
    let x_data = Tensor::<2, Int>::from_data([[1, 2], [3, 4]], device);
    writeln!(out, "From data:\n{}\n", show(&x_data.to_data()))?;

    // x_np = torch.from_numpy(np.load("numbers.npy"))
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/tensors"));
    let x_np = Tensor::<2, Int>::from_data(load(folder, "numbers.npy")?, device);
    writeln!(out, "From an npy file:\n{}\n", show(&x_np.to_data()))?;

    // x_ones = torch.ones_like(x_data)
    let x_ones = x_data.ones_like();
    writeln!(out, "Ones Tensor:\n{}\n", show(&x_ones.to_data()))?;
    // x_rand = torch.rand_like(x_data, dtype=torch.float)
    let x_rand = x_data.float().random_like(Distribution::Uniform(0.0, 1.0));
    writeln!(out, "Random Tensor:\n{}\n", show(&x_rand.to_data()))?;

    // shape = (2, 3,)
    let shape = [2, 3];
    // rand_tensor = torch.rand(shape)
    let rand_tensor = Tensor::<2>::random(shape, Distribution::Uniform(0.0, 1.0), device);
    // randn_tensor = torch.randn(shape)
    let randn_tensor = Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), device);
    // ones_tensor = torch.ones(shape)
    let ones_tensor = Tensor::<2>::ones(shape, device);
    // zeros_tensor = torch.zeros(shape)
    let zeros_tensor = Tensor::<2>::zeros(shape, device);
    // full_tensor = torch.full(shape, 2.5)
    let full_tensor = Tensor::<2>::full(shape, 2.5, device);
    writeln!(out, "Random Tensor:\n{}\n", show(&rand_tensor.to_data()))?;
    writeln!(out, "Normal Tensor:\n{}\n", show(&randn_tensor.to_data()))?;
    writeln!(out, "Ones Tensor:\n{}\n", show(&ones_tensor.to_data()))?;
    writeln!(out, "Zeros Tensor:\n{}\n", show(&zeros_tensor.to_data()))?;
    writeln!(out, "Full Tensor:\n{}\n", show(&full_tensor.to_data()))?;
    // torch.arange(5)
    writeln!(out, "Range:\n{}\n", show(&Tensor::<1, Int>::arange(0..5, device).to_data()))?;
    Ok(())
}

/// `numpy.load` of an array of integers: an npy file is a data set like any other, and this asks for all its rows.
fn load(folder: &Path, file: &str) -> Result<TensorData, Box<dyn Error>> {
    let table = format!("dataset = {{ kind = 'npy', input = '{file}' }}\nbatch_size = 1000");
    let spec = StreamSpec::from_table("numbers", table.parse()?, folder)?;
    let pipeline = batchmill_datasets::builtin().pipeline(&spec)?;
    let batch = pipeline.batches(0)?.next().ok_or("it has no rows")??;
    let numbers = batch.i64s("input").ok_or("it has no integers of 64 bits")?;
    let columns = numbers.len() / batch.rows();
    Ok(TensorData::new(numbers, [batch.rows(), columns]))
}

/// "Attributes of a Tensor".
fn attributes(out: &mut impl Write, choice: DeviceChoice, device: &Device) -> Done {
    writeln!(out, "# Attributes of a tensor\n")?;
    // tensor = torch.rand(3, 4)
    let tensor = Tensor::<2>::random([3, 4], Distribution::Uniform(0.0, 1.0), device);
    // print(f"Shape of tensor: {tensor.shape}")
    writeln!(out, "Shape of tensor: {:?}", tensor.dims())?;
    // print(f"Datatype of tensor: {tensor.dtype}")
    writeln!(out, "Datatype of tensor: {}", tensor.dtype().name())?;
    // print(f"Device tensor is stored on: {tensor.device}")
    assert_eq!(tensor.device(), *device);
    writeln!(out, "Device tensor is stored on: {choice}")?;
    // print(torch.tensor([1, 2]).dtype), which is torch.int64: integers have the size that their device prefers.
    let integers = Tensor::<1, Int>::from_data([1, 2], device);
    writeln!(out, "Datatype of integers: {}\n", integers.dtype().name())?;
    Ok(())
}

/// "Standard numpy-like indexing and slicing".
fn slicing(out: &mut impl Write, device: &Device) -> Done {
    writeln!(out, "# Indexing and slicing\n")?;
    // tensor = torch.arange(16.).reshape(4, 4)
    let tensor = Tensor::<1, Int>::arange(0..16, device).float().reshape([4, 4]);
    // print(f"First row: {tensor[0]}")
    writeln!(out, "First row: {}", show(&tensor.clone().select_dim::<1>(0, 0).to_data()))?;
    // print(f"First column: {tensor[:, 0]}")
    writeln!(out, "First column: {}", show(&tensor.clone().select_dim::<1>(1, 0).to_data()))?;
    // print(f"Last column: {tensor[..., -1]}")
    writeln!(out, "Last column: {}", show(&tensor.clone().select_dim::<1>(1, -1).to_data()))?;
    // print(f"Two by two: {tensor[1:3, 2:]}")
    writeln!(out, "Two by two:\n{}", show(&tensor.clone().slice(s![1..3, 2..]).to_data()))?;
    // print(f"Every second row: {tensor[::2]}")
    writeln!(out, "Every second row:\n{}", show(&tensor.clone().slice(s![..;2, ..]).to_data()))?;
    // print(f"Rows by number: {tensor[[3, 0]]}")
    let numbers = Tensor::<1, Int>::from_data([3, 0], device);
    writeln!(out, "Rows by number:\n{}", show(&tensor.clone().select(0, numbers).to_data()))?;
    // print(tensor > 12)
    let mask: Tensor<2, Bool> = tensor.clone().greater_scalar(12);
    writeln!(out, "Greater than 12:\n{}", show(&mask.to_data()))?;
    // print(tensor[tensor > 12])
    writeln!(out, "Those: {}", show(&tensor.mask_select(mask).to_data()))?;
    // tensor = torch.ones(4, 4)
    // tensor[:, 1] = 0
    let tensor = Tensor::<2>::ones([4, 4], device).slice_fill(s![.., 1], 0.0);
    writeln!(out, "Column 1 set to 0:\n{}\n", show(&tensor.to_data()))?;
    Ok(())
}

/// "Joining tensors", and reshaping them.
fn joining(out: &mut impl Write, device: &Device) -> Done {
    writeln!(out, "# Joining and reshaping\n")?;
    let tensor = Tensor::<2>::from_data([[1.0, 0.0], [1.0, 1.0]], device);
    let three = || vec![tensor.clone(), tensor.clone(), tensor.clone()];
    // t1 = torch.cat([tensor, tensor, tensor], dim=1)
    writeln!(out, "cat:\n{}", show(&Tensor::cat(three(), 1).to_data()))?;
    // t2 = torch.stack([tensor, tensor, tensor])
    let stacked: Tensor<3> = Tensor::stack(three(), 0);
    writeln!(out, "stack: {:?}", stacked.dims())?;
    // tensor.reshape(4)
    writeln!(out, "reshape: {}", show(&tensor.clone().reshape([4]).to_data()))?;
    // tensor.T
    writeln!(out, "transpose:\n{}", show(&tensor.clone().transpose().to_data()))?;
    // tensor.unsqueeze(0).shape
    writeln!(out, "unsqueeze: {:?}\n", tensor.unsqueeze_dim::<3>(0).dims())?;
    Ok(())
}

/// "Arithmetic operations".
fn arithmetic(out: &mut impl Write, device: &Device) -> Done {
    writeln!(out, "# Arithmetic\n")?;
    let tensor = Tensor::<2>::from_data([[1.0, 2.0], [3.0, 4.0]], device);
    // y1 = tensor @ tensor.T; y2 = tensor.matmul(tensor.T)
    let y1 = tensor.clone().matmul(tensor.clone().transpose());
    writeln!(out, "Matrix product:\n{}", show(&y1.to_data()))?;
    // z1 = tensor * tensor; z2 = tensor.mul(tensor)
    writeln!(out, "Element-wise product:\n{}", show(&(tensor.clone() * tensor.clone()).to_data()))?;
    // 1 + tensor / 2
    writeln!(out, "With numbers:\n{}", show(&(tensor.clone() / 2.0 + 1.0).to_data()))?;
    // tensor + torch.tensor([[10.], [20.]])
    let column = Tensor::<2>::from_data([[10.0], [20.0]], device);
    writeln!(out, "Broadcast:\n{}", show(&(tensor.clone() + column).to_data()))?;
    // tensor.exp()
    writeln!(out, "Exponential:\n{}", show(&tensor.clone().exp().to_data()))?;
    // tensor.sum(dim=0, keepdim=True): burn keeps the axis, as a rank that does not change is known to the compiler.
    writeln!(out, "Sum of columns: {}", show(&tensor.clone().sum_dim(0).to_data()))?;
    // tensor.mean(dim=1)
    writeln!(out, "Mean of rows: {}", show(&tensor.clone().mean_dim(1).squeeze_dim::<1>(1).to_data()))?;
    // tensor.argmax(dim=1, keepdim=True)
    writeln!(out, "Greatest of rows at:\n{}", show(&tensor.clone().argmax(1).to_data()))?;
    // tensor.max()
    writeln!(out, "Greatest: {}\n", show(&tensor.max().to_data()))?;
    Ok(())
}

/// "Single-element tensors".
fn single_elements(out: &mut impl Write, device: &Device) -> Done {
    writeln!(out, "# Single-element tensors\n")?;
    // agg = torch.ones(3, 4).sum(): there is no tensor of rank 0 here, a sum is one of one number.
    let agg = Tensor::<2>::ones([3, 4], device).sum();
    writeln!(out, "{}", show(&agg.to_data()))?;
    // agg_item = agg.item()
    let agg_item: f32 = agg.into_scalar();
    writeln!(out, "{agg_item:?}\n")?;
    Ok(())
}

/// "In-place operations".
fn in_place(out: &mut impl Write, device: &Device) -> Done {
    writeln!(out, "# In-place operations\n")?;
    // tensor.add_(5): the sum takes the memory of `tensor`, because nobody else holds that. As a value cannot change
    // behind anybody's back, there is no history to be lost either.
    let mut tensor = Tensor::<2>::ones([2, 2], device);
    tensor = tensor + 5.0;
    writeln!(out, "{}", show(&tensor.to_data()))?;
    // The same where a tensor is only borrowed, as in a model.
    tensor.inplace(|tensor| tensor + 5.0);
    writeln!(out, "{}\n", show(&tensor.to_data()))?;
    Ok(())
}

/// "Bridge with NumPy", which here is one with `Vec` and slices.
fn bridge(out: &mut impl Write, device: &Device) -> Done {
    writeln!(out, "# Bridge with Vec\n")?;
    // t = torch.ones(5)
    let t = Tensor::<1>::ones([5], device);
    // n = t.numpy()
    let n: Vec<f32> = t.try_to_vec_as()?;
    writeln!(out, "t: {}\nn: {n:?}", show(&t.to_data()))?;
    // t.add_(1): in PyTorch n changes with it, here it does not.
    let t = t + 1.0;
    writeln!(out, "t: {}\nn: {n:?}", show(&t.to_data()))?;
    // t = torch.from_numpy(n): on the CPU the numbers stay where they are.
    let t = Tensor::<2>::from_data(TensorData::new(n, [1, 5]), device);
    writeln!(out, "t: {}\n", show(&t.to_data()))?;
    Ok(())
}

/// "Moving to the accelerator".
fn moving(out: &mut impl Write, device: &Device) -> Done {
    writeln!(out, "# Moving between devices\n")?;
    // tensor = torch.ones(2)
    let cpu = Device::flex();
    let tensor = Tensor::<1>::ones([2], &cpu);
    // tensor = tensor.to(device)
    let there = tensor.to_device(device) * 3.0;
    // tensor = tensor.cpu()
    let back = there.to_device(&cpu);
    assert_eq!(back.device(), cpu);
    writeln!(out, "There and back: {}\n", show(&back.to_data()))?;
    Ok(())
}

/// "Automatic Differentiation", from the tutorial after the next.
fn autograd(out: &mut impl Write, device: &Device) -> Done {
    writeln!(out, "# Gradients\n")?;
    // x = torch.tensor([1., 2., 3.], requires_grad=True)
    let x = Tensor::<1>::from_data([1.0, 2.0, 3.0], &device.clone().autodiff()).require_grad();
    // (x ** 2).sum().backward(): gradients are a value of their own, so there is none to be set to zero before the next.
    let gradients = x.clone().powf_scalar(2.0).sum().backward();
    // print(x.grad)
    writeln!(out, "{}", show(&x.grad(&gradients).ok_or("x took no part")?.to_data()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn the_tutorial_prints_what_its_reader_expects() {
        let mut out = Vec::new();
        tutorial(&mut out, DeviceChoice::Cpu).expect("the CPU computes it");
        expect![[r#"
            # Initializing a tensor

            From data:
            tensor([[1, 2],
                    [3, 4]])

            From an npy file:
            tensor([[1, 2],
                    [3, 4]])

            Ones Tensor:
            tensor([[1, 1],
                    [1, 1]])

            Random Tensor:
            tensor([[0.8015, 0.7311],
                    [0.5553, 0.7735]])

            Random Tensor:
            tensor([[0.8093, 0.0258, 0.6715],
                    [0.5842, 0.8706, 0.2622]])

            Normal Tensor:
            tensor([[ 1.2872, -1.4814,  0.6126],
                    [ 0.6178,  1.7388,  1.5375]])

            Ones Tensor:
            tensor([[1., 1., 1.],
                    [1., 1., 1.]])

            Zeros Tensor:
            tensor([[0., 0., 0.],
                    [0., 0., 0.]])

            Full Tensor:
            tensor([[2.5000, 2.5000, 2.5000],
                    [2.5000, 2.5000, 2.5000]])

            Range:
            tensor([0, 1, 2, 3, 4])

            # Attributes of a tensor

            Shape of tensor: [3, 4]
            Datatype of tensor: f32
            Device tensor is stored on: cpu
            Datatype of integers: i32

            # Indexing and slicing

            First row: tensor([0., 1., 2., 3.])
            First column: tensor([ 0.,  4.,  8., 12.])
            Last column: tensor([ 3.,  7., 11., 15.])
            Two by two:
            tensor([[ 6.,  7.],
                    [10., 11.]])
            Every second row:
            tensor([[ 0.,  1.,  2.,  3.],
                    [ 8.,  9., 10., 11.]])
            Rows by number:
            tensor([[12., 13., 14., 15.],
                    [ 0.,  1.,  2.,  3.]])
            Greater than 12:
            tensor([[False, False, False, False],
                    [False, False, False, False],
                    [False, False, False, False],
                    [False,  True,  True,  True]])
            Those: tensor([13., 14., 15.])
            Column 1 set to 0:
            tensor([[1., 0., 1., 1.],
                    [1., 0., 1., 1.],
                    [1., 0., 1., 1.],
                    [1., 0., 1., 1.]])

            # Joining and reshaping

            cat:
            tensor([[1., 0., 1., 0., 1., 0.],
                    [1., 1., 1., 1., 1., 1.]])
            stack: [3, 2, 2]
            reshape: tensor([1., 0., 1., 1.])
            transpose:
            tensor([[1., 1.],
                    [0., 1.]])
            unsqueeze: [1, 2, 2]

            # Arithmetic

            Matrix product:
            tensor([[ 5., 11.],
                    [11., 25.]])
            Element-wise product:
            tensor([[ 1.,  4.],
                    [ 9., 16.]])
            With numbers:
            tensor([[1.5000, 2.0000],
                    [2.5000, 3.0000]])
            Broadcast:
            tensor([[11., 12.],
                    [23., 24.]])
            Exponential:
            tensor([[ 2.7183,  7.3891],
                    [20.0855, 54.5981]])
            Sum of columns: tensor([[4., 6.]])
            Mean of rows: tensor([1.5000, 3.5000])
            Greatest of rows at:
            tensor([[1],
                    [1]])
            Greatest: tensor([4.])

            # Single-element tensors

            tensor([12.])
            12.0

            # In-place operations

            tensor([[6., 6.],
                    [6., 6.]])
            tensor([[11., 11.],
                    [11., 11.]])

            # Bridge with Vec

            t: tensor([1., 1., 1., 1., 1.])
            n: [1.0, 1.0, 1.0, 1.0, 1.0]
            t: tensor([2., 2., 2., 2., 2.])
            n: [1.0, 1.0, 1.0, 1.0, 1.0]
            t: tensor([[1., 1., 1., 1., 1.]])

            # Moving between devices

            There and back: tensor([3., 3.])

            # Gradients

            tensor([2., 4., 6.])
        "#]]
        .assert_eq(&String::from_utf8(out).expect("it is text"));
    }
}
