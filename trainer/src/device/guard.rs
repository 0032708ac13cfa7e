//! A panic while computing becomes an error with its reason.
//!
//! Burn computes on a GPU from a thread of its own. A device that fails panics there, with the reason, and then
//! whoever waits for the numbers panics as well, only because nobody answers. So what the device's thread said is the
//! reason, and a hook writes it down.

use std::any::Any;
use std::fmt::Display;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread::{self, ThreadId};

use super::DeviceError;

/// More of a reason than this is cut off: some are pages of shader code.
const REASON_CHARS_MAX: usize = 400;

/// How the names of devices' threads begin.
///
/// Source: cubecl-common 0.11, `device/handle/channel.rs`: `DSD-0-0`.
const DEVICE_THREADS: [&str; 2] = ["DSD-", "DSU-"];

/// Who computes under a guard, and what a device said.
static WATCH: Mutex<Watch> = Mutex::new(Watch { guarded: Vec::new(), said: None });

struct Watch {
    /// Threads, as often as guards are on each.
    guarded: Vec<ThreadId>,
    /// The first panic of a device's thread that nobody was told of yet. It may come long before anybody waits for the
    /// device, and so under an earlier guard.
    said: Option<String>,
}

/// Computes, and turns a panic into one sentence that begins with `doing`, such as "train on wgpu:0 at epoch 3". What
/// was being computed is lost then. Nothing is printed.
///
/// A GPU works behind: most of what fails there fails when numbers are next asked for, as an error if they are asked
/// for by `try_into_scalar` and its like, for [`DeviceError::while_doing`] to tell, and as a panic by `into_scalar`.
/// Where memory of the *host* ends nothing helps: Rust ends the whole process then.
///
/// # Errors
/// [`DeviceError::OutOfMemory`] when the reason speaks of memory, [`DeviceError::Stopped`] otherwise.
pub fn guarded<T>(doing: impl Display, compute: impl FnOnce() -> T) -> Result<T, DeviceError> {
    hear(compute).map_err(|reason| DeviceError::while_doing(doing, reason))
}

impl DeviceError {
    /// What became of `doing` for a reason that burn gave: a [`TensorReadError`](burn::tensor::TensorReadError), which is
    /// how most failures of a GPU show, or what a panic said.
    pub fn while_doing(doing: impl Display, reason: impl Display) -> Self {
        let (doing, reason) = (doing.to_string(), reason_of(&reason.to_string()));
        let speaks_of = |words: &[&str]| words.iter().any(|word| reason.to_lowercase().contains(word));
        // cubecl's two errors, CUDA's (CUDA_ERROR_OUT_OF_MEMORY) and Vulkan's (ERROR_OUT_OF_DEVICE_MEMORY).
        if speaks_of(&[
            "out of memory",
            "out of device memory",
            "out_of_memory",
            "out_of_device_memory",
            "allocate buffer",
        ]) {
            Self::OutOfMemory { doing, reason }
        } else {
            Self::Stopped { doing, reason }
        }
    }
}

/// Computes; a panic gives its reason.
pub(super) fn hear<T>(compute: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !write_down(info) {
                print(info);
            }
        }));
    });
    let me = thread::current().id();
    watch().guarded.push(me);
    let outcome = panic::catch_unwind(AssertUnwindSafe(compute));
    let mut watch = watch();
    if let Some(idx) = watch.guarded.iter().rposition(|thread| *thread == me) {
        watch.guarded.swap_remove(idx);
    }
    outcome.map_err(|payload| reason_of(&watch.said.take().unwrap_or_else(|| message_of(payload.as_ref()))))
}

/// Keeps what a device's thread says. Answers whether a guard will tell of this panic, so that it need not be printed.
fn write_down(info: &PanicHookInfo<'_>) -> bool {
    let thread = thread::current();
    let mut watch = watch();
    if thread.name().is_some_and(|name| DEVICE_THREADS.iter().any(|start| name.starts_with(start))) {
        watch.said.get_or_insert_with(|| message_of(info.payload()));
        return !watch.guarded.is_empty();
    }
    watch.guarded.contains(&thread.id())
}

fn watch() -> MutexGuard<'static, Watch> {
    // Nobody panics while holding it.
    WATCH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a panic was given: almost always text.
fn message_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

/// The innermost cause of an error that burn wrote over many lines, in one: without the backtrace, and not too long.
pub(super) fn reason_of(text: &str) -> String {
    let is_backtrace = |line: &&str| {
        let starts_frame = line.trim().split_once(':').is_some_and(|(number, _)| number.parse::<u32>().is_ok());
        starts_frame || line.starts_with("Backtrace") || line.starts_with("No backtrace")
    };
    let cause = text.rsplit("Caused by:").next().unwrap_or(text);
    let words = cause.trim_start().lines().take_while(|line| !is_backtrace(line)).flat_map(str::split_whitespace);
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(REASON_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};
    use expect_test::expect;

    use super::*;

    /// What a device says is told to whoever fails next, which should be the test that had it say so.
    static TURN: Mutex<()> = Mutex::new(());

    fn told<T>(compute: impl FnOnce() -> T) -> String {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        match guarded("train on wgpu:0 at epoch 3", compute) {
            Ok(_) => "it computed".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_panic_becomes_a_sentence() {
        expect!["train on wgpu:0 at epoch 3: the device stopped: driver lost"]
            .assert_eq(&told(|| panic!("driver lost")));
        expect!["train on wgpu:0 at epoch 3: the device stopped: a panic without a message"]
            .assert_eq(&told(|| panic::panic_any(7)));
        expect!["it computed"].assert_eq(&told(|| 7));
    }

    #[test]
    fn what_burn_says_of_a_wrong_computation_is_told() {
        let device = Device::flex();
        let sum =
            || Tensor::<2>::ones([2, 3], &device).matmul(Tensor::ones([2, 3], &device)).sum().into_scalar::<f32>();
        let told = told(sum);
        assert!(told.starts_with("train on wgpu:0 at epoch 3: the device stopped: "), "{told}");
        assert!(told.contains("[2, 3]"), "{told}");
        assert!(!told.contains('\n'), "{told}");
    }

    /// As on a GPU: the device's thread panics with the reason, then the caller because nobody answers.
    #[test]
    fn what_the_device_said_is_the_reason() {
        let answer = || {
            let (sender, receiver) = std::sync::mpsc::channel::<f32>();
            let server = thread::Builder::new().name("DSD-0-0".to_owned()).spawn(move || {
                let _answers_no_more = sender;
                panic!("Out of device memory allocating 4096 bytes\n   0: std::backtrace::create\n   1: main\n")
            });
            let answer = receiver.recv();
            assert!(server.expect("it starts").join().is_err());
            answer.expect("somebody answers")
        };
        expect!["train on wgpu:0 at epoch 3: the device has not enough memory (Out of device memory allocating 4096 bytes): lower the batch size, or use --device cpu"]
        .assert_eq(&told(answer));
    }

    #[test]
    fn a_guard_within_a_guard_hears_its_own() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = || {
            let inner = hear(|| panic!("inner"));
            assert_eq!(inner, Err::<(), _>("inner".to_owned()));
            panic!("outer")
        };
        assert_eq!(hear(inner), Err::<(), _>("outer".to_owned()));
    }

    #[test]
    fn a_reason_is_one_line_and_not_too_long() {
        assert_eq!(reason_of("one\n  two\n   0: frame\n"), "one two");
        assert_eq!(
            reason_of("all failed\nCaused by:\n  an IO error\nCaused by:\n  disk\n   full\nBacktrace:\n"),
            "disk full"
        );
        let cut = reason_of(&"é".repeat(1000));
        assert_eq!(cut.chars().count(), REASON_CHARS_MAX + 3);
    }
}
