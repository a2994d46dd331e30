//! Real-time for a thread that must not be late: locked memory, fixed priority, no out-of-memory kill.
//!
//! Nothing here fails: what the system refuses comes back as a warning, because a guard that is
//! late now and then is better than none.

use rustix::mm::{MlockAllFlags, mlockall};

/// What to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RealTime {
    /// `SCHED_FIFO` priority of the calling thread, 1 to 99; `None` leaves the thread as it is.
    pub priority: Option<u8>,
    /// Lock all memory of the process, present and future.
    pub lock_memory: bool,
    /// Lock pages only once they are touched (`MCL_ONFAULT`), which saves untouched stacks.
    pub on_fault: bool,
    /// Ask the kernel never to pick this process when memory runs out. Programs started through
    /// [`crate::process`] do not inherit it.
    pub spare_from_oom: bool,
}

impl Default for RealTime {
    fn default() -> Self {
        Self {
            priority: Some(50),
            lock_memory: true,
            on_fault: true,
            spare_from_oom: true,
        }
    }
}

/// Keeps the allocator from giving each thread a heap of its own: the threads of daemon and guard are
/// many and allocate little. To be called before any thread is started.
pub fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer; changes a setting of the allocator only.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Makes the calling thread real-time as asked; returns one warning for each thing refused.
pub fn enter(wish: RealTime) -> Vec<String> {
    let mut warnings = Vec::new();
    if wish.lock_memory {
        let mut flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE;
        if wish.on_fault {
            flags |= MlockAllFlags::ONFAULT;
        }
        if let Err(error) = mlockall(flags) {
            warnings.push(format!(
                "cannot lock memory: {error}; a swapped-out page may delay heartbeats; run as root or raise LimitMEMLOCK"
            ));
        }
    }
    if let Some(priority) = wish.priority {
        warnings.extend(set_fifo(priority).err());
    }
    if wish.spare_from_oom
        && let Err(error) = std::fs::write("/proc/self/oom_score_adj", "-1000")
    {
        warnings.push(format!(
            "cannot write -1000 to /proc/self/oom_score_adj: {error}; the process may be killed when memory runs out; \
             run as root or set OOMScoreAdjust=-1000 in the unit"
        ));
    }
    warnings
}

/// Children are not real-time: `SCHED_RESET_ON_FORK` is set.
fn set_fifo(priority: u8) -> Result<(), String> {
    let param = libc::sched_param {
        sched_priority: i32::from(priority),
    };
    // SAFETY: `param` is a valid sched_param for the duration of the call; 0 is the calling thread.
    let done = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &param)
    };
    if done == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    let advice = match error.raw_os_error() {
        Some(libc::EINVAL) => "the priority must be 1 to 99",
        _ => {
            "run as root with CAP_SYS_NICE; on kernels with RT_GROUP_SCHED also outside every cpu cgroup (CPUSchedulingPolicy=fifo in the unit)"
        }
    };
    Err(format!(
        "cannot set SCHED_FIFO priority {priority}: {error}; heartbeats may be late on a busy host; {advice}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: RealTime = RealTime {
        priority: None,
        lock_memory: false,
        on_fault: false,
        spare_from_oom: false,
    };

    fn policy() -> i32 {
        // SAFETY: takes no pointer; 0 is the calling thread.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn thread_becomes_real_time_or_a_warning_says_why() {
        std::thread::spawn(|| {
            let warnings = enter(RealTime {
                priority: Some(10),
                ..NOTHING
            });
            if warnings.is_empty() {
                assert_eq!(policy(), libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK);
            } else {
                assert!(
                    warnings[0].contains("SCHED_FIFO priority 10"),
                    "{warnings:?}"
                );
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn an_impossible_priority_is_a_warning() {
        std::thread::spawn(|| {
            let warnings = enter(RealTime {
                priority: Some(200),
                ..NOTHING
            });
            assert_eq!(warnings.len(), 1);
            assert!(warnings[0].contains("1 to 99"), "{warnings:?}");
            assert_eq!(policy(), libc::SCHED_OTHER);
        })
        .join()
        .unwrap();
    }
}
