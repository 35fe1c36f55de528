//! Memory, limits and other programs.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use crate::latency::human_bytes;

/// How long `nvidia-smi` may take: it hangs behind a stuck driver.
const ASK_TIME_MAX: Duration = Duration::from_secs(10);

/// Main memory.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Memory {
    total_bytes: Option<u64>,
    available_bytes: Option<u64>,
}

impl Memory {
    pub(super) fn read() -> Self {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self { total_bytes: kib_line(&text, "MemTotal:"), available_bytes: kib_line(&text, "MemAvailable:") }
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {} available", bytes_text(self.total_bytes), bytes_text(self.available_bytes))
    }
}

fn kib_line(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

fn bytes_text(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "unknown".to_owned(), human_bytes)
}

/// Limits of this process.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Limits {
    /// Memory that may be locked; none when there is no limit.
    pub(super) memlock_bytes: Option<u64>,
    /// Size of `/dev/shm`; none where there is no such thing.
    pub(super) shm_bytes: Option<u64>,
    /// What is free of it.
    pub(super) shm_free_bytes: Option<u64>,
}

impl Limits {
    pub(super) fn read() -> Self {
        let shm = rustix::fs::statvfs("/dev/shm").ok();
        Self {
            memlock_bytes: getrlimit(Resource::Memlock).current,
            shm_bytes: shm.as_ref().map(|shm| shm.f_blocks * shm.f_frsize),
            shm_free_bytes: shm.as_ref().map(|shm| shm.f_bavail * shm.f_frsize),
        }
    }
}

impl std::fmt::Display for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let memlock = self.memlock_bytes.map_or_else(|| "unlimited".to_owned(), human_bytes);
        write!(
            f,
            "locked memory {memlock}; /dev/shm {}, {} free",
            bytes_text(self.shm_bytes),
            bytes_text(self.shm_free_bytes)
        )
    }
}

/// A program on a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct GpuProcess {
    gpu_uuid: String,
    process: u32,
    name: String,
    used_mib: Option<u64>,
}

/// The programs on the GPUs of this machine.
#[derive(Clone, Debug, Serialize)]
pub(super) struct GpuProcesses {
    /// None when they could not be asked for.
    list: Option<Vec<GpuProcess>>,
    /// Why not.
    unknown_because: Option<String>,
}

impl GpuProcesses {
    /// A machine without a GPU.
    pub(super) fn none() -> Self {
        Self { list: Some(Vec::new()), unknown_because: None }
    }

    /// Asks the driver's own tool, this process left out.
    pub(super) fn ask() -> Self {
        let arguments =
            ["--query-compute-apps=gpu_uuid,pid,process_name,used_gpu_memory", "--format=csv,noheader,nounits"];
        match output_of("nvidia-smi", &arguments) {
            Ok(text) => {
                let own = std::process::id();
                let list = text.lines().filter_map(parse_process).filter(|found| found.process != own).collect();
                Self { list: Some(list), unknown_because: None }
            }
            Err(why) => Self { list: None, unknown_because: Some(why) },
        }
    }
}

impl std::fmt::Display for GpuProcesses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.list {
            None => write!(f, "unknown ({})", self.unknown_because.as_deref().unwrap_or("not asked")),
            Some(list) if list.is_empty() => f.write_str("none but this one"),
            Some(list) => {
                let names: Vec<String> =
                    list.iter().map(|found| format!("{} ({})", found.name, found.process)).collect();
                f.write_str(&names.join(", "))
            }
        }
    }
}

fn parse_process(line: &str) -> Option<GpuProcess> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [gpu_uuid, process, name, used] = fields[..] else { return None };
    Some(GpuProcess {
        gpu_uuid: gpu_uuid.to_owned(),
        process: process.parse().ok()?,
        name: name.to_owned(),
        used_mib: used.parse().ok(),
    })
}

/// What a program prints, if it ends well and in time.
pub(super) fn output_of(program: &str, arguments: &[&str]) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    let begin = Instant::now();
    // The output of every program asked here fits into a pipe's buffer, so it may be read after the end.
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if begin.elapsed() < ASK_TIME_MAX => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{program} did not answer within {} s", ASK_TIME_MAX.as_secs()));
            }
            Err(error) => return Err(format!("{program}: {error}")),
        }
    }
    let output = child.wait_with_output().map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program} ended with {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a Multi-Process Service is set up for this user.
pub(super) fn has_mps() -> bool {
    let directory = std::env::var_os("CUDA_MPS_PIPE_DIRECTORY").unwrap_or_else(|| "/tmp/nvidia-mps".into());
    std::path::Path::new(&directory).join("control").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_system_are_understood() {
        let text = "MemTotal:       16384 kB\nMemAvailable:    8192 kB\n";
        assert_eq!((kib_line(text, "MemTotal:"), kib_line(text, "MemAvailable:")), (Some(16 << 20), Some(8 << 20)));
        assert_eq!(kib_line(text, "SwapTotal:"), None);
    }

    #[test]
    fn processes_are_understood() {
        let expected =
            GpuProcess { gpu_uuid: "GPU-1".into(), process: 42, name: "python3".into(), used_mib: Some(310) };
        assert_eq!(parse_process("GPU-1, 42, python3, 310"), Some(expected));
        assert_eq!(parse_process("GPU-1, 42, python3, [N/A]").unwrap().used_mib, None);
        assert_eq!(parse_process("No devices were found"), None);
    }

    #[test]
    fn programs_that_fail_are_reported() {
        assert!(output_of("tourbillon-no-such-program", &[]).is_err());
        assert!(output_of("false", &[]).is_err());
        assert_eq!(output_of("echo", &["well"]).as_deref(), Ok("well\n"));
    }

    #[test]
    fn this_machine_has_memory() {
        if cfg!(target_os = "linux") {
            assert!(Memory::read().total_bytes.is_some_and(|bytes| bytes > 1 << 20));
        }
    }
}
