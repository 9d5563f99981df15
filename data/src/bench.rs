//! Measures how many images a core reads, decodes and resizes in a second.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{BilinearResizer, DatasetFolder};
use crate::error::DataError;

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BenchResult {
    /// Images read, decoded and resized in a second by each thread.
    pub images_per_second_per_core: f64,
    /// Threads that worked at the same time.
    pub threads: usize,
}

/// Reads, decodes and resizes to a square, again and again, images from all over the dataset.
///
/// # Errors
/// [`DataError::BadData`] for an image that cannot be decoded, or where there is none.
pub fn bench(
    folder: &DatasetFolder,
    pixels: usize,
    duration: Duration,
    threads: usize,
) -> Result<BenchResult, DataError> {
    let images: Vec<_> = folder
        .domains
        .iter()
        .enumerate()
        .flat_map(|(d, files)| (0..files.len()).map(move |i| (d, i)))
        .collect();
    if images.is_empty() {
        return Err(DataError::Other("there are no images to measure with".into()));
    }
    // A stride that shares no factor with the number of images visits all of them, neighbours in time from different domains.
    let stride = (images.len() * 382 / 1_000..)
        .find(|&stride| stride > 0 && is_coprime(stride, images.len()))
        .unwrap_or(1);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || -> Result<usize, DataError> {
        let mut resizer = BilinearResizer::default();
        let mut done = 0;
        while !stop.load(Ordering::Relaxed) {
            let turn = next.fetch_add(1, Ordering::Relaxed) % images.len();
            let (domain, index) = images[turn * stride % images.len()];
            let image = folder.decode(domain, index, None)?;
            let resized = resizer.resize(image.view(), pixels, pixels).map_err(DataError::Other)?;
            std::hint::black_box(resized);
            done += 1;
        }
        Ok(done)
    };
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures the wall clock")]
    let start = Instant::now();
    let done: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        while start.elapsed() < duration && !workers.iter().any(|worker| worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
        let join = |worker: std::thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|_| Err(DataError::Other("a decoder panicked".into())))
        };
        workers.into_iter().map(join).sum::<Result<usize, DataError>>()
    })?;
    let threads = threads.max(1);
    Ok(BenchResult {
        images_per_second_per_core: done as f64 / start.elapsed().as_secs_f64() / threads as f64,
        threads,
    })
}

fn is_coprime(a: usize, b: usize) -> bool {
    let (mut a, mut b) = (a, b);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}
