//! The thread that faults the shards' memory in before it is needed.
//!
//! The kernel zeroes a page when it is first written, which takes its time, and a multiple of
//! that under a hypervisor that has to find the memory itself. This thread is what waits for
//! it instead of the data cores. They never wait for this thread: where it is late, or ends,
//! they fault their memory in themselves.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use corelane_shard::Prefaulter;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::config::Prefault;

/// How far it goes ahead of a shard's use.
const AHEAD_BYTES_MAX: u64 = 64 << 20;
/// The same as a share of the shard's budget, where that is less.
const AHEAD_SHARE: u64 = 8;
/// Bytes faulted in at once, during which the process can get no new mapping.
const STEP_BYTES: u64 = 256 << 10;
/// How often it looks while nothing is to be done. A core that writes a gigabyte a second uses
/// a third of what is ahead meanwhile.
const PAUSE: Duration = Duration::from_millis(20);

/// The running thread; it ends when this is dropped.
pub(crate) struct PrefaultThread {
    /// Nothing is sent; that it is gone is the message.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl PrefaultThread {
    /// Starts it for the shards of all cores, if the setting asks for it.
    ///
    /// # Errors
    /// The system refuses the thread.
    pub(crate) fn start(
        setting: Prefault,
        shard_bytes: u64,
        shards: Vec<Prefaulter>,
    ) -> io::Result<Option<PrefaultThread>> {
        let ahead = match setting {
            Prefault::Off => return Ok(None),
            Prefault::Ahead => AHEAD_BYTES_MAX.min(shard_bytes / AHEAD_SHARE),
            Prefault::All => u64::MAX,
        };
        let (stop, stopped) = bounded(0);
        let thread = std::thread::Builder::new().name("prefault".to_owned());
        let thread = thread.spawn(move || run(shards, ahead, &stopped))?;
        Ok(Some(PrefaultThread { stop: Some(stop), thread: Some(thread) }))
    }
}

impl Drop for PrefaultThread {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it has been reported, and takes nothing with it.
            let _ = thread.join();
        }
    }
}

fn run(mut shards: Vec<Prefaulter>, ahead: u64, stopped: &Receiver<()>) {
    loop {
        let mut bytes = 0;
        for shard in &mut shards {
            match shard.step(ahead, STEP_BYTES) {
                Ok(done) => bytes += done,
                Err(error) => {
                    tracing::warn!("memory is not faulted in ahead of use any more: {error}");
                    return;
                }
            }
        }
        let pause = if bytes == 0 { PAUSE } else { Duration::ZERO };
        if stopped.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use corelane_shard::{Shard, ShardConfig};

    use super::*;

    #[test]
    fn it_starts_where_it_is_asked_for_and_ends_when_dropped() {
        for (setting, runs) in
            [(Prefault::Off, false), (Prefault::Ahead, true), (Prefault::All, true)]
        {
            let shard = Shard::new(ShardConfig::new(16 << 20, |_| 0)).expect("a shard");
            let thread = PrefaultThread::start(setting, 16 << 20, vec![shard.prefaulter()])
                .expect("a thread");
            assert_eq!(thread.is_some(), runs);
            // It would not return if the thread did not end.
            drop(thread);
        }
    }
}
