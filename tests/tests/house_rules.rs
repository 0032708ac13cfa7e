//! The rules of the house that a compiler cannot hold: captions, the map, and what must not be there.

use std::fs;
use std::path::{Path, PathBuf};

/// The repository's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is a folder of the repository")
}

/// All Rust files of a folder, with their paths from the root.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&entry).expect("a source file");
                found.push((entry.strip_prefix(root()).expect("below the root").to_path_buf(), text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has sources");
    found
}

fn all_sources() -> Vec<(PathBuf, String)> {
    ["protocol", "datasets", "loader", "trainer", "tests"].into_iter().flat_map(sources).collect()
}

/// The sentence that says what a room is for.
fn caption(text: &str) -> Option<String> {
    let lines: Vec<_> = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
    let paragraph: Vec<_> = lines.into_iter().take_while(|line| !line.is_empty()).collect();
    (!paragraph.is_empty()).then(|| paragraph.join(" "))
}

#[test]
fn every_file_says_what_it_is_for() {
    for (path, text) in all_sources() {
        assert!(
            caption(&text).is_some_and(|caption| caption.ends_with(['.', ':'])),
            "{} has no caption",
            path.display()
        );
    }
}

#[test]
fn no_file_is_longer_than_five_hundred_lines_before_its_tests() {
    for (path, text) in all_sources() {
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        assert!(lines <= 500 || path.ends_with("tests.rs"), "{} has {lines}", path.display());
    }
}

#[test]
fn the_readmes_map_says_what_the_files_say() {
    let readme = fs::read_to_string(root().join("README.md")).expect("a README");
    let rows: Vec<_> = readme.lines().filter_map(|line| line.strip_prefix("| `")).collect();
    let mut mapped = 0;
    for row in rows {
        let Some((path, said)) = row.trim_end_matches(" |").split_once("` | ") else { continue };
        if !path.ends_with(".rs") {
            continue;
        }
        mapped += 1;
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|_| panic!("{path} is on the map alone"));
        let caption = caption(&text).expect("every file has one");
        assert_eq!(caption, said, "README and {path} say different things");
    }
    let rooms = all_sources().into_iter().filter(|(path, _)| {
        // Rooms are the files directly below `src`; what is deeper belongs to one of them.
        let parts: Vec<_> = path.iter().collect();
        parts.len() == 3 && parts[1] == "src" && parts[0] != "tests"
    });
    assert_eq!(mapped, rooms.count(), "the map names every room once");
}

#[test]
fn unsafe_code_is_where_it_may_be() {
    let homes = ["protocol/src/slab/map.rs", "datasets/src/decode/jpeg.rs"];
    for (path, text) in all_sources() {
        let home = homes.iter().any(|home| path == Path::new(home));
        let word = ["un", "safe"].concat();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let kinds = ["{", "fn", "impl", "extern"].map(|kind| format!("{word} {kind}"));
        let uses = code.filter(|line| kinds.iter().any(|kind| line.contains(kind))).count();
        assert!(home || uses == 0, "{} has unsafe code", path.display());
    }
}

#[test]
fn heavy_dependencies_have_one_home() {
    let homes = [
        ("burn", &["trainer"][..]),
        ("tokio", &["loader"]),
        ("turbojpeg", &["datasets"]),
        ("fast_image_resize", &["datasets"]),
        ("memmap2", &["protocol"]),
        ("crossbeam", &["loader", "trainer"]),
    ];
    for (dependency, allowed) in homes {
        for (path, text) in all_sources() {
            let krate = path.iter().next().and_then(|part| part.to_str()).expect("a crate's folder");
            let used = text.contains(&format!("use {dependency}::")) || text.contains(&format!("{dependency}::"));
            let stand_in = path.starts_with("trainer/cubecl-llvm");
            assert!(
                !used || stand_in || allowed.contains(&krate) || krate == "tests",
                "{} uses {dependency}",
                path.display()
            );
        }
    }
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let arrows = [
        ("protocol", &[][..]),
        ("datasets", &["protocol"]),
        ("loader", &["protocol", "datasets"]),
        ("trainer", &["protocol", "datasets"]),
    ];
    for (krate, may) in arrows {
        for (path, text) in sources(krate) {
            for other in ["protocol", "datasets", "loader", "trainer"] {
                let used = text.contains(&format!("batchmill_{other}::"));
                assert!(!used || other == krate || may.contains(&other), "{} uses {other}", path.display());
            }
        }
    }
    for (path, text) in sources("datasets") {
        for room in ["message", "slab", "client", "frame", "fd", "status"] {
            let uses = text.contains(&format!("batchmill_protocol::{room}"));
            assert!(!uses, "{} knows of {room}: datasets know tensors and positions only", path.display());
        }
    }
}
