//! Getting what a cache lacks, once for all who want it.

use core::hash::Hash;
use std::time::Duration;

use quick_cache::sync::{Cache, GuardResult};
use quick_cache::{Equivalent, Weighter};

use crate::device::{BlockDevice, would_wait};
use crate::error::Result;

/// The value of `key`, by `load` if the cache lacks it. Whoever comes while another thread loads it
/// waits for that one, unless the device forbids this thread to wait.
///
/// # Errors
/// What `load` says, which leaves the cache as it was; `WouldBlock`, see [`BlockDevice::may_wait`].
pub(crate) fn get_or_load<K, V, W>(
    cache: &Cache<K, V, W>,
    key: &K,
    device: &dyn BlockDevice,
    load: impl FnOnce() -> Result<V>,
) -> Result<V>
where
    K: Hash + Eq + Clone + Equivalent<K>,
    V: Clone,
    W: Weighter<K, V> + Clone,
{
    match cache.get_value_or_guard(key, Some(Duration::ZERO)) {
        GuardResult::Value(value) => Ok(value),
        GuardResult::Guard(guard) => {
            let value = load()?;
            // It may be too large to be kept, or be evicted at once.
            let _ = guard.insert(value.clone());
            Ok(value)
        }
        GuardResult::Timeout if device.may_wait() => cache.get_or_insert_with(key, load),
        GuardResult::Timeout => Err(would_wait()),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Barrier};

    use super::*;
    use crate::device::MemDevice;
    use crate::error::Error;
    use crate::testing::Hurried;

    #[test]
    fn a_thread_that_may_not_wait_does_not_wait_for_another_ones_load() {
        let on = Hurried::new(Arc::default());
        let cache: Arc<Cache<u32, u32>> = Arc::new(Cache::new(16));
        let (begun, end) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let loader = std::thread::spawn({
            let (cache, begun, end) = (Arc::clone(&cache), Arc::clone(&begun), Arc::clone(&end));
            move || {
                get_or_load(&cache, &1, &MemDevice::default(), || {
                    begun.wait();
                    end.wait();
                    Ok(7)
                })
            }
        });
        begun.wait();
        let hurried = get_or_load(&cache, &1, &on, || Ok(8));
        let Err(Error::Io { source, .. }) = hurried else { panic!("{hurried:?}") };
        assert_eq!(source.kind(), io::ErrorKind::WouldBlock);
        end.wait();
        assert_eq!(loader.join().unwrap().unwrap(), 7);
        assert_eq!(get_or_load(&cache, &1, &on, || Ok(9)).unwrap(), 7);
    }

    #[test]
    fn a_load_that_failed_is_tried_again() {
        let cache: Cache<u32, u32> = Cache::new(16);
        let fail = || Err(crate::error::Refusal::Stale.into());
        assert!(get_or_load(&cache, &1, &MemDevice::default(), fail).is_err());
        assert_eq!(get_or_load(&cache, &1, &MemDevice::default(), || Ok(3)).unwrap(), 3);
    }
}
