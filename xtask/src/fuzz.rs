//! `cargo xtask fuzz`: libFuzzer on the targets of `fuzz/`, built by the compiler that builds everything else.
//!
//! Coverage comes from LLVM's own pass, by flags that every compiler takes: no nightly, and no sanitizer, since there is
//! nearly no `unsafe` to watch. What a run finds interesting stays in `target/fuzz/corpus`; `--keep` takes over into
//! `fuzz/corpus` what of it covers something new.

use crate::prereqs;
use crate::run::{cargo, stage, succeed};
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What every run of a minute is meant to be enough for in `cargo xtask test --long`.
pub(crate) const DEFAULT_SECONDS: u32 = 60;
/// An input that takes longer is a finding.
const TIMEOUT_SECONDS: u32 = 10;
/// A run that needs more memory is a finding.
const MEMORY_MIB: u32 = 2_048;
/// Of libFuzzer's log, what is shown of a finding.
const SHOWN_LINES: usize = 40;

/// As `cargo fuzz` has them for `--sanitizer none`.
const COVERAGE: &str = "-Cpasses=sancov-module \
                        -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                        -Cllvm-args=-sanitizer-coverage-pc-table \
                        -Cllvm-args=-sanitizer-coverage-trace-compares";

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Fuzz {
    /// Which target; all of them if none is named.
    target: Option<String>,
    /// How long each of them runs.
    #[arg(long, default_value_t = DEFAULT_SECONDS)]
    seconds: u32,
    /// Keep in fuzz/corpus what was found and covers something new there.
    #[arg(long)]
    keep: bool,
}

impl Fuzz {
    /// All targets.
    pub(crate) fn all(seconds: u32) -> Self {
        Self { target: None, seconds, keep: false }
    }
}

/// Runs the targets, one after the other; a finding in one does not keep the others from running.
pub(crate) fn run(root: &Path, fuzz: &Fuzz) -> Result<()> {
    prereqs::ensure(prereqs::BUILD)?;
    prereqs::ensure(prereqs::FUZZ)?;
    let all = targets(root)?;
    let chosen = match &fuzz.target {
        None => all,
        Some(name) if all.contains(name) => vec![name.clone()],
        Some(name) => bail!("there is no target {name}; there are {}", all.join(", ")),
    };
    let programs = stage("fuzzers", || build(root, &chosen))?;
    println!("{:<16} {:>12} {:>10} {:>9} {:>9}", "TARGET", "EXECUTIONS", "PER SECOND", "COVERAGE", "INPUTS");
    let runs = chosen.iter().map(|name| Run::new(root, &programs, name));
    let failed: Vec<String> =
        runs.filter_map(|run| run.play(fuzz).err().map(|error| format!("{error:#}"))).collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// Each has a folder in the corpus.
fn targets(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("fuzz/corpus");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Apart from every other build, since everything beneath is compiled with counters; answers where the programs are.
fn build(root: &Path, targets: &[String]) -> Result<PathBuf> {
    let host = host()?;
    let folder = root.join("target/fuzz");
    let mut build = cargo(root);
    build.args(["build", "--locked", "--package", "berth-fuzz", "--features", "libfuzzer"]);
    // With a target that is named the flags are not for what runs while building.
    build.args(["--profile", "fuzz", "--target", &host]).arg("--target-dir").arg(&folder);
    for name in targets {
        build.args(["--bin", &format!("fuzz_{name}")]);
    }
    succeed(build.env("RUSTFLAGS", COVERAGE), "build the fuzzers")?;
    Ok(folder.join(host).join("fuzz"))
}

/// The machine's own target, as the compiler calls it.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("run rustc")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

/// One target's run.
struct Run<'a> {
    name: &'a str,
    program: PathBuf,
    /// What was kept.
    corpus: PathBuf,
    /// What earlier runs here found interesting.
    own: PathBuf,
    findings: PathBuf,
    log: PathBuf,
}

impl<'a> Run<'a> {
    fn new(root: &Path, programs: &Path, name: &'a str) -> Self {
        let folder = root.join("target/fuzz");
        Self {
            name,
            program: programs.join(format!("fuzz_{name}")),
            corpus: root.join("fuzz/corpus").join(name),
            own: folder.join("corpus").join(name),
            findings: folder.join("findings").join(name),
            log: folder.join(format!("{name}.log")),
        }
    }

    fn play(&self, fuzz: &Fuzz) -> Result<()> {
        for folder in [&self.own, &self.findings] {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        let mut command = Command::new(&self.program);
        command.arg(format!("-max_total_time={}", fuzz.seconds)).arg(format!("-timeout={TIMEOUT_SECONDS}"));
        command.arg(format!("-rss_limit_mb={MEMORY_MIB}"));
        command.arg(format!("-artifact_prefix={}/", self.findings.display()));
        self.log_of(command.arg(&self.own).arg(&self.corpus))?;
        let log = self.read_log()?;
        let Some(figures) = Figures::parse(&log) else { bail!(self.finding(&log)) };
        println!(
            "{:<16} {:>12} {:>10} {:>9} {:>9}",
            self.name, figures.executions, figures.per_second, figures.coverage, figures.inputs
        );
        if fuzz.keep { self.keep() } else { Ok(()) }
    }

    /// Copies what covers something that the kept inputs do not.
    fn keep(&self) -> Result<()> {
        let mut merge = Command::new(&self.program);
        let ended = self.log_of(merge.arg("-merge=1").arg(&self.corpus).arg(&self.own))?;
        ensure!(ended, "{}: the corpus was not merged, see {}", self.name, self.log.display());
        Ok(())
    }

    /// Whether it ended well; libFuzzer says everything on stderr.
    fn log_of(&self, command: &mut Command) -> Result<bool> {
        let log = File::create(&self.log).with_context(|| format!("make {}", self.log.display()))?;
        let again = log.try_clone().with_context(|| format!("open {}", self.log.display()))?;
        let status = command.stdout(again).stderr(log).status();
        Ok(status.with_context(|| format!("run {}", self.program.display()))?.success())
    }

    fn read_log(&self) -> Result<String> {
        let bytes = fs::read(&self.log).with_context(|| format!("read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What there is to say of a run that did not come to its end.
    fn finding(&self, log: &str) -> String {
        let lines: Vec<&str> = log.lines().filter(|line| !line.starts_with('#')).collect();
        // A panic says the most in its first lines, anything else in the last.
        let panic = lines.iter().position(|line| line.contains("panicked at"));
        let begin = panic.unwrap_or(lines.len().saturating_sub(SHOWN_LINES));
        let shown = lines[begin..].iter().take(SHOWN_LINES).copied().collect::<Vec<_>>().join("\n");
        let input =
            log.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path);
        let again = input.map_or_else(String::new, |input| {
            format!("\ninput: {input}\nagain: {} {input}", self.program.display())
        });
        format!("{shown}\n{}: something was found, see {}{again}", self.name, self.log.display())
    }
}

/// What libFuzzer says at the end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Figures {
    executions: u64,
    per_second: u64,
    coverage: u64,
    inputs: String,
}

impl Figures {
    /// From its line `#876361 DONE cov: 123 ft: 456 corp: 7/890b lim: 4096 exec/s: 58424 rss: 42Mb`; none if there is no
    /// such line: then something was found.
    fn parse(log: &str) -> Option<Self> {
        let line = log.lines().rfind(|line| line.starts_with('#') && line.contains("DONE"))?;
        let after = |key: &str| line.split_once(key)?.1.split_whitespace().next();
        let number = |key: &str| after(key)?.parse().ok();
        Some(Self {
            executions: number("#")?,
            per_second: number("exec/s:")?,
            // A target without a single branch would have none.
            coverage: number("cov:")?,
            inputs: after("corp:")?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        let log = "INFO: x\n#2\tINITED cov: 5\n#876361\tDONE   cov: 123 ft: 456 corp: 7/890b lim: 4096 exec/s: 58424 rss: 42Mb\nDone\n";
        let figures = Figures::parse(log).unwrap();
        assert_eq!((figures.executions, figures.per_second, figures.coverage), (876_361, 58_424, 123));
        assert_eq!(figures.inputs, "7/890b");
        assert_eq!(
            Figures::parse("#2\tINITED cov: 5 exec/s: 0\n==1== ERROR: libFuzzer: deadly signal\n"),
            None
        );
    }

    #[test]
    fn a_finding_is_told_with_its_input() {
        let run = Run::new(Path::new("/r"), Path::new("/p"), "cni");
        let log = "INFO: y\nthread 'x' panicked at here: no\n#7 NEW cov: 1\nSUMMARY: x\nartifact_prefix='/f/'; Test unit written to /f/crash-1\n";
        let said = run.finding(log);
        assert!(said.starts_with("thread 'x' panicked at here: no\nSUMMARY"), "{said}");
        assert!(said.ends_with("input: /f/crash-1\nagain: /p/fuzz_cni /f/crash-1"), "{said}");
    }
}
