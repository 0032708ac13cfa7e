//! The work: what each workload loads, how the loader is told, and whom else it is given to.

use std::path::Path;

use super::Failure;
use super::data::Data;

/// One kind of work.
#[derive(Clone, Debug)]
pub struct Workload {
    /// `W1` and so on, as the other loaders' benchmark has them.
    pub name: &'static str,
    /// What it is, in a few words.
    pub what: &'static str,
    /// The `[stream.NAME]` table without its head.
    pub stream: String,
    /// Epochs to read: more where they are short.
    pub epochs: u32,
    /// Worker processes, and threads or processes of the others.
    pub workers: u32,
    /// How the bare loop is asked for it.
    pub bare: Bare,
    /// Other loaders.
    pub peers: Vec<Peer>,
}

/// The bare loop of a workload.
#[derive(Clone, Debug)]
pub enum Bare {
    /// The example `bare-loop` of `batchmill-datasets`, with these arguments, as many processes as there are workers.
    Loop(Vec<String>),
    /// Rows copied out of a file of so many bytes each into a batch, in the order of a permutation; one process.
    Gather {
        /// The file.
        file: String,
        /// Bytes of a row.
        row_bytes: usize,
        /// Rows of a batch.
        batch: usize,
    },
    /// A ring of slots in shared memory: one process copies a batch into them, the other looks at it.
    Ring {
        /// Bytes of a batch.
        batch_bytes: usize,
    },
}

/// Another loader, as one of the scripts of the peers' benchmark runs it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its name in the table.
    pub name: &'static str,
    /// Whose interpreter: that with PyTorch, or that with the others.
    pub torch: bool,
    /// The script and its arguments.
    pub arguments: Vec<String>,
}

/// All of them, in order.
///
/// # Errors
/// When what is only carried cannot be written into `scratch`.
pub fn all(data: &Data, scratch: &Path, workers: u32) -> Result<Vec<Workload>, Failure> {
    let ((photos, photo_list), (small, small_list), (images, labels)) = (data.photos(), data.small(), data.rows());
    let files = |folder: &Path, list: &Path, batch: u32, more: &str| {
        format!(
            "dataset = {{ kind = 'image-folder-csv', images = '{}', labels = '{}' }}\nsampler = 'shuffled'\n\
             batch_size = {batch}\n{more}\n",
            folder.display(),
            list.display()
        )
    };
    let photo = |more: &str| files(&photos, &photo_list, 64, more);
    let idx = |more: &str| {
        format!(
            "dataset = {{ kind = 'idx', images = '{}', labels = '{}' }}\nsampler = 'shuffled'\nbatch_size = 64\n{more}\n",
            images.display(),
            labels.display()
        )
    };
    let carried = |name: &str, times: u32, extents| -> Result<String, Failure> {
        let (images, labels) = Data::carried(scratch, name, extents)?;
        let (images, labels) = (images.display(), labels.display());
        Ok(format!(
            "dataset = {{ kind = 'repeat', times = {times}, dataset = {{ kind = 'idx', images = '{images}', labels = \
             '{labels}' }} }}\nsampler = 'sequential'\nbatch_size = 64\n"
        ))
    };
    let bare = |mode: &str, folder: &Path, list: &Path| {
        Bare::Loop([mode, &folder.display().to_string(), &list.display().to_string()].map(str::to_owned).to_vec())
    };
    let gather = || Bare::Gather { file: images.display().to_string(), row_bytes: 28 * 28, batch: 64 };
    let middle = "transforms = [{ kind = 'resize', size = 256 }, { kind = 'center-crop', size = 224 }]";
    let float = "transforms = [{ kind = 'resize', size = 256 }, { kind = 'center-crop', size = 224 }, { kind = 'normalize', \
                 mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }, 'to-nchw']";
    let random = "transforms = [{ kind = 'random-resized-crop', size = 224 }, 'horizontal-flip']";
    let cached = format!("{middle}\ncache = {{ kind = 'ram', limit = '1GiB' }}");

    let workload =
        |name, what, stream, epochs, bare, peers| Workload { name, what, stream, epochs, workers, bare, peers };
    // What only carries has one process that copies, whoever it is.
    let carry = |name, what, stream, epochs, bare, peers| Workload {
        workers: 1,
        ..workload(name, what, stream, epochs, bare, peers)
    };
    let files_peers = |name: &'static str| file_peers(name, workers);
    Ok(vec![
        workload("W1", "photos, 256 / 224", photo(middle), 10, bare("cut", &photos, &photo_list), files_peers("W1")),
        workload("W1c", "the same from the cache", photo(&cached), 100, bare("cut", &photos, &photo_list), Vec::new()),
        workload("W1f", "the same, f32 NCHW", photo(float), 10, bare("cut", &photos, &photo_list), files_peers("W1f")),
        workload(
            "W1r",
            "random crop, flip",
            photo(random),
            10,
            bare("random", &photos, &photo_list),
            files_peers("W1r"),
        ),
        workload(
            "W2",
            "JPEG of 32 x 32",
            files(&small, &small_list, 128, ""),
            5,
            bare("small", &small, &small_list),
            files_peers("W2"),
        ),
        // The others give numbers.
        workload("W3", "IDX of 28 x 28, u8", idx(""), 40, gather(), Vec::new()),
        workload("W3f", "the same, f32", idx("transforms = ['to-f32']"), 20, gather(), row_peers(workers)),
        carry(
            "W4",
            "carry 9.6 MB",
            carried("large", 400, [3 * 224, 224])?,
            4,
            Bare::Ring { batch_bytes: 64 * 3 * 224 * 224 },
            carry_peers("large"),
        ),
        carry(
            "W4t",
            "carry 200 KB",
            carried("tiny", 6000, [56, 56])?,
            8,
            Bare::Ring { batch_bytes: 64 * 784 * 4 },
            carry_peers("tiny"),
        ),
    ])
}

fn peer(name: &'static str, torch: bool, arguments: &[&str]) -> Peer {
    Peer { name, torch, arguments: arguments.iter().map(|&argument| argument.to_owned()).collect() }
}

fn file_peers(workload: &str, workers: u32) -> Vec<Peer> {
    let workers = workers.to_string();
    let common = ["--workload", workload, "--workers", &workers, "--epochs", "3"];
    let run = |name, torch, script, variant: &[&str]| peer(name, torch, &[&[script], &common[..], variant].concat());
    let mut peers = vec![
        run("PyTorch, PIL", true, "torch_loader.py", &["--variant", "pil"]),
        run("PyTorch, torchvision", true, "torch_loader.py", &["--variant", "tvio"]),
        run("mlx-data", false, "mlx_loader.py", &[]),
        run("DALI", false, "dali_loader.py", &[]),
        run("SPDL", false, "spdl_loader.py", &["--variant", "threads"]),
        run("tf.data", false, "tfdata_loader.py", &[]),
        run("Grain", false, "grain_loader.py", &["--variant", "procs-pil"]),
    ];
    if workload != "W1r" {
        peers.push(run("datago", false, "datago_loader.py", &[]));
    }
    peers
}

fn row_peers(workers: u32) -> Vec<Peer> {
    let workers = workers.to_string();
    let by = |workers, name, torch, script, variant: &[&str]| {
        let common = ["--workload", "W3", "--workers", workers, "--epochs", "3"];
        peer(name, torch, &[&[script], &common[..], variant].concat())
    };
    let run = |name, torch, script, variant| by(&workers, name, torch, script, variant);
    let alone = |name, torch, script, variant| by("0", name, torch, script, variant);
    vec![
        alone("numpy, one process", false, "plain_loader.py", &[]),
        run("PyTorch quickstart", true, "torch_loader.py", &["--variant", "quickstart"]),
        run("PyTorch TensorDataset", true, "torch_loader.py", &["--variant", "tensor"]),
        alone("PyTorch TensorDataset, one process", true, "torch_loader.py", &["--variant", "tensor"]),
        run("mlx-data", false, "mlx_loader.py", &[]),
        run("tf.data", false, "tfdata_loader.py", &[]),
    ]
}

fn carry_peers(payload: &str) -> Vec<Peer> {
    let run = |name, torch, script, variant| peer(name, torch, &[script, "--payload", payload, "--variant", variant]);
    vec![
        run("numpy ring", false, "transport_mp.py", "shm_ring"),
        run("PyTorch", true, "transport_torch.py", "item"),
        run("SPDL pool", false, "transport_spdl.py", "pool"),
    ]
}
