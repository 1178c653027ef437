//! What the machine says of itself.

use std::fs;
use std::path::Path;

/// The CPU's name.
pub fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |key: &str| {
        let line = info.lines().find(|line| line.split(':').next().map(str::trim) == Some(key));
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
    };
    if let Some(name) = value("model name").or_else(|| value("Model")) {
        return name;
    }
    #[cfg(target_os = "macos")]
    if let Ok(output) =
        std::process::Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"]).output()
        && let Ok(name) = String::from_utf8(output.stdout)
        && output.status.success()
    {
        return name.trim().to_owned();
    }
    match (value("CPU implementer"), value("CPU part")) {
        (Some(maker), Some(part)) => {
            format!("{} {maker} {part}", std::env::consts::ARCH)
        }
        _ => std::env::consts::ARCH.into(),
    }
}

/// What the makers of x86 CPUs number them by; virtual machines often have no better name for them.
pub fn cpu_id() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let value = |key: &str| {
        let line = info.lines().find(|line| line.split(':').next().map(str::trim) == Some(key));
        Some(line?.split_once(':')?.1.trim().to_owned())
    };
    let (family, model) = (value("cpu family")?, value("model")?);
    Some(format!("family {family}, model {model}, stepping {}", value("stepping")?))
}

/// How many threads wanted to run during the last minute, on average, where the system says so.
pub fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// Sizes of caches in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Caches {
    /// A core's second level.
    pub l2: usize,
    /// The last level.
    pub last: usize,
}

impl Caches {
    /// What the system says, else 512 KiB and 64 MiB.
    pub fn of_this_machine() -> Self {
        let mut caches: Vec<(u32, usize)> = Vec::new();
        let folder = Path::new("/sys/devices/system/cpu/cpu0/cache");
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let read = |file| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
            if read("type").trim() != "Instruction"
                && let (Ok(level), Some(size)) = (read("level").trim().parse(), size(&read("size")))
            {
                caches.push((level, size));
            }
        }
        let level = |l: u32| caches.iter().find(|c| c.0 == l).map(|c| c.1);
        let last = caches.iter().max().map(|c| c.1).filter(|size| *size > 1 << 20);
        Self { l2: level(2).unwrap_or(512 << 10), last: last.unwrap_or(64 << 20) }
    }

    /// Bytes that are cold whenever one comes round to them again.
    pub fn cold(self) -> usize {
        4 * self.last + 1
    }
}

/// Reads `512K` and `32M`.
fn size(text: &str) -> Option<usize> {
    let text = text.trim();
    let (digits, unit) = match text.strip_suffix(['K', 'M']) {
        Some(digits) if text.ends_with('K') => (digits, 1 << 10),
        Some(digits) => (digits, 1 << 20),
        None => (text, 1),
    };
    Some(digits.parse::<usize>().ok()? * unit)
}

/// Bytes of memory that programs can still have, where the system says so.
pub fn free_memory() -> Option<usize> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()? << 10)
}

/// Bytes of this process that are in memory, those of mapped files too, where the system says so.
pub fn resident() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()? << 10)
}

/// Threads that can run at a time, of those that may be made.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(lutmul::MAX_THREADS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("512K\n"), Some(512 << 10));
        assert_eq!(size("32M"), Some(32 << 20));
        assert_eq!(size("100"), Some(100));
        assert_eq!(size("x"), None);
        let caches = Caches::of_this_machine();
        assert!(caches.l2 > 0 && caches.cold() > caches.last);
        assert!(!cpu().is_empty());
    }
}
