//! A training as one of several ranks: each computes its rows, all make the same step.
//!
//! What a lone trainer would compute of a whole batch, the ranks compute together: the loss and the gradients of a rank are
//! means over its rows, so they count by them; rows that only fill a batch up, or are masked, count nowhere. Norm layers
//! see the rows of their own rank, as in PyTorch's `DistributedDataParallel`; their running statistics are averaged with
//! each step. With class weights in the loss, a rank counts by its rows all the same.
//!
//! A wish to stop is told before every step, so that all ranks stop behind the same one.

use std::hash::Hasher as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use batchmill_protocol::identity::Identity;
use batchmill_protocol::position::Position;
use batchmill_protocol::share::Shard;
use burn::module::{Module as _, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData, TensorReadError};
use twox_hash::XxHash3_64;

use super::error::FitError;
use super::training::compute;
use crate::checkpoint::shelf;
use crate::cli::{FitArgs, Seconds, real};
use crate::collective::{Collective, CollectiveError, Joint};
use crate::metrics::{Score, exact};
use crate::model::Sequential;
use crate::optimizer::Gradients;
use crate::state::Numbers;
use crate::stop::{Reason, Stop};

/// What a batch came to, over all of its rows.
pub(super) struct Computed {
    /// The mean loss of a row. *Shape* `[1]`.
    pub(super) loss: Tensor<1>,
    /// Rows that count.
    pub(super) rows: usize,
    /// Of that loss.
    pub(super) gradients: Gradients,
}

/// A rank among others.
#[derive(Debug)]
pub(super) struct Team<'a> {
    collective: Collective,
    args: &'a FitArgs,
    /// Who asked this process to stop.
    asked: Stop,
    /// What all ranks have agreed on.
    agreed: Stop,
    /// What is being trained on.
    position: Position,
}

impl<'a> Team<'a> {
    /// Meets the other ranks, which must have been started alike.
    pub(super) fn join(shard: &Shard, args: &'a FitArgs, model_text: &str) -> Result<Self, FitError> {
        let wait_limit = args.reconnect.map_or(Duration::ZERO, |Seconds(limit)| limit);
        let training = Joint { run: &real(&args.out), launcher: args.sharing.launcher, wait_limit };
        let plan = plan(shard, args, model_text);
        let collective = Collective::join(shard, &training, &plan).map_err(FitError::Ranks)?;
        let (asked, agreed, position) = (Stop::default(), Stop::default(), Position::default());
        Ok(Self { collective, args, asked, agreed, position })
    }

    /// Which rank this is.
    pub(super) fn rank(&self) -> u32 {
        self.collective.rank()
    }

    /// Parts in order, as all ranks do.
    pub(super) fn finish(self) {
        self.collective.finish();
    }

    /// From now on `asked` is told to all; gives what all have agreed on.
    pub(super) fn obey(&mut self, asked: &Stop) -> Stop {
        self.asked = asked.clone();
        self.agreed.clone()
    }

    /// The checkpoint to begin with: the newest that rank 0 sees.
    pub(super) fn agree_on(&mut self, newest: Option<Position>) -> Result<Option<(Position, PathBuf)>, FitError> {
        let ours = newest.map_or([0, 0, 0], |Position { epoch, step }| [1, epoch, step]);
        let [is_one, epoch, step] = self.round(ours)?[0];
        let position = Position { epoch, step };
        Ok((is_one == 1).then(|| (position, shelf::folder(&self.args.out, position))))
    }

    /// Checks that all ranks read the same stream.
    pub(super) fn check_stream(&mut self, name: &str, spec_hash: &str, position: Position) -> Result<(), FitError> {
        self.position = position;
        let hashes = self.round([XxHash3_64::oneshot(spec_hash.as_bytes())])?;
        match (0..).zip(&hashes).find(|(_, hash)| **hash != hashes[0]) {
            Some((rank, _)) => Err(FitError::OtherStream { rank, stream: name.to_owned() }),
            None => Ok(()),
        }
    }

    /// Tells all ranks whether somebody wants to stop; `false` when anybody does. What they have waited for is at
    /// `position`: when it goes on, every rank has it.
    pub(super) fn go_on(&mut self, position: Position) -> Result<bool, FitError> {
        self.position = position;
        self.round([])?;
        Ok(self.agreed.requested().is_none())
    }

    /// What all ranks' rows of the batch at `position` came to; `own` is the mean of this one's, where one counts. None
    /// when none counts anywhere. The running statistics of the model become the same on all.
    pub(super) fn average(
        &mut self,
        model: Sequential,
        own: Option<Computed>,
        position: Position,
        device: &Device,
    ) -> Result<(Sequential, Option<Computed>), FitError> {
        self.position = position;
        let failed = |source| compute(self.args, source);
        let rows = own.as_ref().map_or(0, |own| own.rows);
        let loss = match &own {
            Some(own) => own.loss.clone().detach().without_autodiff().try_into_scalar::<f32>().map_err(failed)?,
            None => 0.0,
        };
        let parts = self.round([u64::try_from(rows).expect("rows fit 64 bits"), loss.to_bits().into()])?;
        let total: u64 = parts.iter().map(|[rows, _]| rows).sum();
        if total == 0 {
            return Ok((model, None));
        }
        let shares = parts.iter().map(|[rows, loss]| exact(*rows) * f64::from(f32::from_bits(low_half(*loss))));
        let loss = single(shares.sum::<f64>() / exact(total));
        let (model, gradients) = self.average_numbers(model, own.map(|own| own.gradients), rows, total, device)?;
        let rows = usize::try_from(total).expect("a batch fits into memory");
        Ok((model, Some(Computed { loss: Tensor::from_data([loss], device), rows, gradients })))
    }

    /// The mean gradients of all rows, and the model with the mean of its running statistics.
    fn average_numbers(
        &mut self,
        model: Sequential,
        own: Option<Gradients>,
        rows: usize,
        total: u64,
        device: &Device,
    ) -> Result<(Sequential, Gradients), FitError> {
        let counts: Vec<usize> = model.parameters().iter().map(|parameter| parameter.count).collect();
        let buffers = buffers(&model);
        // Of a rank without a row the statistics count as little as its gradients.
        let tensors = own.map(|own| own.each.into_iter().zip(&buffers).map(|(own, buffer)| own.or(buffer.clone())));
        let rows = single(exact(u64::try_from(rows).expect("rows fit 64 bits")));
        let packed = pack(&counts, tensors.into_iter().flatten(), rows);
        let mut numbers = packed.map_err(|source| compute(self.args, source))?;
        self.collective.sum(&mut numbers).map_err(|error| self.parted(error))?;
        let means = unpack(&counts, &numbers, single(exact(total)));
        let (mut gradients, mut statistics) = (Vec::new(), Vec::new());
        for (mean, buffer) in means.into_iter().zip(&buffers) {
            let (gradient, statistic) = if buffer.is_some() { (None, mean) } else { (mean, None) };
            gradients.push(gradient.map(|numbers| tensor(numbers, device)));
            statistics.push(statistic);
        }
        let has_statistics = statistics.iter().any(Option::is_some);
        let model = if has_statistics { model.map(&mut Put { each: statistics.into_iter() }) } else { model };
        Ok((model, Gradients { each: gradients }))
    }

    /// Rank 0 tests, the others wait: here is what it has found, or that all are to stop.
    pub(super) fn await_score(&mut self, position: Position) -> Result<Option<Score>, FitError> {
        self.position = position;
        loop {
            let [state, loss, has, accuracy, mae, rmse] = self.round([0; 6])?[0];
            if self.agreed.requested().is_some() {
                return Ok(None);
            }
            if state == DONE {
                let number = |place: u64, bits: u64| (has & place > 0).then(|| f64::from_bits(bits));
                let (accuracy, mae, rmse) = (number(1, accuracy), number(2, mae), number(4, rmse));
                return Ok(Some(Score { accuracy, loss: f64::from_bits(loss), mae, rmse }));
            }
        }
    }

    /// Tells the ranks that wait for the test that it goes on; `false` when all are to stop.
    pub(super) fn go_on_testing(&mut self, position: Position) -> Result<bool, FitError> {
        self.position = position;
        self.round([TESTING, 0, 0, 0, 0, 0])?;
        Ok(self.agreed.requested().is_none())
    }

    /// Tells the ranks that wait for the test what it has found; none when all are to stop.
    pub(super) fn tell_score(&mut self, score: Score) -> Result<Option<Score>, FitError> {
        let Score { accuracy, loss, mae, rmse } = score;
        let numbers = [accuracy, mae, rmse];
        let has =
            [1, 2, 4].into_iter().zip(numbers).filter(|(_, number)| number.is_some()).map(|(place, _)| place).sum();
        let [accuracy, mae, rmse] = numbers.map(|number| number.unwrap_or_default().to_bits());
        self.round([DONE, loss.to_bits(), has, accuracy, mae, rmse])?;
        Ok(self.agreed.requested().is_none().then_some(score))
    }

    /// The hash of the model's weights on each rank: all the same.
    pub(super) fn compare_weights(&mut self, model: &Sequential, position: Position) -> Result<Vec<u64>, FitError> {
        self.position = position;
        let hash = hash_of(model).map_err(|source| compute(self.args, source))?;
        let hashes: Vec<u64> = self.round([hash])?.into_iter().map(|[hash]| hash).collect();
        match (0..).zip(&hashes).find(|(_, hash)| **hash != hashes[0]) {
            Some((rank, _)) => Err(FitError::OtherWeights { rank, position }),
            None => Ok(hashes),
        }
    }

    /// Tells words to all ranks, with the wish to stop where there is one, and gives those of each.
    fn round<const N: usize>(&mut self, words: [u64; N]) -> Result<Vec<[u64; N]>, FitError> {
        let asked = self.asked.requested().map_or(0, Reason::code);
        let told: Vec<u64> = words.into_iter().chain([u64::try_from(asked).expect("a small number")]).collect();
        let all = self.collective.gather(&told).map_err(|error| self.parted(error))?;
        let mut heard = Vec::with_capacity(all.len());
        for (rank, words) in (0..).zip(all) {
            let Some((Ok(own), [asked])) = words.split_at_checked(N).map(|(own, asked)| (own.try_into(), asked)) else {
                let (theirs, ours) = (words.len(), told.len());
                let [theirs, ours] = [theirs, ours].map(|words| u64::try_from(words).unwrap_or(u64::MAX));
                return Err(self.parted(CollectiveError::Uneven { rank, what: "words", theirs, ours }));
            };
            if let Some(reason) = usize::try_from(*asked).ok().and_then(Reason::of_code) {
                self.agreed.request(reason);
            }
            heard.push(own);
        }
        Ok(heard)
    }

    fn parted(&self, parted: CollectiveError) -> FitError {
        FitError::Parted { parted, position: self.position, remedy: remedy(&self.args.out) }
    }
}

/// What to do when a rank has gone.
pub(crate) fn remedy(run: &Path) -> &'static str {
    if shelf::newest(run).is_some() {
        "start all ranks again with --resume"
    } else {
        "start all ranks again: there is no checkpoint yet to go on from"
    }
}

/// What rank 0 says while it tests, and at the end of it.
const TESTING: u64 = 0;
const DONE: u64 = 1;

/// What must be the same on all ranks, by the flag that says it.
fn plan(shard: &Shard, args: &FitArgs, model_text: &str) -> Identity {
    fn typed<T: ToString>(value: Option<&T>) -> String {
        value.map_or_else(|| "left out".to_owned(), ToString::to_string)
    }
    let path = |path: &Option<PathBuf>| typed(path.as_ref().map(|path| path.display().to_string()).as_ref());
    let flag = |given: bool| if given { "given" } else { "left out" }.to_owned();
    let parts = [
        ("--world", shard.world.to_string()),
        ("--model", format!("of hash {:016x}", XxHash3_64::oneshot(model_text.as_bytes()))),
        ("--stream", args.stream.clone()),
        ("--eval", typed(args.eval.as_ref())),
        ("--input", typed(args.input.as_ref())),
        ("--target", typed(args.target.as_ref())),
        ("--epochs", args.epochs.to_string()),
        ("--optimizer", typed(args.optimizer.as_ref())),
        ("--lr", typed(args.lr.as_ref())),
        ("--init", path(&args.init)),
        ("--out", real(&args.out).display().to_string()),
        ("--best", typed(args.best.as_ref())),
        ("--resume", flag(args.resume)),
        ("--seed", typed(args.seed.as_ref())),
    ];
    parts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The numbers of all tensors, weighed, and behind them for each tensor whether it was there: what nothing came by in the
/// forward pass has no gradient, and learns nothing.
fn pack(
    counts: &[usize],
    tensors: impl Iterator<Item = Option<Tensor<1>>>,
    weight: f32,
) -> Result<Vec<f32>, TensorReadError> {
    let count: usize = counts.iter().sum();
    let mut numbers = vec![0.0; count + counts.len()];
    let (mut rest, is_there) = numbers.split_at_mut(count);
    for ((tensor, count), is_there) in tensors.zip(counts).zip(is_there) {
        let (own, others) = rest.split_at_mut(*count);
        if let Some(tensor) = tensor {
            let tensor: Vec<f32> = tensor.without_autodiff().try_into_vec_as()?;
            own.iter_mut().zip(tensor).for_each(|(number, own)| *number = own * weight);
            *is_there = 1.0;
        }
        rest = others;
    }
    Ok(numbers)
}

/// What [`pack`] packed, summed over all ranks, as means; none of what was there on no rank.
fn unpack(counts: &[usize], numbers: &[f32], total: f32) -> Vec<Option<Vec<f32>>> {
    let (mut rest, is_there) = numbers.split_at(counts.iter().sum());
    let mut means = Vec::with_capacity(counts.len());
    for (count, is_there) in counts.iter().zip(is_there) {
        let (sums, others) = rest.split_at(*count);
        means.push((*is_there > 0.0).then(|| sums.iter().map(|sum| sum / total).collect()));
        rest = others;
    }
    means
}

fn tensor(numbers: Vec<f32>, device: &Device) -> Tensor<1> {
    let count = numbers.len();
    Tensor::from_data(TensorData::new(numbers, [count]), device)
}

/// The running statistics of a model, by the place of [`Sequential::parameters`]; none for what learns.
fn buffers(model: &Sequential) -> Vec<Option<Tensor<1>>> {
    struct Read {
        each: Vec<Tensor<1>>,
    }
    impl ModuleVisitor for Read {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.each.push(param.val().flatten(0, -1));
        }
    }
    let mut read = Read { each: Vec::new() };
    model.visit(&mut read);
    let each = model.parameters().into_iter().zip(read.each);
    each.map(|(parameter, tensor)| (!parameter.trainable).then_some(tensor)).collect()
}

/// Walks a module and changes what there is something else for, in the order of [`Sequential::parameters`].
struct Put {
    each: std::vec::IntoIter<Option<Vec<f32>>>,
}

impl ModuleMapper for Put {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(numbers) = self.each.next().flatten() else { return param };
        let (id, device, shape) = (param.id, param.lazy_device(), param.lazy_shape());
        param.transform_for_load(Tensor::from_data(TensorData::new(numbers, shape), &device), id)
    }
}

/// The hash of all numbers of a model, learned or not, with their names.
fn hash_of(model: &Sequential) -> Result<u64, TensorReadError> {
    let mut hash = XxHash3_64::new();
    for (name, tensor) in model.state_dict()?.iter() {
        hash.write(name.as_bytes());
        if let Numbers::Floats(numbers) = &tensor.numbers {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            hash.write(&bytes);
        }
    }
    Ok(hash.finish())
}

/// The nearest number of half the bits.
#[expect(clippy::cast_possible_truncation, reason = "rounded, as a device would")]
fn single(number: f64) -> f32 {
    number as f32
}

/// The lower half of a word, which holds the bits of an `f32`.
#[expect(clippy::cast_possible_truncation, reason = "that is what is asked for")]
fn low_half(word: u64) -> u32 {
    word as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::testing::{model, numbers_of};

    #[test]
    fn a_mean_is_over_the_rows_of_all_and_nothing_has_none() {
        let (device, counts) = (Device::flex(), [2, 1, 3]);
        let pack = |tensors: Vec<Option<Tensor<1>>>, rows| {
            pack(&counts, tensors.into_iter(), rows).expect("the CPU does not fail")
        };
        let given = |numbers: &[f32]| Some(Tensor::from_data(numbers, &device));
        // Of three ranks one has no row. No rank has the second tensor.
        let ranks = [
            pack(vec![given(&[1.0, 2.0]), None, given(&[3.0, 4.0, 5.0])], 3.0),
            pack(Vec::new(), 0.0),
            pack(vec![given(&[5.0, 6.0]), None, given(&[7.0, 8.0, 9.0])], 1.0),
        ];
        let sum = |place: usize| ranks.iter().map(|rank| rank[place]).sum();
        let sums: Vec<f32> = (0..ranks[0].len()).map(sum).collect();
        assert_eq!(unpack(&counts, &sums, 4.0), [Some(vec![2.0, 3.0]), None, Some(vec![4.0, 5.0, 6.0])]);
    }

    #[test]
    fn a_hash_sees_every_number() {
        let model = model(&[3, 2]);
        let hash = |model: &Sequential| hash_of(model).expect("the CPU does not fail");
        assert_eq!(hash(&model), hash(&model.clone()));
        let numbers = numbers_of(&model);
        for place in 0..numbers.len() {
            let mut other = numbers.clone();
            other[place] = -other[place] - 1e-30;
            let other = crate::learn::testing::with_numbers(model.clone(), &other);
            assert_ne!(hash(&model), hash(&other), "{place}");
        }
    }
}
