//! A cgroup in memory that takes and prints values as the kernel's own parsers do. It knows nothing of the crate's
//! formatting: each rule here is read from the kernel's source, named beside it.

use crate::ControlFiles;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

const EINVAL: i32 = 22;
const ERANGE: i32 = 34;
const ENODEV: i32 = 19;

/// One cgroup.
#[derive(Debug)]
pub(crate) struct FakeKernel {
    page_size: u64,
    disks: Vec<String>,
    values: RefCell<BTreeMap<String, String>>,
    lines: RefCell<BTreeMap<(String, String), String>>,
}

impl FakeKernel {
    pub(crate) fn new(page_size: u64, disks: &[&str]) -> Self {
        Self {
            page_size,
            disks: disks.iter().map(|disk| (*disk).to_owned()).collect(),
            values: RefCell::default(),
            lines: RefCell::default(),
        }
    }

    fn initial(file: &str) -> Option<&'static str> {
        Some(match file {
            "cpu.weight" => "100",
            "cpu.max" => "max 100000",
            "cpuset.cpus" | "cpuset.mems" => "",
            "memory.min" | "memory.low" => "0",
            "memory.high" | "memory.max" | "memory.swap.max" | "pids.max" => "max",
            _ if file.starts_with("hugetlb.") => "max",
            _ => return None,
        })
    }

    fn store(&self, file: &str, text: &str) -> io::Result<String> {
        match file {
            "cpu.weight" => ranged(text, 1, 10_000),
            "cpu.max" => cpu_max(text),
            "cpuset.cpus" | "cpuset.mems" => cpu_list(text),
            "pids.max" if text == "max" => Ok("max".to_owned()),
            // pids_max_write(): PIDS_MAX is PID_MAX_LIMIT + 1.
            "pids.max" => match number(text)? {
                limit if limit <= 4_194_304 => Ok(limit.to_string()),
                _ => Err(refused(EINVAL)),
            },
            _ if file.starts_with("memory.") || file.starts_with("hugetlb.") => self.page_counter(text),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// page_counter_memparse() and seq_puts_memcg_tunable().
    fn page_counter(&self, text: &str) -> io::Result<String> {
        if text == "max" {
            return Ok("max".to_owned());
        }
        let most = i64::MAX.unsigned_abs() / self.page_size;
        let pages = (number(text)? / self.page_size).min(most);
        Ok(if pages == most { "max".to_owned() } else { (pages * self.page_size).to_string() })
    }

    fn store_line(&self, file: &str, text: &str) -> io::Result<()> {
        let (device, rest) = text.split_once(' ').ok_or_else(|| refused(EINVAL))?;
        if !self.disks.iter().any(|disk| disk == device) {
            // blkg_conf_open_bdev() takes whole disks that exist.
            return Err(refused(ENODEV));
        }
        let key = (file.to_owned(), device.to_owned());
        let printed = match file {
            "io.max" => self.io_max(&key, rest)?,
            // ioc_weight_write(): "default" takes the device's own weight away.
            _ if rest == "default" => None,
            "io.weight" => Some(ranged(rest, 1, 10_000)?),
            "io.bfq.weight" => Some(ranged(rest, 1, 1_000)?),
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        let mut lines = self.lines.borrow_mut();
        match printed {
            Some(line) => lines.insert(key, line),
            None => lines.remove(&key),
        };
        Ok(())
    }

    /// tg_set_limit() and tg_prfill_limit(): keys that are not named stay, operations are cut to 32 bits, and a
    /// device without any limit has no line.
    fn io_max(&self, key: &(String, String), rest: &str) -> io::Result<Option<String>> {
        let mut limits: BTreeMap<&str, u64> =
            ["rbps", "wbps", "riops", "wiops"].map(|key| (key, u64::MAX)).into();
        let before = self.lines.borrow().get(key).cloned().unwrap_or_default();
        for word in before.split(' ').chain(rest.split(' ')).filter(|word| !word.is_empty()) {
            let (name, value) = word.split_once('=').ok_or_else(|| refused(EINVAL))?;
            let value = if value == "max" { u64::MAX } else { number(value)? };
            let limit = limits.get_mut(name).ok_or_else(|| refused(EINVAL))?;
            *limit = match (name, value) {
                (_, 0) => return Err(refused(ERANGE)),
                ("riops" | "wiops", value) if value >= u64::from(u32::MAX) => u64::MAX,
                (_, value) => value,
            };
        }
        let show = |name: &str| match limits[name] {
            u64::MAX => format!("{name}=max"),
            limit => format!("{name}={limit}"),
        };
        let line = ["rbps", "wbps", "riops", "wiops"].map(show).join(" ");
        Ok(limits.values().any(|limit| *limit != u64::MAX).then_some(line))
    }
}

/// tg_set_cfs_bandwidth(): at least 1 ms each, the period at most 1 s.
fn cpu_max(text: &str) -> io::Result<String> {
    let (quota, period) = text.split_once(' ').unwrap_or((text, "100000"));
    let period = number(period)?;
    if !(1_000..=1_000_000).contains(&period) {
        return Err(refused(EINVAL));
    }
    match quota {
        "max" => Ok(format!("max {period}")),
        quota if number(quota)? >= 1_000 => Ok(format!("{quota} {period}")),
        _ => Err(refused(EINVAL)),
    }
}

/// bitmap_parselist() and "%*pbl".
fn cpu_list(text: &str) -> io::Result<String> {
    let set: berth_model::CpuSet = text.parse().map_err(|_| refused(EINVAL))?;
    Ok(set.to_string())
}

fn ranged(text: &str, least: u64, most: u64) -> io::Result<String> {
    match number(text)? {
        value if (least..=most).contains(&value) => Ok(value.to_string()),
        _ => Err(refused(ERANGE)),
    }
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(|_| refused(EINVAL))
}

fn refused(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

impl ControlFiles for FakeKernel {
    fn name(&self) -> &str {
        "fake.slice"
    }

    fn read(&self, file: &str) -> io::Result<String> {
        if file.starts_with("io.") {
            let lines = self.lines.borrow();
            let of_file = lines.iter().filter(|((name, _), _)| name == file);
            let default = if file == "io.max" { "" } else { "default 100\n" };
            return Ok(of_file
                .fold(default.to_owned(), |text, ((_, device), line)| format!("{text}{device} {line}\n")));
        }
        let value = self.values.borrow().get(file).cloned();
        value
            .or_else(|| Self::initial(file).map(str::to_owned))
            .map(|value| format!("{value}\n"))
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write(&self, file: &str, line: &str) -> io::Result<()> {
        if file.starts_with("io.") {
            return self.store_line(file, line);
        }
        let value = self.store(file, line)?;
        self.values.borrow_mut().insert(file.to_owned(), value);
        Ok(())
    }
}
