//! What moves a metric, moves it; nothing else does.

use metrics::{Metrics, Readings, Snapshot, Source};
use std::{sync::Arc, time::Duration};

struct Fixed(Readings);

impl Source for Fixed {
    fn read(&self, readings: &mut Readings) {
        readings.queued += self.0.queued;
        readings.queue_capacity += self.0.queue_capacity;
        readings.other_bytes += self.0.other_bytes;
        readings.bitmap_bytes += self.0.bitmap_bytes;
        readings.metadata_bytes += self.0.metadata_bytes;
    }
}

#[test]
fn without_work_everything_is_zero() {
    let snapshot = Metrics::new().update();
    let nothing = Snapshot {
        last_update_time: snapshot.last_update_time,
        ..Snapshot::default()
    };
    assert_eq!(snapshot, nothing);
    assert!(snapshot.last_update_time > 0);
}

#[test]
fn work_moves_its_own_metrics() {
    let metrics = Metrics::new();
    let ms = Duration::from_millis;
    metrics.events_taken(100, &[ms(1), ms(3)]);
    metrics.messages_read(30, 6_000);
    metrics.events_dropped.add(1);
    metrics.messages_dropped.add(2);
    metrics.parse_errors.add(3);
    metrics.connection_retries.add(4);
    metrics.subscription_retries.add(5);
    metrics.commit_retries.add(6);
    metrics.backup_done(ms(1_500), 77);
    let seen = metrics.update();
    assert_eq!(seen.events_per_second, 100);
    assert_eq!(
        (seen.messages_per_second, seen.bytes_per_second),
        (30, 6_000)
    );
    assert!((seen.processing_delay_ms - 2.0).abs() < 1e-9);
    assert_eq!(
        [
            seen.events_dropped,
            seen.messages_dropped,
            seen.parse_errors,
            seen.connection_retries,
            seen.subscription_retries,
            seen.commit_retries
        ],
        [1, 2, 3, 4, 5, 6]
    );
    assert_eq!(
        (seen.last_backup_duration_ms, seen.last_backup_bytes),
        (1_500, 77)
    );
}

#[test]
fn sources_add_up_and_are_forgotten_when_they_are_gone() {
    let metrics = Metrics::new();
    let one = |queued| -> Arc<dyn Source> {
        Arc::new(Fixed(Readings {
            queued,
            queue_capacity: 200,
            other_bytes: 1,
            bitmap_bytes: 10,
            metadata_bytes: 100,
            ..Readings::default()
        }))
    };
    let (first, second) = (one(50), one(150));
    metrics.register(&first);
    metrics.register(&second);
    let seen = metrics.update();
    assert_eq!(
        (
            seen.event_queue_size,
            seen.ring_buffer_capacity,
            seen.ring_buffer_usage
        ),
        (200, 400, 50)
    );
    assert_eq!(
        (
            seen.bitmap_memory_bytes,
            seen.metadata_memory_bytes,
            seen.memory_usage_bytes
        ),
        (20, 200, 222)
    );
    drop(second);
    assert_eq!(
        metrics.latest().event_queue_size,
        200,
        "as of the last update"
    );
    assert_eq!(metrics.update().event_queue_size, 50);
    // Callbacks' events are kept beside a full queue.
    let overfull = one(400);
    metrics.register(&overfull);
    let seen = metrics.update();
    assert_eq!((seen.event_queue_size, seen.ring_buffer_usage), (450, 100));
}
