//! How busy the cores are, whoever uses them.

use std::error::Error;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// Cores that are idle for this share of a look at them are quiet.
const QUIET_MIN: f64 = 0.9;
const LOOK: Duration = Duration::from_millis(500);
/// Quiet does not come later than this, or not at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// What /proc/stat says of one core, at one moment, in clock ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CoreTime {
    busy: u64,
    all: u64,
}

impl CoreTime {
    pub(crate) fn of(core: &str) -> Result<Self, Box<dyn Error>> {
        Self::parse(&fs::read_to_string("/proc/stat")?, core)
            .ok_or_else(|| format!("/proc/stat says nothing of core {core}").into())
    }

    /// user, nice, system, idle, iowait, irq, softirq, steal; guests are in user (proc_stat(5)).
    fn parse(stat: &str, core: &str) -> Option<Self> {
        let name = format!("cpu{core} ");
        let line = stat.lines().find_map(|line| line.strip_prefix(&name))?;
        let ticks: Option<Vec<u64>> = line
            .split_whitespace()
            .take(8)
            .map(|it| it.parse().ok())
            .collect();
        let ticks = ticks.filter(|ticks| ticks.len() == 8)?;
        let all = ticks.iter().sum();
        Some(Self {
            busy: all - ticks[3] - ticks[4],
            all,
        })
    }

    /// The share of the time since `earlier` in which the core did something.
    pub(crate) fn busy_since(&self, earlier: &Self) -> f64 {
        let all = self.all.saturating_sub(earlier.all).max(1);
        self.busy.saturating_sub(earlier.busy) as f64 / all as f64
    }
}

/// Waits until these cores have nothing to do, for a minute at most.
pub(crate) fn wait_for_quiet(cores: &[&str]) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let look = || -> Result<Vec<CoreTime>, Box<dyn Error>> {
        cores.iter().map(|core| CoreTime::of(core)).collect()
    };
    let mut earlier = look()?;
    loop {
        thread::sleep(LOOK);
        let now = look()?;
        let mut pairs = now.iter().zip(&earlier);
        let quiet = pairs.all(|(now, earlier)| now.busy_since(earlier) <= 1.0 - QUIET_MIN);
        if quiet || started.elapsed() > PATIENCE {
            return Ok(());
        }
        earlier = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_all_but_idle_and_waiting_for_disks() {
        let stat = |idle| {
            format!(
                "cpu  1 1 1 1 1 1 1 1 0 0\ncpu0 9 9 9 9 9 9 9 9 9 9\ncpu1 10 1 4 {idle} 5 1 2 3 10 0\n"
            )
        };
        let earlier = CoreTime::parse(&stat(100), "1").unwrap();
        assert_eq!(earlier, CoreTime { busy: 21, all: 126 });
        let later = CoreTime::parse(&stat(175).replace("cpu1 10", "cpu1 35"), "1").unwrap();
        assert_eq!(later.busy_since(&earlier), 0.25);
        assert_eq!(CoreTime::parse(&stat(100), "2"), None);
    }
}
