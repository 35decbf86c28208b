//! A store that does what it is told and does not say so.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use libtest_mimic::Trial;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result, memory::InMemory, path::Path,
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use store::{Bucket, Created, Store};

/// Does or does not do a put, and then says that it failed, so many times.
#[derive(Debug)]
struct Faulty {
    inner: InMemory,
    does_it: bool,
    left: AtomicUsize,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let left = self
            .left
            .fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1));
        if left.is_err() {
            return self.inner.put_opts(at, payload, options).await;
        }
        if self.does_it {
            self.inner.put_opts(at, payload, options).await?;
        }
        Err(Error::Generic {
            store: "faulty",
            source: "the connection was lost".into(),
        })
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(
        &self,
        all: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(all)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A bucket whose next puts fail, and one with an object of somebody else.
fn bucket(does_it: bool, failures: usize, other: Option<&'static [u8]>) -> Bucket {
    let inner = InMemory::new();
    if let Some(other) = other {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let path = Path::from("commit");
        let put = inner.put(&path, PutPayload::from_static(other));
        runtime.unwrap().block_on(put).unwrap();
    }
    let faulty = Faulty {
        inner,
        does_it,
        left: AtomicUsize::new(failures),
    };
    Bucket::new(Arc::new(faulty), "faulty://test", "").unwrap()
}

fn an_answer_that_was_lost_is_not_taken_for_somebody_elses_object() {
    let bucket = bucket(true, 1, None);
    let created = bucket.put_new("commit", b"mine").unwrap();
    assert_eq!(created, Created::Written);
    assert_eq!(bucket.get("commit").unwrap(), b"mine");
}

fn what_was_not_done_is_done_again() {
    let bucket = bucket(false, 2, None);
    let created = bucket.put_new("commit", b"mine").unwrap();
    assert_eq!(created, Created::Written);
    assert_eq!(bucket.get("commit").unwrap(), b"mine");
}

fn somebody_elses_object_is_told_from_every_error() {
    for failures in [0, 1] {
        let bucket = bucket(false, failures, Some(b"other"));
        let created = bucket.put_new("commit", b"mine").unwrap();
        assert_eq!(created, Created::AlreadyThere);
        assert_eq!(bucket.get("commit").unwrap(), b"other");
    }
}

fn a_store_that_never_does_it_is_an_error() {
    let bucket = bucket(false, usize::MAX, None);
    let error = bucket.put_new("commit", b"mine").unwrap_err().to_string();
    for part in [
        "faulty://test/commit",
        "the connection was lost",
        "look whether",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    let all: [(&str, fn()); 4] = [
        (
            "an_answer_that_was_lost_is_not_taken_for_somebody_elses_object",
            an_answer_that_was_lost_is_not_taken_for_somebody_elses_object,
        ),
        (
            "what_was_not_done_is_done_again",
            what_was_not_done_is_done_again,
        ),
        (
            "somebody_elses_object_is_told_from_every_error",
            somebody_elses_object_is_told_from_every_error,
        ),
        (
            "a_store_that_never_does_it_is_an_error",
            a_store_that_never_does_it_is_an_error,
        ),
    ];
    let trial = |(name, test): (&str, fn())| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    all.map(trial).into()
}
