//! The kernel: its version and what it has of what we use.

use super::Check;
use rustix::io::Errno;
use rustix::mount::FsOpenFlags;

/// What FUSE got in which version, and what it is good for here.
const FEATURES: [((u32, u32), &str); 6] = [
    ((3, 15), "writes gathered in the kernel"),
    ((4, 18), "mounts in user namespaces"),
    ((5, 1), "opens that ask nothing"),
    ((5, 12), "writes that ask nothing of set-uid bits"),
    ((6, 9), "passthrough"),
    ((6, 14), "io_uring"),
];

pub fn checks() -> Vec<Check> {
    vec![version(), mount_api(), module()]
}

fn version() -> Check {
    let name = "kernel";
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let Some(v) = parse(&release) else {
        return Check::warn(
            name,
            format!("Linux {release}"),
            "a version that cannot be read; Linux 5.12 or newer is recommended",
        );
    };
    let missing: Vec<&str> = FEATURES
        .iter()
        .filter(|(since, _)| *since > v)
        .map(|(_, what)| *what)
        .collect();
    if v < (4, 18) {
        return Check::warn(
            name,
            format!("Linux {release}, without {}", missing.join(", ")),
            "use Linux 5.12 or newer; ordinary users need 4.18",
        );
    }
    if v < (5, 12) {
        return Check::warn(
            name,
            format!("Linux {release}, without {}", missing.join(", ")),
            "it works, slower; Linux 5.12 or newer is recommended",
        );
    }
    let without = if missing.is_empty() {
        String::new()
    } else {
        format!(", without {}", missing.join(", "))
    };
    Check::ok(name, format!("Linux {release}{without}"))
}

pub(super) fn parse(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// fsopen(2) and its like: really called.
fn mount_api() -> Check {
    let name = "mount calls";
    match rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(_) => Check::ok(
            name,
            "fsopen works: mounts appear only when they are usable",
        ),
        // Not allowed here, but there.
        Err(Errno::PERM) => Check::ok(name, "fsopen is there (for root and in user namespaces)"),
        Err(e) => Check::warn(
            name,
            format!("no fsopen ({e})"),
            "mount(2) is used instead; Linux 5.2 or newer has it, if no filter forbids it",
        ),
    }
}

/// The kernel's fuse: built in or loaded, now and after the next boot.
fn module() -> Check {
    let name = "fuse in the kernel";
    let listed = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if listed
        .lines()
        .any(|l| l.split_whitespace().next_back() == Some("fuse"))
    {
        return Check::ok(name, "there");
    }
    if std::path::Path::new("/dev/fuse").exists() {
        return Check::ok(name, "loaded when /dev/fuse is opened");
    }
    Check::fail(
        name,
        "not there",
        "as root: 'modprobe fuse', and 'echo fuse > /etc/modules-load.d/fuse.conf' for the next boot; in a container: do that on its host",
    )
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
