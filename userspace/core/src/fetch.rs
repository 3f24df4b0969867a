//! Memory that is fetched before it is read.

/// Samples in what memory is fetched by, on most processors.
pub(crate) const SAMPLES_A_LINE: usize = 32;

/// Fetches what something stands in. Nothing waits for it, and nothing comes of it but that it is there sooner.
pub(crate) fn fetch<T>(what: &T) {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    safe_arch::prefetch_t1(what);
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
    let _ = what;
}
