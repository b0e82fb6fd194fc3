//! What is wrong with the host, and mending it. The daemon says what would mend a finding; which programs those are stands
//! here, so that nobody who answers on a socket can have root run others.

use crate::failure::{Failure, Result};
use berth_proto::v1;
use std::io;
use std::process::{Command, Stdio};
use v1::Finding;
use v1::finding::{Level, Mend};

/// A program and its arguments.
type Program = &'static [&'static str];

/// What mends it, one after the other; none where only a person can.
fn programs(mend: Mend) -> &'static [Program] {
    match mend {
        Mend::Unspecified => &[],
        Mend::RestartAgent => &[&["/usr/bin/systemctl", "restart", "berthd.service"]],
        Mend::RestartRuntime => &[&["/usr/bin/systemctl", "restart", "containerd.service"]],
        Mend::ConfigureRuntime => &[
            &["/usr/lib/berth/containerd-config", "amend"],
            &["/usr/bin/systemctl", "restart", "containerd.service"],
        ],
        Mend::SynchronizeClock => &[&["/usr/bin/timedatectl", "set-ntp", "true"]],
        Mend::InstallNetworkList => &[&[
            "/usr/bin/install",
            "-D",
            "-m",
            "644",
            "/usr/share/berth/10-berth.conflist",
            "/etc/cni/net.d/10-berth.conflist",
        ]],
    }
}

/// What `--fix` names everything by that can be mended.
pub(super) const ALL: &str = "all";

/// The findings that are to be mended: those of these checks, or all that can be.
///
/// # Errors
/// When there is no such check, or only a person can mend it.
pub(super) fn chosen<'a>(findings: &'a [Finding], checks: &[String]) -> Result<Vec<&'a Finding>> {
    let wrong = |finding: &&Finding| finding.level() != Level::Ok;
    let mut chosen: Vec<&Finding> = Vec::new();
    for check in checks {
        let named = findings.iter().filter(|finding| check == ALL || finding.check == *check);
        if check != ALL && named.clone().next().is_none() {
            let known: Vec<_> = findings.iter().map(|finding| finding.check.as_str()).collect();
            return Err(Failure::usage(format!("there is no check {check:?}: {}", known.join(", "))));
        }
        for finding in named.filter(wrong) {
            match programs(finding.mend()).is_empty() {
                true if check == ALL => {}
                true => {
                    let what = format!("{check} cannot be mended by a program: {}", finding.found);
                    return Err(Failure::refused("Unmendable", what).remedy(&finding.remedy));
                }
                false => chosen.push(finding),
            }
        }
    }
    // The runtime before the agent: what the agent does when it starts needs the runtime.
    chosen.sort_by_key(|finding| finding.mend() == Mend::RestartAgent);
    Ok(chosen)
}

/// Runs what mends these, each once, and says so; what the programs print goes to standard error.
///
/// # Errors
/// When one of the programs fails: those after it are not run.
pub(super) fn mend(chosen: &[&Finding]) -> Result<()> {
    let mut mended = Vec::new();
    for finding in chosen {
        if mended.contains(&finding.mend()) {
            continue;
        }
        mended.push(finding.mend());
        for program in programs(finding.mend()) {
            eprintln!("berthctl: {}: {}", finding.check, program.join(" "));
            run(program).map_err(|why| {
                let what = format!("mend {}: {}: {why}", finding.check, program.join(" "));
                Failure::refused("NotMended", what).remedy("it takes root; what it printed stands above")
            })?;
        }
    }
    Ok(())
}

fn run(program: Program) -> std::result::Result<(), String> {
    let [name, arguments @ ..] = program else { return Ok(()) };
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::from(io::stderr()));
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("it ended with {status}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Those of `checks` of which not all is well, or that could not be made.
pub(super) fn unmended<'a>(findings: &[Finding], checks: &'a [String]) -> Vec<&'a str> {
    let is_well = |check: &String| {
        let mut of_it = findings.iter().filter(|finding| finding.check == *check).peekable();
        of_it.peek().is_some() && of_it.all(|finding| finding.level() == Level::Ok)
    };
    checks.iter().filter(|check| !is_well(check)).map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(check: &str, level: Level, mend: Mend) -> Finding {
        let (check, level, mend) = (check.to_owned(), level.into(), mend.into());
        Finding { check, level, mend, ..Finding::default() }
    }

    /// What is chosen when these checks are asked for, or the code of the refusal.
    fn check(asked: &[&str], expected: &[&str]) {
        let findings = [
            finding("clock", Level::Ok, Mend::Unspecified),
            finding("containerd", Level::Error, Mend::RestartRuntime),
            finding("pause image", Level::Warning, Mend::RestartAgent),
            finding("AppArmor", Level::Warning, Mend::Unspecified),
        ];
        let asked: Vec<_> = asked.iter().map(|check| (*check).to_owned()).collect();
        let said: Vec<_> = match chosen(&findings, &asked) {
            Ok(chosen) => chosen.iter().map(|finding| finding.check.clone()).collect(),
            Err(failure) => vec![failure.code],
        };
        assert_eq!(said, expected, "{asked:?}");
    }

    #[test]
    fn what_is_asked_for_and_can_be_mended_is_chosen() {
        check(&[], &[]);
        check(&["all"], &["containerd", "pause image"]);
        check(&["pause image"], &["pause image"]);
        check(&["clock"], &[]);
        check(&["clock", "containerd"], &["containerd"]);
        check(&["AppArmor"], &["Unmendable"]);
        check(&["clocks"], &["Usage"]);
    }

    #[test]
    fn what_is_still_wrong_is_named() {
        let findings = [
            finding("clock", Level::Ok, Mend::Unspecified),
            finding("containerd", Level::Error, Mend::Unspecified),
        ];
        let checks = ["clock", "containerd", "pause image"].map(str::to_owned);
        assert_eq!(unmended(&findings, &checks), ["containerd", "pause image"]);
        assert!(unmended(&findings, &checks[..1]).is_empty());
    }

    #[test]
    fn a_program_that_fails_says_how() {
        assert_eq!(run(&["/bin/true"]), Ok(()));
        assert_eq!(run(&["/bin/false"]), Err("it ended with exit status: 1".to_owned()));
        assert!(run(&["/does/not/exist"]).unwrap_err().starts_with("No such file"));
    }
}
