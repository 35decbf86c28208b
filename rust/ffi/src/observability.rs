//! The metrics: documented in `observability.h`.
//!
//! # Safety
//! As in `bitmap_engine.rs`.
#![allow(clippy::missing_safety_doc)]

use crate::{
    boundary::{Place, boundary, coded},
    codes::Code,
    header::SObservabilityMetrics,
};
use metrics::Snapshot;
use std::{ffi::c_char, io::Write as _};

/// See `observability.h`.
#[unsafe(no_mangle)]
pub extern "C" fn update_observability_metrics() {
    boundary((), || {
        metrics::global().update();
    });
}

/// See `observability.h`.
#[unsafe(no_mangle)]
pub extern "C" fn print_observability_metrics() {
    boundary((), || {
        let text = metrics::global().latest().to_human();
        // A closed standard output is the caller's wish.
        let _ = std::io::stdout().write_all(text.as_bytes());
    });
}

pub(crate) fn in_c(metrics: &Snapshot) -> SObservabilityMetrics {
    let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    SObservabilityMetrics {
        events_per_second: metrics.events_per_second,
        messages_per_second: metrics.messages_per_second,
        bytes_per_second: metrics.bytes_per_second,
        consumer_lag_ms: metrics.consumer_lag_ms,
        offset_lag: metrics.offset_lag,
        processing_delay_ms: metrics.processing_delay_ms,
        events_dropped: metrics.events_dropped,
        messages_dropped: metrics.messages_dropped,
        parse_errors: metrics.parse_errors,
        connection_retries: metrics.connection_retries,
        subscription_retries: metrics.subscription_retries,
        commit_retries: metrics.commit_retries,
        ring_buffer_usage: small(metrics.ring_buffer_usage),
        ring_buffer_capacity: small(metrics.ring_buffer_capacity),
        event_queue_size: small(metrics.event_queue_size),
        memory_usage_bytes: metrics.memory_usage_bytes as usize,
        bitmap_memory_bytes: metrics.bitmap_memory_bytes as usize,
        metadata_memory_bytes: metrics.metadata_memory_bytes as usize,
        last_update_time: metrics.last_update_time,
        uptime_seconds: metrics.uptime_seconds,
        blocks_dirty: metrics.blocks_dirty,
        blocks_new: metrics.blocks_new,
        blocks_deleted: metrics.blocks_deleted,
        last_backup_duration_ms: metrics.last_backup_duration_ms,
        last_backup_bytes: metrics.last_backup_bytes,
    }
}

/// See `observability.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn get_observability_metrics(metrics: *mut SObservabilityMetrics) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let place = unsafe { Place::new(metrics) }?;
        place.store(in_c(&metrics::global().latest()));
        Ok(())
    })
}

/// Writes `text` and a NUL, or an empty string and says how much room is needed.
unsafe fn write(text: impl FnOnce() -> String, buffer: *mut c_char, buffer_size: usize) -> i32 {
    boundary(Code::INTERNAL.0, || {
        if buffer.is_null() && buffer_size > 0 {
            return Code::INVALID_PARAM.0;
        }
        let text = text();
        let needed = text.len() + 1;
        let fits = needed <= buffer_size;
        let shown = if fits { text.as_bytes() } else { &[] };
        if buffer_size > 0 {
            // SAFETY: the buffer is not NULL and the caller's for `buffer_size` bytes, which `shown` and a NUL fit.
            unsafe {
                buffer
                    .cast::<u8>()
                    .copy_from_nonoverlapping(shown.as_ptr(), shown.len());
                buffer.add(shown.len()).write(0);
            }
        }
        if fits { Code::SUCCESS.0 } else { needed as i32 }
    })
}

/// See `observability.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn format_observability_metrics_json(
    buffer: *mut c_char,
    buffer_size: usize,
) -> i32 {
    // SAFETY: passed on.
    unsafe { write(|| metrics::global().latest().to_json(), buffer, buffer_size) }
}

/// See `observability.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn format_observability_metrics_prometheus(
    buffer: *mut c_char,
    buffer_size: usize,
) -> i32 {
    // SAFETY: passed on.
    unsafe {
        write(
            || metrics::global().latest().to_prometheus(),
            buffer,
            buffer_size,
        )
    }
}
