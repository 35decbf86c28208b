//! A place by its URL.

use crate::{Bucket, Directory, Store, StoreError};
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig, aws::AmazonS3Builder,
    azure::MicrosoftAzureBuilder, gcp::GoogleCloudStorageBuilder,
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use url::Url;

/// How an object store is reached, beside what its own variables of the environment say (`AWS_…`, `GOOGLE_…`,
/// `AZURE_…`). Keys come from there alone: a command line is shown to everybody.
#[derive(Debug, Clone)]
pub struct Access {
    /// The address of a store that speaks like S3; `None` for Amazon's own, or what `AWS_ENDPOINT` says.
    pub endpoint: Option<String>,
    /// The region; `None` for what `AWS_REGION` says.
    pub region: Option<String>,
    /// Whether it may be spoken to without TLS.
    pub allow_http: bool,
    /// How often a request is tried again that failed for a moment, with waits that grow to 5 seconds.
    pub retries: usize,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            allow_http: false,
            retries: 8,
        }
    }
}

/// A request, which may carry 8 MiB and more over a slow line, gets so much time.
const REQUEST: Duration = Duration::from_secs(300);

/// The forms of a place, for messages.
const FORMS: &str = "give /a/directory, file:///a/directory, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix";

impl Access {
    /// Requests are tried again by the client of the store and not by [`model::Retry`]: it knows which of its requests may
    /// be repeated, what each answer means, and how long the store asks to wait; and it goes on reading where a read broke off.
    fn retry(&self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(200),
                max_backoff: Duration::from_secs(5),
                base: 2.0,
            },
            max_retries: self.retries,
            retry_timeout: Duration::from_secs(180),
        }
    }

    fn client(&self) -> ClientOptions {
        ClientOptions::new()
            .with_timeout(REQUEST)
            .with_connect_timeout(Duration::from_secs(10))
            .with_allow_http(self.allow_http)
    }
}

/// Opens a place. Nothing is read or written yet, so it need not be there.
///
/// # Errors
/// The URL is of no known form, or how to reach the store is not known.
pub fn open(url: &str, access: &Access) -> Result<Arc<dyn Store>, StoreError> {
    let unusable = |problem: String| StoreError::Location {
        place: url.to_owned(),
        problem,
    };
    if !url.contains("://") {
        return match url.is_empty() {
            true => Err(unusable(format!("it is empty; {FORMS}"))),
            false => Ok(Arc::new(Directory::new(url))),
        };
    }
    let parsed = Url::parse(url).map_err(|error| unusable(format!("{error}; {FORMS}")))?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(StoreError::Location {
            place: format!("{}://…", parsed.scheme()),
            problem: "it holds a user or a password, which everybody could see; give them by the variables of the environment \
                      that the store's own tools use"
                .to_owned(),
        });
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(unusable(format!(
            "it holds a question mark or a number sign, which names can't have here; {FORMS}"
        )));
    }
    if parsed.scheme() == "file" {
        let path: Result<PathBuf, ()> = parsed.to_file_path();
        let path =
            path.map_err(|()| unusable(format!("it is no path of this machine; {FORMS}")))?;
        return Ok(Arc::new(Directory::new(path)));
    }
    let Some(container) = parsed.host_str().filter(|host| !host.is_empty()) else {
        return Err(unusable(format!("it names no bucket; {FORMS}")));
    };
    // What TLS is done with; a second time says that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let store: Result<Arc<dyn ObjectStore>, object_store::Error> = match parsed.scheme() {
        "s3" | "s3a" => {
            let mut builder = AmazonS3Builder::from_env()
                .with_bucket_name(container)
                .with_client_options(access.client())
                .with_retry(access.retry());
            if let Some(endpoint) = &access.endpoint {
                builder = builder.with_endpoint(endpoint);
            }
            if let Some(region) = &access.region {
                builder = builder.with_region(region);
            }
            if access.allow_http {
                builder = builder.with_allow_http(true);
            }
            builder.build().map(|store| Arc::new(store) as _)
        }
        "gs" => GoogleCloudStorageBuilder::from_env()
            .with_bucket_name(container)
            .with_client_options(access.client())
            .with_retry(access.retry())
            .build()
            .map(|store| Arc::new(store) as _),
        "az" | "azure" => MicrosoftAzureBuilder::from_env()
            .with_container_name(container)
            .with_client_options(access.client())
            .with_retry(access.retry())
            .build()
            .map(|store| Arc::new(store) as _),
        other => {
            return Err(unusable(format!(
                "nothing is known of {other:?} places; {FORMS}"
            )));
        }
    };
    let store = store.map_err(|error| {
        unusable(format!(
            "{error}; look at the variables of the environment that say how the store is reached"
        ))
    })?;
    let prefix = percent_decoded(parsed.path());
    Ok(Arc::new(Bucket::new(
        store,
        url.trim_end_matches('/'),
        prefix.trim_matches('/'),
    )?))
}

/// A path without the escapes of URLs.
fn percent_decoded(path: &str) -> String {
    percent_encoding::percent_decode_str(path)
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_known_by_its_form() {
        let place = |url: &str| open(url, &Access::default()).map(|store| store.place("x"));
        assert_eq!(place("/a/b").unwrap(), "/a/b/x");
        assert_eq!(place("file:///a/b%20c").unwrap(), "/a/b c/x");
        for (url, says) in [
            ("", "it is empty"),
            ("ftp://host/a", "nothing is known of \"ftp\" places"),
            ("s3:///prefix", "bucket"),
            ("s3://key:secret@bucket/a", "which everybody could see"),
            ("s3://bucket/a?b", "question mark"),
            ("file://host/a", "no path of this machine"),
        ] {
            let error = place(url).unwrap_err().to_string();
            assert!(error.contains(says), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_bucket_is_opened_without_being_asked() {
        let access = Access {
            region: Some("eu-central-1".into()),
            ..Access::default()
        };
        let store = open("s3://bucket/a/b/", &access).unwrap();
        assert_eq!(store.place("x"), "s3://bucket/a/b/x");
    }
}
