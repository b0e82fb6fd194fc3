//! Every input that was ever kept, through its target, without a fuzzer.

use berth_fuzz::{TARGETS, seeds};
use std::fs;
use std::path::{Path, PathBuf};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

#[test]
fn the_corpus_holds() {
    for (name, target) in TARGETS {
        let folder = corpus(name);
        let mut inputs = 0;
        for file in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = file.unwrap().path();
            // What panics is the file that was named last.
            println!("{}", path.display());
            target(&fs::read(&path).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "{name} has no corpus");
    }
}

#[test]
fn seeds_are_as_they_were_written() {
    for seed in seeds::all() {
        let path = corpus(seed.target).join(&seed.name);
        let written = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(written, seed.data, "{}: was the wire changed? see bin/seeds.rs", path.display());
    }
}

#[test]
fn every_corpus_has_a_target() {
    let known: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    for folder in fs::read_dir(corpus("")).unwrap() {
        let name = folder.unwrap().file_name().into_string().unwrap();
        assert!(known.contains(&name), "{name} is the corpus of no target");
    }
}
