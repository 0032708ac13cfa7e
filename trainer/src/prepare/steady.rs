//! What stands for a transform that draws at random, where every image is to be seen alike.

use batchmill_datasets::builtin;
use batchmill_datasets::spec::Component;
use batchmill_datasets::transform::{IMAGE, LABEL};
use toml::Value;

/// What is done instead of a transform.
#[derive(Debug, PartialEq)]
pub(super) struct Steady {
    /// The transform itself, others, or none.
    pub(super) instead: Vec<Component>,
    /// The difference, for a person, where there is one.
    pub(super) note: Option<String>,
}

/// Whether a transform changes the field `name`, and not one that a prediction has not, such as the label.
pub(super) fn acts_on(transform: &Component, name: &str) -> bool {
    let field = transform.options.get("field").and_then(Value::as_str);
    let default = match transform.kind.as_str() {
        "label-map" | "one-hot" => LABEL,
        "standardize" | "clip" | "cast" => "input",
        _ if is_known(transform) => IMAGE,
        _ => name,
    };
    field.unwrap_or(default) == name
}

/// Whether behind a transform an image may have another size than before it; of somebody's own nobody can say.
pub(super) fn changes_sizes(transform: &Component) -> bool {
    let sizes = ["resize", "center-crop", "random-crop", "random-resized-crop", "pad", "five-crop"];
    sizes.contains(&transform.kind.as_str()) || !is_known(transform)
}

fn is_known(transform: &Component) -> bool {
    builtin().make_transform(transform, 0, "/".as_ref()).is_ok()
}

/// What is done instead of `transform`: of a crop at a random place that of the middle, of a piece of random size the
/// whole; a change that is made by chance is not made.
pub(super) fn steady(transform: Component) -> Steady {
    match transform.kind.as_str() {
        "random-crop" => Steady {
            note: Some("`random-crop` draws a place: the middle is taken".to_owned()),
            instead: middle(&transform),
        },
        "random-resized-crop" => Steady {
            note: Some("`random-resized-crop` draws a piece: the whole is scaled, and the middle taken".to_owned()),
            instead: whole(&transform),
        },
        _ if draws(&transform) => Steady {
            note: Some(format!("`{}` draws what it does: it is left out", transform.kind)),
            instead: Vec::new(),
        },
        _ => Steady { instead: vec![transform], note: None },
    }
}

/// A crop of the middle, of the image padded as before.
fn middle(crop: &Component) -> Vec<Component> {
    let pad = crop.options.contains_key("padding");
    let pad = pad.then(|| like(crop, "pad", &["padding", "padding_mode", "fill", "mask_fill", "field"]));
    pad.into_iter().chain([like(crop, "center-crop", &["size", "field"])]).collect()
}

/// The image scaled until it covers the size, and its middle.
fn whole(crop: &Component) -> Vec<Component> {
    let sides = match crop.options.get("size") {
        Some(Value::Array(sides)) => sides.iter().filter_map(Value::as_integer).max(),
        side => side.and_then(Value::as_integer),
    };
    let resize = like(crop, "resize", &["interpolation", "field"]).with("size", sides.unwrap_or_default());
    vec![resize, like(crop, "center-crop", &["size", "field"])]
}

/// A transform of this kind with those of the other's options that are given.
fn like(other: &Component, kind: &str, keys: &[&str]) -> Component {
    let given = keys.iter().filter_map(|key| Some((*key, other.options.get(*key)?.clone())));
    given.fold(Component::new(kind), |component, (key, value)| component.with(key, value))
}

/// Whether two images may be changed in two ways.
fn draws(transform: &Component) -> bool {
    let option = |key| transform.options.get(key);
    let is_certain = |p: &Value| p.as_integer() == Some(1) || p.as_float() == Some(1.0);
    let is_one = |range: &Value| range.as_array().is_some_and(|ends| ends.windows(2).all(|pair| pair[0] == pair[1]));
    match transform.kind.as_str() {
        "horizontal-flip" | "vertical-flip" | "posterize" | "solarize" | "invert" | "autocontrast" | "equalize"
        | "sharpness" => !option("p").is_some_and(is_certain),
        "grayscale" => option("p").is_some_and(|p| !is_certain(p)),
        "rotation" => !option("degrees").is_some_and(is_one),
        "gaussian-blur" => !option("sigma").is_some_and(|sigma| !sigma.is_array() || is_one(sigma)),
        "affine" | "color-jitter" | "random-erasing" | "trivial-augment-wide" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use batchmill_datasets::random::Rng;
    use batchmill_datasets::sample::{Array, Image, Sample};

    use super::*;

    fn component(text: &str) -> Component {
        let mut options: toml::Table = text.parse().expect("a table");
        let Some(Value::String(kind)) = options.remove("kind") else { panic!("{text} has no kind") };
        Component { kind, options }
    }

    /// Every kind, the options without which it is none, and again where it leaves nothing to chance.
    const KINDS: [&str; 37] = [
        "kind = 'affine'\ndegrees = 20",
        "kind = 'autocontrast'",
        "kind = 'autocontrast'\np = 1",
        "kind = 'cast'\ndtype = 'f16'",
        "kind = 'center-crop'\nsize = 8",
        "kind = 'clip'\nmin = 0",
        "kind = 'color'\nmode = 'rgb'",
        "kind = 'color-jitter'\nhue = 0.2",
        "kind = 'equalize'\np = 0.9",
        "kind = 'five-crop'\nsize = 8",
        "kind = 'gaussian-blur'\nkernel_size = 3",
        "kind = 'gaussian-blur'\nkernel_size = 3\nsigma = 1.5",
        "kind = 'grayscale'",
        "kind = 'grayscale'\np = 0.5",
        "kind = 'horizontal-flip'",
        "kind = 'horizontal-flip'\np = 1.0",
        "kind = 'invert'",
        "kind = 'label-map'\nmap = [1, 0]",
        "kind = 'normalize'\nmean = 0.5\nstd = 0.5",
        "kind = 'one-hot'\nclasses = 3",
        "kind = 'pad'\npadding = 2",
        "kind = 'posterize'\nbits = 3",
        "kind = 'random-crop'\nsize = 8",
        "kind = 'random-crop'\nsize = 20\npadding = 4\nfill = 7",
        "kind = 'random-erasing'\np = 1",
        "kind = 'random-resized-crop'\nsize = 8",
        "kind = 'random-resized-crop'\nsize = [8, 6]\ninterpolation = 'bicubic'",
        "kind = 'resize'\nsize = 8",
        "kind = 'rotation'\ndegrees = 20",
        "kind = 'rotation'\ndegrees = [90, 90]",
        "kind = 'sharpness'\nsharpness_factor = 2",
        "kind = 'solarize'\nthreshold = 100",
        "kind = 'standardize'\nmean = 1\nstd = 1",
        "kind = 'to-f32'",
        "kind = 'to-nchw'",
        "kind = 'trivial-augment-wide'",
        "kind = 'vertical-flip'",
    ];

    #[test]
    fn two_images_that_are_equal_are_seen_alike() {
        let registry = builtin();
        let noise =
            (0..16 * 16 * 3).map(|place: usize| u8::try_from(place * 89 % 251).expect("it is below 256")).collect();
        let image = Image::new(16, 16, 3, noise).expect("the bytes of its shape");
        for text in KINDS {
            let seen: Vec<_> = (0..40)
                .map(|seed| {
                    let sample = Sample::new().with(IMAGE, image.clone()).with(LABEL, Array::scalar_i64(1));
                    let sample = sample.with("input", Array::from_f32(&[1.0]));
                    steady(component(text)).instead.iter().fold(sample, |sample, component| {
                        let transform = registry.make_transform(component, 0, "/".as_ref()).expect("it can be made");
                        transform.apply(sample, &mut Rng::new(seed, 0, 0, 0, 0)).expect("it can be applied")
                    })
                })
                .collect();
            assert!(seen.iter().all(|sample| *sample == seen[0]), "{text} is drawn");
        }
    }

    #[test]
    fn no_transform_is_forgotten() {
        // Whoever adds one that draws says here what stands for it.
        let all = format!("{:?}", builtin());
        let (_, all) = all.split_once("transforms: ").expect("they are listed last");
        let mut kinds: Vec<String> = KINDS.iter().map(|text| component(text).kind).collect();
        kinds.dedup();
        assert_eq!(all.trim_end_matches(" }"), format!("{kinds:?}"));
    }

    #[test]
    fn what_leaves_nothing_to_chance_is_done() {
        let kept = |text: &str| steady(component(text)) == Steady { instead: vec![component(text)], note: None };
        let all: Vec<_> = KINDS.into_iter().filter(|text| kept(text)).collect();
        for text in ["autocontrast'\np = 1", "flip'\np = 1.0", "sigma = 1.5", "[90, 90]", "'grayscale'", "'resize'"] {
            assert!(all.iter().any(|kept| kept.contains(text)), "{text} is not in {all:?}");
        }
        assert_eq!(all.len(), 18, "{all:#?}");
    }

    #[test]
    fn crops_are_of_the_middle() {
        let instead = |text: &str| {
            let listed: Vec<_> = steady(component(text)).instead.iter().map(ToString::to_string).collect();
            listed.join(", ")
        };
        assert_eq!(instead("kind = 'random-crop'\nsize = 8\npad_if_needed = true"), "center-crop {size = 8}");
        assert_eq!(
            instead("kind = 'random-crop'\nsize = 32\npadding = 4\npadding_mode = 'edge'"),
            "pad {padding = 4, padding_mode = \"edge\"}, center-crop {size = 32}"
        );
        assert_eq!(
            instead("kind = 'random-resized-crop'\nsize = [8, 6]\nscale = [0.5, 1]\ninterpolation = 'bicubic'"),
            "resize {interpolation = \"bicubic\", size = 8}, center-crop {size = [8, 6]}"
        );
    }
}
