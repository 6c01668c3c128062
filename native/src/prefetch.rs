//! Batches made on another thread while the device computes.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use centripetal::data::{Batch, Loader};
use centripetal::{Error, ErrorKind, Result};
use rayon::ThreadPool;

/// Batches that wait ready; one more is in the making and one in use.
const READY: usize = 2;

/// Batches in all.
pub(crate) const BATCHES: usize = READY + 2;

/// Where in a run a batch belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// Epoch, from 0.
    pub(crate) epoch: u64,
    /// Step within the epoch, from 0.
    pub(crate) step: usize,
}

/// The batches of a [`Loader`] from a position on, epoch after epoch, in order.
///
/// The thread ends when this is dropped, after the one batch that it may be making.
pub(crate) struct Prefetch {
    /// `None` only while being dropped: closing them is what stops the thread.
    channels: Option<Channels>,
    thread: Option<JoinHandle<()>>,
    waited: Duration,
}

struct Channels {
    ready: Receiver<Result<(Position, Batch)>>,
    used: Sender<Batch>,
}

impl Prefetch {
    /// Starts making the batches of `loader` from `start` on.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn new(loader: Arc<Loader>, start: Position) -> Result<Self> {
        assert!(start.step < loader.batches_per_epoch(), "a run starts at a step of its epoch: {start:?}");
        let (filled, ready) = sync_channel(READY);
        let (used, returned) = channel();
        for _ in 0..=READY {
            // `returned` is alive, so this cannot fail.
            let _ = used.send(Batch::default());
        }
        let failed = |error: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Io, "starting the threads that load data").found(error)
        };
        // Threads of their own, which the system lets run beside those that compute.
        let decoders = loader.dataset().decodes().then(|| {
            let count = thread::available_parallelism().map_or(1, usize::from);
            rayon::ThreadPoolBuilder::new()
                .num_threads(count)
                .thread_name(|at| format!("decode {at}"))
                .build()
        });
        let decoders = decoders.transpose().map_err(|error| failed(&error))?;
        let thread = thread::Builder::new()
            .name("prefetch".to_owned())
            .spawn(move || make_batches(&loader, start, decoders.as_ref(), &filled, &returned))
            .map_err(|error| failed(&error))?;
        let channels = Some(Channels { ready, used });
        Ok(Prefetch { channels, thread: Some(thread), waited: Duration::ZERO })
    }

    /// Exchanges `batch` for the next one and says where that belongs. The old buffers are used again.
    ///
    /// # Errors
    /// Those of [`Loader::fill`]; none comes after one that failed.
    pub(crate) fn next(&mut self, batch: &mut Batch) -> Result<Position> {
        let ended = || Error::new(ErrorKind::Data, "loading data").found("the loading thread has ended");
        let channels = self.channels.as_ref().ok_or_else(ended)?;
        let asked = Instant::now();
        let (position, next) = channels.ready.recv().map_err(|_| ended())??;
        self.waited += asked.elapsed();
        let used = std::mem::replace(batch, next);
        // Fails only after the thread has ended, which the next call reports.
        let _ = channels.used.send(used);
        Ok(position)
    }

    /// How long [`Prefetch::next`] has waited for batches since this was last asked: the device had nothing to do then, once
    /// it had done what it was given.
    pub(crate) fn take_waited(&mut self) -> Duration {
        std::mem::take(&mut self.waited)
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.channels = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed, and `next` has said that the thread has ended.
            let _ = thread.join();
        }
    }
}

fn make_batches(
    loader: &Loader,
    start: Position,
    decoders: Option<&ThreadPool>,
    filled: &SyncSender<Result<(Position, Batch)>>,
    returned: &Receiver<Batch>,
) {
    let mut position = start;
    while let Ok(mut batch) = returned.recv() {
        let mut fill = || loader.fill(position.epoch, position.step, &mut batch);
        let made = match decoders {
            Some(decoders) => decoders.install(fill),
            None => fill(),
        };
        let result = made.map(|()| (position, batch));
        let failed = result.is_err();
        if filled.send(result).is_err() || failed {
            return;
        }
        position.step += 1;
        if position.step == loader.batches_per_epoch() {
            position = Position { epoch: position.epoch + 1, step: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use centripetal::data::synthetic::Split;
    use centripetal::data::{Augment, Dataset, Normalization, Synthetic};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn loader() -> Arc<Loader> {
        let config = Synthetic { shape: [1, 6, 6], ..Synthetic::default() };
        let data = Arc::new(config.generate(Split::Train, 25).unwrap());
        Arc::new(Loader::training(data, 10, 3, Augment::CIFAR).unwrap())
    }

    #[test]
    fn gives_what_the_loader_gives_over_epochs_and_recycles() {
        let loader = loader();
        let mut prefetch = Prefetch::new(Arc::clone(&loader), Position { epoch: 4, step: 1 }).unwrap();
        let (mut batch, mut expected) = (Batch::default(), Batch::default());
        let mut buffers = std::collections::HashSet::new();
        for (epoch, step) in [(4, 1), (5, 0), (5, 1), (6, 0), (6, 1), (7, 0), (7, 1), (8, 0)] {
            assert_eq!(prefetch.next(&mut batch).unwrap(), Position { epoch, step });
            loader.fill(epoch, step, &mut expected).unwrap();
            assert!(batch == expected, "epoch {epoch}, step {step}");
            buffers.insert(batch.images.as_ptr());
        }
        assert!(buffers.len() <= READY + 2, "{} buffers", buffers.len());
    }

    /// Counts its images; fails from `broken` on, and takes `delay` for each.
    struct Counting {
        served: AtomicUsize,
        broken: usize,
        delay: Duration,
        classes: Vec<String>,
        normalization: Normalization,
    }

    impl Counting {
        fn new(broken: usize, delay: Duration) -> Arc<Self> {
            let normalization = Normalization { mean: vec![0.0], std: vec![1.0] };
            let classes = vec!["only".to_owned()];
            Arc::new(Counting { served: AtomicUsize::new(0), broken, delay, classes, normalization })
        }
    }

    impl Dataset for Counting {
        fn name(&self) -> &str {
            "counting"
        }
        fn len(&self) -> usize {
            1000
        }
        fn shape(&self) -> [usize; 3] {
            [1, 1, 1]
        }
        fn classes(&self) -> &[String] {
            &self.classes
        }
        fn label(&self, _: usize) -> u32 {
            0
        }
        fn image(&self, _: usize, _: &mut [u8]) -> Result<()> {
            thread::sleep(self.delay);
            match self.served.fetch_add(1, Ordering::SeqCst) {
                served if served < self.broken => Ok(()),
                _ => Err(Error::new(ErrorKind::Data, "reading the image broken.png")),
            }
        }
        fn normalization(&self) -> &Normalization {
            &self.normalization
        }
    }

    #[test]
    fn waiting_is_counted_once() {
        let data = Counting::new(usize::MAX, Duration::from_millis(2));
        let loader = Arc::new(Loader::training(data, 10, 0, Augment::NONE).unwrap());
        let mut prefetch = Prefetch::new(loader, Position { epoch: 0, step: 0 }).unwrap();
        prefetch.next(&mut Batch::default()).unwrap();
        // The first batch takes ten times 2 ms, and is asked for before it is made.
        assert!(prefetch.take_waited() >= Duration::from_millis(10));
        assert_eq!(prefetch.take_waited(), Duration::ZERO);
    }

    #[test]
    fn errors_arrive_in_order_and_end_it() {
        let data = Counting::new(25, Duration::ZERO);
        let loader = Arc::new(Loader::training(data, 10, 0, Augment::NONE).unwrap());
        let mut prefetch = Prefetch::new(loader, Position { epoch: 0, step: 0 }).unwrap();
        let mut batch = Batch::default();
        assert!(prefetch.next(&mut batch).is_ok() && prefetch.next(&mut batch).is_ok());
        assert_eq!(prefetch.next(&mut batch).unwrap_err().to_string(), "reading the image broken.png");
        let after = prefetch.next(&mut batch).unwrap_err().to_string();
        assert_eq!(after, "loading data: the loading thread has ended");
    }

    #[test]
    fn works_ahead_but_no_further_than_its_buffers() {
        let data = Counting::new(usize::MAX, Duration::ZERO);
        let loader = Arc::new(Loader::training(Arc::clone(&data) as _, 10, 0, Augment::NONE).unwrap());
        let _prefetch = Prefetch::new(loader, Position { epoch: 0, step: 0 }).unwrap();
        let ahead = 10 * (READY + 1);
        let deadline = Instant::now() + Duration::from_secs(20);
        while data.served.load(Ordering::SeqCst) < ahead && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(20));
        assert_eq!(data.served.load(Ordering::SeqCst), ahead);
    }

    #[test]
    fn dropping_stops_it_after_the_batch_in_the_making() {
        let data = Counting::new(usize::MAX, Duration::from_millis(1));
        let loader = Arc::new(Loader::training(Arc::clone(&data) as _, 10, 0, Augment::NONE).unwrap());
        drop(Prefetch::new(loader, Position { epoch: 0, step: 0 }).unwrap());
        let served = data.served.load(Ordering::SeqCst);
        assert!(served <= 10 * (READY + 1), "{served}");
        assert_eq!(Arc::strong_count(&data), 1, "the thread still holds the loader");
    }
}
