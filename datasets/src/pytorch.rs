//! Where to find here what one knows from PyTorch and torchvision: every public class, same, renamed, different or missing.
//!
//! Names of kinds, options and defaults are PyTorch's and torchvision's where those have them. What differs on purpose
//! differs for one reason: a batch is a pure function of its position. No sampler, transform or dataset keeps a state, so
//! that workers can be scaled, killed and replaced without a byte of the stream changing; and a random number follows from
//! seed, epoch, place, sample and the transform's place in the chain, so that the numbers drawn are other ones than
//! PyTorch's, of the same distributions.
//!
//! How close the results are is held by the golden tests (`tests/it/golden`), which compare with files that PyTorch,
//! torchvision and Pillow made. In the middle column a word such as `resize` is a kind, to be written into a
//! `[stream.NAME]` table; `-` is nothing.
//!
//! # torch.utils.data
//!
//! | there | here | how the two compare |
//! |---|---|---|
//! | `Dataset` | [`MapDataset`](crate::dataset::MapDataset) | renamed: `__len__` is `len`, `__getitem__` is `get`; `get` must give the same sample in any process at any time |
//! | `IterableDataset` | [`IterableDataset`](crate::iterable::IterableDataset) | differs: it comes in shards and knows of no worker; each record is delivered once for any number of workers, and samplers and compositions work as on any dataset |
//! | `TensorDataset` | `npy`, `npz` | differs: every worker is a process of its own, so that tensors come from a file and not from the caller's memory |
//! | `StackDataset` | `zip` | renamed: the fields of all, side by side |
//! | `ConcatDataset` | `concat` | same |
//! | `ChainDataset` | `concat` | renamed: one kind for both sorts of datasets |
//! | `Subset` | `subset` | same |
//! | `random_split` | `subset` | renamed: `split = [0.8, 0.2]` and `part = 0`; lengths are rounded as there; each part is a stream of its own, and the same `seed` keeps them apart |
//! | `DataLoader` | a `[stream.NAME]` table, [`StreamSpec`](crate::spec::StreamSpec) | differs: `batch_size` is the same, `shuffle=True` is `sampler = "shuffled"`, `drop_last=True` is `tail = "drop"`, `num_workers` belongs to the loader, to be changed while it runs; `drop_last` that leaves no batch is refused |
//! | `Sampler` | [`Sampler`](crate::sampler::Sampler) | differs: asked for the index at a place of an epoch instead of iterated, so that any worker may ask for any place |
//! | `SequentialSampler` | `sequential` | same |
//! | `RandomSampler` | `shuffled`, `with-replacement` | renamed: without and with replacement; no list of the order is kept, so that a set of 10^12 shuffles at once |
//! | `SubsetRandomSampler` | `subset` | renamed: with `shuffled = true` |
//! | `WeightedRandomSampler` | `weighted` | differs: weights by class or by a column; without `replacement=False`, where a draw follows from all draws before it, so that no place could be reached alone |
//! | `BatchSampler` | `batch_size = 64`, `batch-by-length` | differs: every stream is batched, and a batch has the same rows for everybody who reads it |
//! | `DistributedSampler` | a sharded member of a stream | differs: each member reads its rows of every batch, so that the number of members may change and the order does not |
//! | `default_collate` | `collate = { .. }`, [rules](mod@crate::collate) | differs: every field keeps name and dtype; one whose length differs needs a rule, padded or ragged |
//! | `default_convert` | - | missing: samples are arrays from the start |
//! | `get_worker_info` | - | missing: what a sample is must not depend on who makes it |
//! | `IterDataPipe`, `MapDataPipe`, `DFIterDataPipe`, `DataChunk`, `functional_datapipe`, `argument_validation`, `runtime_validation`, `runtime_validation_disabled`, `non_deterministic`, `guaranteed_datapipes_determinism` | - | missing: data pipes are given up there as well |
//!
//! # torchvision.datasets
//!
//! | there | here | how the two compare |
//! |---|---|---|
//! | `VisionDataset` | [`MapDataset`](crate::dataset::MapDataset) | renamed: transforms stand in the stream, not in the dataset |
//! | `DatasetFolder`, `ImageFolder` | `image-folder` | differs: only images, of the formats that [`decode`](crate::decode) reads, by content and not by name |
//! | `FakeData` | `synthetic` | differs: of any shape and three dtypes; the noise is uniform, where that one's is normal |
//! | `MNIST` | `mnist` | same |
//! | `FashionMNIST` | `fashion-mnist` | same |
//! | `KMNIST` | `kmnist` | same |
//! | `EMNIST` | `emnist` | same |
//! | `CIFAR10` | `cifar10` | differs: reads the binary version, not Python's pickles |
//! | `CIFAR100` | `cifar100` | differs: reads the binary version, not Python's pickles |
//! | `Caltech101`, `Caltech256`, `Country211`, `EuroSAT`, `ImageNet`, `Imagenette`, `RenderedSST2` | `image-folder` | differs: no download; unpacked, a split of theirs is one folder with a sub-folder for each class |
//! | `CLEVRClassification`, `CelebA`, `DTD`, `FGVCAircraft`, `Flowers102`, `Food101`, `GTSRB`, `INaturalist`, `LFWPeople`, `Omniglot`, `OxfordIIITPet`, `Places365`, `StanfordCars`, `SUN397` | `image-folder-csv` | differs: no download; their lists, each of a form of its own, are written once as a CSV of path and labels |
//! | `Cityscapes`, `VOCSegmentation` | `image-folder-csv` | differs: no download; a CSV has the paths of image and mask |
//! | `FER2013`, `MovingMNIST`, `PCAM`, `PhotoTour`, `QMNIST`, `SEMEION`, `STL10`, `SVHN`, `USPS` | - | missing: each has a file format or a layout of its own; converted to NPY or Parquet they are read |
//! | `LSUN`, `LSUNClass` | - | missing: LMDB is a database to be mapped into memory, and dataset files are not mapped here |
//! | `CocoCaptions`, `Flickr8k`, `Flickr30k`, `SBU` | - | missing: the targets are sentences, and a batch holds numbers |
//! | `CocoDetection`, `Kitti`, `VOCDetection`, `WIDERFace` | - | missing: the targets are boxes, which no transform here moves with the image |
//! | `SBDataset` | - | missing: its masks are MATLAB files; converted to PNG they are read |
//! | `LFWPairs` | - | missing: a sample is a pair of images; a dataset of one's own |
//! | `HMDB51`, `Kinetics`, `UCF101` | - | missing: nothing here decodes videos |
//! | `FlyingChairs`, `FlyingThings3D`, `HD1K`, `KittiFlow`, `Sintel` | - | missing: optical flow has file formats of its own, and a crop or flip must change the flow's values as well |
//! | `CREStereo`, `CarlaStereo`, `ETH3DStereo`, `FallingThingsStereo`, `InStereo2k`, `Kitti2012Stereo`, `Kitti2015Stereo`, `Middlebury2014Stereo`, `SceneFlowStereo`, `SintelStereo` | - | missing: disparity has file formats of its own, and its values change with the image's size |
//! | `wrap_dataset_for_transforms_v2` | - | missing: every sample says what is image and what is mask |
//!
//! # torchvision.transforms.v2
//!
//! A transform that draws has no `Random` in its name where it does the same without a draw: `p = 1` and `[30, 30]` leave
//! nothing to chance.
//!
//! | there | here | how the two compare |
//! |---|---|---|
//! | `Transform` | [`Transform`](crate::transform::Transform) | same |
//! | `Lambda` | [`from_fn`](crate::transform::Transform) | renamed: a function, registered under a name |
//! | `Compose` | `transforms = [..]` | renamed: the chain of a stream |
//! | `Identity` | `transforms = []` | renamed: leave it out |
//! | `RandomApply`, `RandomChoice`, `RandomOrder` | - | missing: those that are drawn have `p` |
//! | `Resize` | `resize` | same: antialiased as there; also the longer side with padding |
//! | `InterpolationMode` | `interpolation = "nearest"`, `"bilinear"`, `"bicubic"` | same: the three that torchvision has for tensors |
//! | `CenterCrop` | `center-crop` | differs: an image that is too small is refused, not padded with black |
//! | `FiveCrop` | `five-crop` | differs: stacked into one array |
//! | `TenCrop` | - | missing: five crops of a flipped and of an unflipped stream |
//! | `RandomCrop` | `random-crop` | same |
//! | `RandomResizedCrop` | `random-resized-crop` | same |
//! | `RandomHorizontalFlip` | `horizontal-flip` | renamed: with `p` |
//! | `RandomVerticalFlip` | `vertical-flip` | renamed: with `p` |
//! | `Pad` | `pad` | same |
//! | `RandomRotation` | `rotation` | differs: always around the middle |
//! | `RandomAffine` | `affine` | differs: always around the middle |
//! | `ColorJitter` | `color-jitter` | same |
//! | `Grayscale`, `RGB` | `color` | renamed: `mode = "gray"` or `"rgb"`; luma is rounded as in Pillow, torchvision cuts it off |
//! | `RandomGrayscale` | `grayscale` | renamed: with `p` |
//! | `GaussianBlur` | `gaussian-blur` | same |
//! | `RandomErasing` | `random-erasing` | same |
//! | `RandomPosterize` | `posterize` | renamed: with `p` |
//! | `RandomSolarize` | `solarize` | renamed: with `p` |
//! | `RandomAutocontrast` | `autocontrast` | renamed: with `p` |
//! | `RandomEqualize` | `equalize` | renamed: with `p` |
//! | `RandomInvert` | `invert` | renamed: with `p` |
//! | `RandomAdjustSharpness` | `sharpness` | renamed: with `p` |
//! | `TrivialAugmentWide` | `trivial-augment-wide` | same |
//! | `AutoAugment`, `AutoAugmentPolicy`, `RandAugment`, `AugMix` | - | missing: the paper of TrivialAugment finds them no better, and they need tuning |
//! | `ElasticTransform`, `RandomPerspective` | - | missing: `affine` and `rotation` move pixels |
//! | `GaussianNoise`, `JPEG`, `RandomChannelPermutation`, `RandomPhotometricDistort` | - | missing: rare; a transform of one's own is a function |
//! | `RandomResize`, `RandomShortestSize`, `RandomZoomOut`, `ScaleJitter` | - | missing: every row of a batch has the same shape; `random-resized-crop` and `affine` vary the scale |
//! | `CutMix`, `MixUp` | - | missing: they mix the samples of a batch, cheapest on the device that trains |
//! | `Normalize` | `normalize` | same |
//! | `ToDtype`, `ConvertImageDtype` | `to-f32`, `cast` | renamed: `to-f32` is `scale=True`, `cast` is `scale=False` |
//! | `ToTensor` | `to-f32`, `to-nchw` | renamed: both, one after the other |
//! | `ToImage`, `PILToTensor` | `to-nchw` | renamed: images are [height, width, channels] until then |
//! | `ToPILImage`, `ToPureTensor` | - | missing: a batch holds tensors and nothing else |
//! | `LinearTransformation` | - | missing: whitening is a layer of the model |
//! | `UniformTemporalSubsample` | - | missing: nothing here decodes videos |
//! | `ClampBoundingBoxes`, `ConvertBoundingBoxFormat`, `RandomIoUCrop`, `SanitizeBoundingBoxes`, `SetClampingMode`, `get_bounding_boxes` | - | missing: no transform here moves boxes |
//! | `ClampKeyPoints`, `SanitizeKeyPoints`, `get_keypoints` | - | missing: no transform here moves points |
//! | `check_type`, `has_all`, `has_any`, `query_chw`, `query_size` | [`Sample`](crate::sample::Sample) and [`Image`](crate::sample::Image) | renamed: a transform looks at its sample's fields |
//!
//! # Only here
//!
//! | here | what it is |
//! |---|---|
//! | `image-folder-csv` | a folder of images and a table of paths and labels |
//! | `idx`, `npy`, `npz`, `csv-table`, `parquet` | arrays and tables |
//! | `tar-shards`, `jsonl`, `csv-rows` | records one after the other, as WebDataset keeps them |
//! | `mix`, `repeat`, `take` | compositions of datasets |
//! | `class-balanced`, `from-file` | orders |
//! | `one-hot`, `label-map` | on labels; `torch.nn.functional.one_hot` |
//! | `standardize`, `clip`, `cast` | on numbers |
