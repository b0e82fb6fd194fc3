//! Records: read from the pods' output while they write, and looked for on their disks afterwards.

use super::load::WRITERS;
use crate::raw_cri::Container;
use anyhow::{Context, Result};
use berth_lab::{Guest, wait_until};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

/// How many records, by pod's name.
pub(crate) type Counts = BTreeMap<String, u64>;

/// Records are read within this time after the pods run.
const FIRST_LIMIT: Duration = Duration::from_secs(120);

/// Reads what the pods say, outside the guest.
pub(crate) struct Reader {
    ssh: Child,
    said: PathBuf,
}

impl Reader {
    /// Begins to read, and waits until every pod has said something.
    pub(crate) fn start(guest: &Guest, said: PathBuf) -> Result<Self> {
        let output = File::create(&said).with_context(|| format!("make {}", said.display()))?;
        let mut ssh = guest.ssh();
        // Only the newest of each pod's logs grows; -v names the file before its lines.
        ssh.arg("exec tail -v -n 50 -F $(for p in writer-1 writer-2; do ls -td /var/log/berth/pods/drill_${p}_*/main/*.log | head -n 1; done)");
        let ssh = ssh.stdin(Stdio::null()).stdout(output).stderr(Stdio::null()).spawn().context("run ssh")?;
        let reader = Self { ssh, said };
        wait_until("records of every pod", FIRST_LIMIT, || {
            Ok((reader.counts()?.len() == WRITERS.len()).then_some(()))
        })?;
        Ok(reader)
    }

    fn counts(&self) -> Result<Counts> {
        Ok(parse(&std::fs::read_to_string(&self.said).context("read the pods' records")?))
    }

    /// The last record of each pod that was read before the power went.
    pub(crate) fn finish(mut self) -> Result<Counts> {
        // Its peer is gone; it may wait for it a while.
        self.ssh.kill().context("end the reader")?;
        self.ssh.wait().context("wait for the reader")?;
        self.counts()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It has ended, unless something failed before.
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
    }
}

/// Understands `==> …/drill_writer-1_<uid>/main/1.log <==` and `<time> stdout F record 7`; the last line may be cut.
fn parse(said: &str) -> Counts {
    let mut counts = Counts::new();
    let mut pod = None;
    let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
    for line in whole.lines() {
        if let Some(path) = line.strip_prefix("==> ") {
            pod = WRITERS.iter().find(|name| path.contains(&format!("/drill_{name}_")));
        } else if let (Some(pod), Some((_, number))) = (pod, line.rsplit_once(" F record ")) {
            let count = counts.entry((*pod).to_owned()).or_default();
            *count = number.parse().unwrap_or(0).max(*count);
        }
    }
    counts
}

/// What is on the pods' disks, and which addresses they have.
pub(crate) struct There {
    pub(crate) counts: Counts,
    /// By `namespace/name`.
    pub(crate) addresses: BTreeMap<String, String>,
}

/// Looks into every container that runs.
pub(crate) fn there(guest: &Guest, running: &[Container]) -> Result<There> {
    let mut script = String::new();
    for container in running {
        script.push_str(&format!(
            "nsenter -t {} -m -n -r -w /bin/sh -c 'echo {} $(ip -o -4 addr show dev eth0 | tr -s \" \" | cut -d\" \" -f4) \
             $(cat /records 2>/dev/null)'\n",
            container.pid, container.pod
        ));
    }
    let mut there = There { counts: Counts::new(), addresses: BTreeMap::new() };
    for line in guest.run_ok(&script)?.lines() {
        let mut words = line.split_whitespace();
        let (pod, address) = (words.next().context("a pod")?, words.next().context("an address")?);
        there.addresses.insert(pod.to_owned(), address.to_owned());
        let name = pod.rsplit('/').next().unwrap_or(pod);
        if WRITERS.contains(&name) {
            there.counts.insert(name.to_owned(), unbroken(words));
        }
    }
    Ok(there)
}

/// How many records there are, from 1 on without a gap.
fn unbroken<'a>(words: impl Iterator<Item = &'a str>) -> u64 {
    words.zip(1_u64..).take_while(|(word, number)| *word == number.to_string()).count() as u64
}

/// Records that were said to be on the disk and are not.
pub(crate) fn lost(acknowledged: &Counts, there: &Counts) -> Vec<String> {
    let lost = |(pod, said): (&String, &u64)| {
        let has = there.get(pod).copied().unwrap_or(0);
        (has < *said).then(|| format!("{pod} has {has} of {said} records that were flushed"))
    };
    acknowledged.iter().filter_map(lost).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_line_counts() {
        let said = "==> /var/log/berth/pods/drill_writer-1_a/main/1.log <==\nT stdout F record 8\nT stdout F record 9\n\
            \n==> /var/log/berth/pods/drill_writer-2_a/main/1.log <==\nT stdout F record 3\nT stdout F record 44";
        let expected = Counts::from([("writer-1".to_owned(), 9), ("writer-2".to_owned(), 3)]);
        assert_eq!(parse(said), expected);
    }

    #[test]
    fn a_gap_ends_the_count() {
        let check = |text: &str, expected| assert_eq!(unbroken(text.split_whitespace()), expected, "{text}");
        check("1 2 3", 3);
        check("1 2 4 5", 2);
        check("1 2 2 3", 2);
        check("", 0);
    }

    #[test]
    fn lost_records_are_named() {
        let counts = |count| Counts::from([("writer-1".to_owned(), count)]);
        assert_eq!(lost(&counts(5), &counts(5)), Vec::<String>::new());
        assert_eq!(lost(&counts(5), &counts(4)), ["writer-1 has 4 of 5 records that were flushed"]);
        assert_eq!(lost(&counts(5), &Counts::new()).len(), 1);
    }
}
