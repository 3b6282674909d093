//! How much memory this process takes, where the system says so.

/// Which number of the system is meant.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "each test binary uses a part of this")]
pub(crate) enum Resident {
    /// Now.
    Now,
    /// At most, since the start.
    Peak,
}

/// The memory of this process, in bytes.
pub(crate) fn resident_bytes(which: Resident) -> Option<u64> {
    let field = match which {
        Resident::Now => "VmRSS:",
        Resident::Peak => "VmHWM:",
    };
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    let kibibytes = line.split_whitespace().nth(1)?;
    Some(kibibytes.parse::<u64>().ok()? * 1024)
}
