//! QEMU's command line.

use crate::disks::{DISKS, GuestFiles};
use crate::image::Image;
use crate::machine::{Machine, Writes};
use crate::network;
use std::path::Path;
use std::process::Command;

/// The emulator.
pub(crate) const PROGRAM: &str = "qemu-system-x86_64";
/// Everything that the emulator can, but
///
/// - `cmpxchg16b`: QEMU 7.2 emulates it in a way that once in a while leaves a piece of a pointer in the flags. Guest
///   kernels, whose allocator uses it, die of that by double faults in `__kmalloc`;
/// - what programs take for a short cut and the emulator goes by step by step: AVX (SHA-256 takes twice as long by it as
///   without), `rep movsb` for whole pages (ERMS), and another view of memory for each time that the kernel looks at a
///   process's (SMAP). Without them an image is pulled in three quarters of the time, and a container is started in five
///   sixths. Likewise a fifth level of page tables (LA57), registers that are saved at each switch and that nobody uses
///   (MPX, protection keys), and AES instructions, which Go hashes with: without them a pull takes nine tenths.
const EMULATED_CPU: &str = "max,cx16=off,avx=off,avx2=off,fma=off,f16c=off,erms=off,smap=off,la57=off,mpx=off,pku=off,\
     aes=off,vaes=off";
/// Memory of a guest, MiB, in equal parts on its memory nodes.
const MEMORY_MIB: usize = 2_048;
/// A sector of the log of writes, bytes; the guest's own disks have the same.
const LOG_SECTOR_BYTES: u32 = 512;

/// How the guest's processors are run, and what they are. The mere existence of `/dev/kvm` proves nothing, so it is used when
/// asked for.
fn accelerator() -> [&'static str; 4] {
    match std::env::var("BERTH_LAB_KVM").as_deref() {
        Ok("1") => ["-accel", "kvm", "-cpu", "max"],
        Ok(_) | Err(_) => ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", EMULATED_CPU],
    }
}

/// The command that runs a guest; with `state` it continues from there, stopped until told.
pub(crate) fn command(image: &Image, files: &GuestFiles, machine: &Machine, state: Option<&Path>) -> Command {
    let number = files.number;
    let mut qemu = Command::new(PROGRAM);
    qemu.args(["-nodefaults", "-display", "none"]).args(accelerator());
    processors(&mut qemu, machine);
    qemu.args(["-device", "virtio-rng-pci"]);
    for (index, disk) in DISKS.into_iter().enumerate() {
        qemu.arg("-drive").arg(format!("if=none,id=d{index},{}", drive(files, disk, machine.writes)));
        qemu.arg("-device").arg(format!("virtio-blk-pci,drive=d{index},serial={disk}"));
    }
    let [management, pods] = network::taps(number);
    for (index, (tap, mac)) in [(management, "52"), (pods, "53")].iter().enumerate() {
        qemu.arg("-netdev").arg(format!("tap,id=n{index},ifname={tap},script=no,downscript=no"));
        let address = format!("02:00:00:00:{mac}:{number:02x}");
        qemu.arg("-device").arg(format!("virtio-net-pci,netdev=n{index},romfile=,mac={address}"));
    }
    qemu.arg("-serial").arg(format!("file:{}", files.console().display()));
    qemu.arg("-qmp").arg(format!("unix:{},server=on,wait=off", files.monitor().display()));
    let [kernel, initrd] = image.boot_files(machine.kernel);
    qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
    qemu.arg("-append").arg(kernel_arguments(number));
    if let Some(state) = state {
        qemu.arg("-S").arg("-incoming").arg(format!("exec:cat {}", state.display()));
    }
    qemu
}

fn processors(qemu: &mut Command, machine: &Machine) {
    let nodes = machine.topology.nodes();
    qemu.args(["-smp", machine.topology.processors(), "-m", &MEMORY_MIB.to_string()]);
    for (node, cpus) in nodes.iter().enumerate() {
        let size_mib = MEMORY_MIB / nodes.len();
        qemu.arg("-object").arg(format!("memory-backend-ram,id=m{node},size={size_mib}M"));
        qemu.arg("-numa").arg(format!("node,nodeid={node},cpus={cpus},memdev=m{node}"));
    }
}

/// The block devices behind a disk. A log is worth something only if the guest's flushes get there: `no-flush` is off
/// above it, and on below, where nothing has to last.
fn drive(files: &GuestFiles, disk: &str, writes: Writes) -> String {
    match writes {
        Writes::Kept => {
            let (path, format) = files.current(disk);
            format!("format={format},cache=unsafe,file={}", path.display())
        }
        Writes::Logged => format!(
            "driver=blklogwrites,cache.no-flush=off,log-sector-size={LOG_SECTOR_BYTES},\
             log.driver=file,log.cache.no-flush=on,log.filename={},\
             file.driver=qcow2,file.cache.no-flush=on,file.file.driver=file,file.file.filename={}",
            files.log(disk).display(),
            files.live_disk(disk).display()
        ),
    }
}

/// `panic=1`: under software emulation a kernel that patches its own code while all CPUs start dies of it once in a
/// while (an `int3` that one of them still sees). It then boots again by itself, instead of standing still.
/// `numa_balancing=disable`: two CPUs that are stopped together to swap tasks between memory nodes have waited for each
/// other for ever on a busy machine. Memory nodes are assigned here, and not found by the kernel.
/// `tsc=reliable`: the emulator's CPUs share one time stamp counter, which the kernel takes for unsynchronized in a machine
/// of two sockets. It would read an emulated HPET instead, which costs every program that asks for the time a system call
/// and an exit to the emulator.
fn kernel_arguments(number: u8) -> String {
    format!(
        "root=/dev/vda rw rootflags=prjquota console=ttyS0 net.ifnames=0 mitigations=off panic=1 numa_balancing=disable \
         tsc=reliable quiet \
         lab.node={number} systemd.hostname=node-{number} systemd.machine_id={number:032x} \
         systemd.show_status=false"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Kernel;
    use crate::machine::Topology;
    use std::path::PathBuf;

    /// The values of an option on the command line.
    fn values(machine: Machine, option: &str) -> Vec<String> {
        let image = Image { directory: PathBuf::from("/image") };
        let files = GuestFiles::of(Path::new("/lab"), 2);
        let command = command(&image, &files, &machine, None);
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        words.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1].clone()).collect()
    }

    #[test]
    fn topologies() {
        let check = |topology, smp: &str, nodes: &[&str]| {
            let machine = Machine { topology, ..Machine::default() };
            assert_eq!(values(machine, "-smp"), [smp]);
            assert_eq!(values(machine, "-numa"), nodes);
        };
        let whole = ["node,nodeid=0,cpus=0-1,memdev=m0", "node,nodeid=1,cpus=2-3,memdev=m1"];
        check(Topology::Whole, "4,sockets=2,cores=2", &whole);
        let without = ["node,nodeid=0,cpus=0-1,memdev=m0", "node,nodeid=1,cpus=2,memdev=m1"];
        check(Topology::WithoutCpu3, "3,sockets=3,cores=1", &without);
        check(Topology::WithoutNode1, "2,sockets=1,cores=2", &whole[..1]);
    }

    #[test]
    fn kernels() {
        assert_eq!(values(Machine::default(), "-kernel"), ["/image/vmlinuz-newest"]);
        let machine = Machine { kernel: Kernel::Oldest, ..Machine::default() };
        assert_eq!(values(machine, "-kernel"), ["/image/vmlinuz-oldest"]);
        assert_eq!(values(machine, "-initrd"), ["/image/initrd.img-oldest"]);
    }

    #[test]
    fn disks() {
        assert_eq!(
            values(Machine::default(), "-drive")[1],
            "if=none,id=d1,format=qcow2,cache=unsafe,file=/lab/node-2/data.qcow2"
        );
        let logged = Machine { writes: Writes::Logged, ..Machine::default() };
        assert_eq!(
            values(logged, "-drive")[0],
            "if=none,id=d0,driver=blklogwrites,cache.no-flush=off,log-sector-size=512,log.driver=file,\
             log.cache.no-flush=on,log.filename=/lab/node-2/root.log,file.driver=qcow2,file.cache.no-flush=on,\
             file.file.driver=file,file.file.filename=/lab/node-2/root.live.qcow2"
        );
    }
}
